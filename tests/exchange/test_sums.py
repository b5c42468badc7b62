"""SHA256SUMS of a library, against coreutils and OpenSSH where they are."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from promptgraft.errors import InputError, PromptFileError
from promptgraft.exchange.sums import check_signature, check_sums, write_sums
from promptgraft.library import PromptLibrary, starter
from promptgraft.prompt import SoftPrompt

MakePrompt = Callable[..., SoftPrompt]
needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")


@pytest.fixture
def library(make_prompt: MakePrompt, tmp_path: Path) -> PromptLibrary:
    library = PromptLibrary(tmp_path / "library")
    library.add(make_prompt(seed=0, head=True), "text/a")
    library.add(make_prompt(seed=1), "b")
    (library.folder / "measured.jsonl").write_text("")
    return library


def test_the_list_is_what_coreutils_read(library: PromptLibrary) -> None:
    assert write_sums(library) == 7
    lines = (library.folder / "SHA256SUMS").read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == [
        *(f"b/{file}" for file in ("README.md", "prompt.json", "prompt.safetensors")),
        "measured.jsonl",
        *(f"text/a/{file}" for file in ("README.md", "prompt.json", "prompt.safetensors")),
    ]
    assert lines[3].split("  ")[0] == hashlib.sha256(b"").hexdigest()
    assert check_sums(library) == (7, {})
    if program := shutil.which("sha256sum"):
        done = subprocess.run([program, "-c", "SHA256SUMS"], cwd=library.folder, capture_output=True, text=True)
        assert (done.returncode, done.stdout.count(": OK")) == (0, 7)
        listed = subprocess.run(
            [program, *(line.split("  ")[1] for line in lines)], cwd=library.folder, capture_output=True
        )
        (library.folder / "SHA256SUMS").write_bytes(listed.stdout)
        assert check_sums(library) == (7, {})
    again = (library.folder / "SHA256SUMS").read_bytes()
    write_sums(library)
    assert (library.folder / "SHA256SUMS").read_bytes() == again


def test_there_need_be_no_list(library: PromptLibrary) -> None:
    assert check_sums(library) is None


def test_each_change_is_found(library: PromptLibrary, make_prompt: MakePrompt) -> None:
    write_sums(library)
    (library.folder / "b" / "README.md").write_text("other")
    (library.folder / "measured.jsonl").unlink()
    (library.folder / "text" / "a" / "notes.txt").write_text("slipped in")
    library.add(make_prompt(seed=5), "c")
    found = check_sums(library)
    assert found is not None
    count, wrong = found
    assert count == 5
    assert wrong == {
        "b/README.md": "was altered: its sha256 is not the one in SHA256SUMS",
        **{f"c/{file}": "is not listed in SHA256SUMS" for file in ("README.md", "prompt.json", "prompt.safetensors")},
        "measured.jsonl": "is listed in SHA256SUMS, and is not there",
        "text/a/notes.txt": "is not listed in SHA256SUMS",
    }


def test_a_head_exchanged_with_its_hash_is_found_by_the_list_only(library: PromptLibrary) -> None:
    """The id covers the prompt and the card: who rewrites the head and its hash gets past `SoftPrompt.load`."""
    write_sums(library)
    folder = library.folder / "text" / "a"
    tensors = safetensors.numpy.load_file(folder / "prompt.safetensors")
    head = -tensors["head.weight"]
    document = json.loads((folder / "prompt.json").read_text())
    document["tensors"]["head.weight"]["sha256"] = hashlib.sha256(head.tobytes()).hexdigest()
    header = json.dumps({"format_version": 1, "id": document["id"]})
    (folder / "prompt.json").write_text(json.dumps(document))
    metadata = {"promptgraft": header}
    (folder / "prompt.safetensors").write_bytes(
        safetensors.numpy.save(tensors | {"head.weight": np.ascontiguousarray(head)}, metadata)
    )
    loaded = SoftPrompt.load(folder)
    assert loaded.head is not None
    assert loaded.head.weight[0, 0] == -1
    found = check_sums(library)
    assert found is not None
    assert found[1].keys() == {"text/a/prompt.json", "text/a/prompt.safetensors"}


@pytest.mark.parametrize(
    "content", [b"x", b"\xff\xfe", b"0" * 64 + b" b\n", b"0" * 64 + b"  \n", b"A" * 64 + b"  b/prompt.json\n", b"\n"]
)
def test_a_damaged_list_is_an_error(content: bytes, library: PromptLibrary) -> None:
    (library.folder / "SHA256SUMS").write_bytes(content)
    with pytest.raises(PromptFileError, match=r"SHA256SUMS.*Get an unaltered copy"):
        check_sums(library)


def test_a_list_reads_nothing_outside(library: PromptLibrary, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    digest = hashlib.sha256(b"s").hexdigest()
    (library.folder / "SHA256SUMS").write_text(f"{digest}  ../secret\n{digest}  {secret}\n")
    found = check_sums(library)
    assert found is not None
    assert found[0] == 0
    assert found[1]["../secret"] == found[1][str(secret)] == "is listed in SHA256SUMS, and is not there"
    (library.folder / "SHA256SUMS").unlink()
    (library.folder / "SHA256SUMS").symlink_to(secret)
    with pytest.raises(PromptFileError, match="a link to a file outside"):
        check_sums(library)


def test_nothing_doubtful_is_listed(library: PromptLibrary) -> None:
    odd = library.folder / "b" / "two\nlines"
    odd.write_text("")
    with pytest.raises(InputError, match=r"two\\nlines.*Rename it"):
        write_sums(library)
    odd.unlink()
    with pytest.raises(InputError, match="read-only"):
        write_sums(starter())
    with pytest.raises(InputError, match="holds no prompt to list"):
        write_sums(PromptLibrary(library.folder / "nowhere"))
    path = library.folder / "b" / "prompt.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(PromptFileError, match="was altered"):
        write_sums(library)
    assert not (library.folder / "SHA256SUMS").exists()


def make_key(folder: Path, name: str) -> Path:
    key = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key], check=True)
    return key


def sign(library: PromptLibrary, key: Path, namespace: str = "promptgraft") -> None:
    (library.folder / "SHA256SUMS.sig").unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key), "SHA256SUMS"]
    subprocess.run(command, cwd=library.folder, check=True, capture_output=True)


@needs_ssh
def test_who_signed_the_list(library: PromptLibrary, tmp_path: Path) -> None:
    key, other = make_key(tmp_path, "key"), make_key(tmp_path, "other")
    signers = tmp_path / "signers"
    signers.write_text(f"maker@example.org {key.with_suffix('.pub').read_text()}")
    with pytest.raises(PromptFileError, match="has no SHA256SUMS, so nobody has signed it"):
        check_signature(library, signers)
    write_sums(library)
    with pytest.raises(PromptFileError, match=r"has no SHA256SUMS\.sig, so nobody has signed it"):
        check_signature(library, signers)
    sign(library, key)
    assert check_signature(library, signers) == "maker@example.org"
    with pytest.raises(InputError, match=r"there is no file .*nobody of allowed signers"):
        check_signature(library, tmp_path / "nobody")

    sums = library.folder / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("README.md", "README.txt"))
    with pytest.raises(PromptFileError, match=r"not what maker@example\.org signed as promptgraft.*Do not trust"):
        check_signature(library, signers)
    sign(library, key, namespace="git")
    with pytest.raises(PromptFileError, match="made for something else"):
        check_signature(library, signers)
    sign(library, other)
    with pytest.raises(PromptFileError, match=r"is of nobody that .*signers names"):
        check_signature(library, signers)
    (library.folder / "SHA256SUMS.sig").write_text("no signature")
    with pytest.raises(PromptFileError, match=r"is of nobody that .*signers names"):
        check_signature(library, signers)


def test_without_openssh_there_is_a_cure(
    library: PromptLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"no ssh-keygen here.*Install OpenSSH"):
        check_signature(library, tmp_path)


@needs_ssh
def test_commands_list_and_check(
    library: PromptLibrary, promptgraft: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    place = ("--library", library.folder)
    code, out, error = promptgraft("library", "manifest", *place)
    assert (code, error) == (0, "")
    sums = library.folder / "SHA256SUMS"
    assert out == f"listed 7 files in {sums}     next: ssh-keygen -Y sign -n promptgraft -f KEY {sums}\n"
    code, out, error = promptgraft("library", "verify", *place)
    assert (code, error) == (0, "")
    assert "7 files are as SHA256SUMS lists them\n" in out
    key = make_key(tmp_path, "key")
    sign(library, key)
    signers = tmp_path / "signers"
    signers.write_text(f"maker@example.org {key.with_suffix('.pub').read_text()}")
    assert f"{sums}.sig is not checked" in promptgraft("library", "verify", *place)[1]
    code, out, error = promptgraft("library", "verify", *place, "--signers", signers)
    assert (code, error) == (0, "")
    assert "SHA256SUMS is signed by maker@example.org\n" in out
    (library.folder / "b" / "README.md").write_text("other")
    sums.write_text(sums.read_text() + "\n")
    code, out, _ = promptgraft("library", "verify", *place, "--signers", signers)
    assert code == 1
    assert "SHA256SUMS" in out
    assert out.endswith("2 prompts are whole, 1 damaged\n")
    code, out, error = promptgraft("library", "verify", "--signers", signers)
    assert (code, out) == (2, "")
    assert "--signers is for one library" in error
