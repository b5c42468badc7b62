import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from promptgraft.cli.library import app
from promptgraft.errors import InputError, PromptFileError
from promptgraft.library import Entry, PromptLibrary, find_prompt, open_library, starter, user_library


@pytest.fixture
def library(make_prompt, tmp_path):
    library = PromptLibrary(tmp_path / "lib")
    library.add(make_prompt(seed=0), "text/a")
    library.add(make_prompt(seed=1, modality="vision", dim=8), "vision/deeper/b")
    library.add(make_prompt(seed=2, layers=2), "c")
    return library


def test_add_get_list(library, make_prompt):
    assert library.names() == list(library) == ["c", "text/a", "vision/deeper/b"]
    assert len(library) == 3
    assert library["text/a"] == make_prompt(seed=0)
    assert library["text/a"].card.name == "text/example"  # a name in a library does not change the prompt
    assert "c" in library
    assert "d" not in library
    assert library.add(make_prompt(seed=3)) == "text/example"


def test_adding_again_changes_nothing_and_another_prompt_is_refused(library, make_prompt):
    before = (library.folder / "c" / "prompt.json").stat()
    assert library.add(make_prompt(seed=2, layers=2), "c") == "c"
    after = (library.folder / "c" / "prompt.json").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    with pytest.raises(InputError, match="another prompt named 'c'"):
        library.add(make_prompt(seed=9), "c")
    with pytest.raises(InputError, match="another prompt named 'c'"):  # the same id, but its head would be lost
        library.add(make_prompt(seed=2, layers=2, head=True), "c")
    assert library["c"] == make_prompt(seed=2, layers=2)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/abs",
        "a/../b",
        "..",
        "a//b",
        "a/",
        ".hidden",
        "a\nb",
        "a b",
        "é",
        "a\\b",
        "x" * 101,
        "a/" * 101 + "a",
        "end.",
        "a/prompt.json",
        "Prompt.JSON",
        "C:x",
    ],
)
def test_unportable_names_are_refused(library, make_prompt, name):
    with pytest.raises(InputError, match="cannot name a prompt"):
        library.add(make_prompt(), name)
    with pytest.raises(InputError, match="no prompt named"):
        library[name]


def test_prompts_are_not_nested(library, make_prompt):
    with pytest.raises(InputError, match="'text/a' is a prompt"):
        library.add(make_prompt(), "text/a/b")
    with pytest.raises(InputError, match="not empty"):
        library.add(make_prompt(), "text")


def test_ids_and_their_prefixes(library, make_prompt):
    identity = make_prompt(seed=0).id
    assert library[identity] == library[identity[:8]] == library["text/a"]
    with pytest.raises(InputError, match="no prompt named"):
        library[identity[:7]]
    library.add(make_prompt(seed=0), "again")
    assert library.resolve(identity) == "again"
    path = library.folder / "c" / "prompt.json"
    path.write_text(path.read_text().replace(make_prompt(seed=2, layers=2).id, identity[:8] + "0" * 56))
    with pytest.raises(InputError, match=r"several prompts .* again, c, text/a"):
        library[identity[:8]]


def test_unknown_name_brings_the_nearest(library):
    with pytest.raises(InputError, match=r"no prompt named 'text/b'.*Did you mean 'text/a'\?"):
        library["text/b"]


def test_find(library):
    assert [e.name for e in library.find(modality="text")] == ["c", "text/a"]
    assert [e.name for e in library.find(dim=8)] == ["vision/deeper/b"]
    assert [e.name for e in library.find(layers=1, modality="text", backbone="tiny", task="example")] == ["text/a"]
    assert library.find(task="other") == []
    entry = library.find(layers=2)[0]
    assert (entry.length, entry.n_train, entry.method, entry.score) == (4, 32, "vpt", 0.75)


def test_index_is_used_and_rebuilt(library, monkeypatch):
    library.names()
    index = library.folder / ".index.json"
    whole = index.read_bytes()
    read = []
    import promptgraft.library as module

    real = module.read_card
    monkeypatch.setattr(module, "read_card", lambda folder: read.append(folder.name) or real(folder))
    assert len(PromptLibrary(library.folder)) == 3
    assert read == []
    for broken in (
        b"",
        b"{",
        b"[]",
        b'{"version": 1, "records": [["c", 1]]}',
        b'{"version": 0, "records": []}',
        whole[:-9],
    ):
        index.write_bytes(broken)
        read.clear()
        assert len(PromptLibrary(library.folder)) == 3
        assert sorted(read) == ["a", "b", "c"]
        assert index.read_bytes() == whole
    index.unlink()
    assert len(PromptLibrary(library.folder)) == 3


def test_changes_by_hand_are_seen(library, make_prompt):
    assert len(library) == 3
    shutil.move(library.folder / "text" / "a", library.folder / "moved")
    assert library.names() == ["c", "moved", "vision/deeper/b"]
    shutil.rmtree(library.folder / "c")
    make_prompt(seed=7, dim=24).save(library.folder / "c")
    assert [e.name for e in library.find(dim=24)] == ["c"]
    shutil.rmtree(library.folder / "vision")
    assert PromptLibrary(library.folder).names() == library.names() == ["c", "moved"]


def test_damaged_prompts_are_named_and_do_not_stop_a_listing(library):
    (library.folder / "c" / "prompt.json").write_text("{")
    (library.folder / "text" / "a" / "prompt.json").unlink()
    (library.folder / "odd\nname").mkdir()
    shutil.copy(library.folder / "vision" / "deeper" / "b" / "prompt.json", library.folder / "odd\nname")
    with pytest.warns(UserWarning, match="left out") as caught:
        assert library.names() == ["vision/deeper/b"]
    assert [str(w.message).split("'")[1] for w in caught] == ["c", "odd\\nname", "text/a"]
    assert sorted(library.damaged()) == ["c", "odd\nname", "text/a"]
    library.remove("c")
    library.remove("text/a")
    assert sorted(library.damaged()) == ["odd\nname"]


def test_links_are_not_followed(library):
    (library.folder / "loop").symlink_to(library.folder)
    assert len(library) == 3


def test_remove(library, make_prompt):
    library.remove("text/a")
    assert library.names() == ["c", "vision/deeper/b"]
    assert not [p for p in library.folder.iterdir() if p.name.startswith(".removed")]
    with pytest.raises(InputError, match="no prompt named"):
        library.remove("text/a")
    with pytest.raises(InputError, match=r"by name only.*'c'"):
        library.remove(make_prompt(seed=2, layers=2).id)
    library.add(make_prompt(), "text")  # the empty folder that is left blocks nothing
    assert library["text"] == make_prompt()


def test_read_only(library, make_prompt):
    (library.folder / ".index.json").unlink(missing_ok=True)
    shelf = PromptLibrary(library.folder, read_only=True)
    assert len(shelf) == 3
    assert not (library.folder / ".index.json").exists()
    for change in (lambda: shelf.add(make_prompt(), "d"), lambda: shelf.remove("c")):
        with pytest.raises(InputError, match="read-only"):
            change()


def test_index_that_cannot_be_written_does_not_matter(library, monkeypatch):
    (library.folder / ".index.json").unlink(missing_ok=True)

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert len(PromptLibrary(library.folder)) == 3
    assert not [p for p in library.folder.iterdir() if p.name.startswith(".index")]


WRITER = """
import sys
sys.path.insert(0, sys.argv[4])
from conftest import build_prompt
from promptgraft.library import PromptLibrary

library, first = PromptLibrary(sys.argv[1]), int(sys.argv[2])
for number in range(first, first + int(sys.argv[3])):
    library.add(build_prompt(seed=number), f"own/{number}")
    library.add(build_prompt(seed=number % 40), f"both/{number % 40}")
    len(library)  # writes the index
"""


def test_two_writers_lose_nothing(tmp_path):
    here = str(Path(__file__).parent)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "lib"), str(first), "40", here])
        for first in (0, 40)
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    library = PromptLibrary(tmp_path / "lib")
    assert sorted(library.names()) == sorted([f"own/{n}" for n in range(80)] + [f"both/{n}" for n in range(40)])
    assert not library.damaged()
    assert [p.name for p in library.folder.iterdir() if p.name.startswith(".")] in ([], [".index.json"])


def test_listing_ten_thousand_prompts(make_prompt, tmp_path):
    seed = make_prompt().save(tmp_path / "seed")
    card = (seed / "prompt.json").read_bytes()
    count, root = 10_000, tmp_path / "lib"
    for number in range(count):
        folder = root / f"group{number % 10}" / f"prompt{number}"
        folder.mkdir(parents=True)
        (folder / "prompt.json").write_bytes(card)
    assert len(PromptLibrary(root)) == count
    times = []
    for _ in range(3):
        start = time.perf_counter()
        assert len(PromptLibrary(root).find(modality="text")) == count
        times.append(time.perf_counter() - start)
    print(f"warm listing of {count} prompts: {min(times):.3f} s")
    assert min(times) < 3.0  # a third of a second where measured


def test_open_library(library, tmp_path, monkeypatch, make_prompt):
    assert open_library(library.folder).names() == library.names()
    with pytest.raises(InputError, match="no library folder"):
        open_library(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no prompt"):
        open_library(tmp_path / "empty")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        PromptLibrary(tmp_path / "file")
    with pytest.raises(InputError, match="single prompt"):
        PromptLibrary(library.folder / "c")
    assert len(PromptLibrary(tmp_path / "new")) == 0
    assert not (tmp_path / "new").exists()
    monkeypatch.setenv("PROMPTGRAFT_LIBRARY", str(library.folder))
    assert open_library("user").names() == library.names()
    assert starter().read_only


def test_find_prompt(library, tmp_path, monkeypatch, make_prompt):
    monkeypatch.setenv("PROMPTGRAFT_LIBRARY", str(library.folder))
    assert find_prompt("text/a") == make_prompt(seed=0)
    assert find_prompt(make_prompt(seed=0).id[:10]) == make_prompt(seed=0)
    assert find_prompt(library.folder / "c") == make_prompt(seed=2, layers=2)
    assert find_prompt("c", library.folder) == make_prompt(seed=2, layers=2)
    with pytest.raises(InputError, match=r"named 'text/b'\. Did you mean 'text/a'"):
        find_prompt("text/b")


# the command


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTGRAFT_LIBRARY", str(tmp_path / "lib"))

    def call(*words):
        return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)

    return call


def test_command_ls(library, run):
    plain = run("ls", "--library", library.folder, "--modality", "text")
    lines = plain.output.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["name", "c", "text/a"]
    assert "2x4x16" in lines[1]
    assert "\x1b" not in plain.output
    rows = json.loads(run("ls", "--dim", "8", "--json").output)
    assert rows[0].pop("library") == str(library.folder)
    assert Entry(**rows[0]) == library.find(dim=8)[0]
    with pytest.raises(InputError, match="no prompt fits"):
        run("ls", "--dim", "999")


def test_command_show(library, run, make_prompt):
    child = make_prompt(
        seed=4, layers=2, name="odd \x1b[31m[red]", parents=(library["c"].id, "e" * 64), method="initial"
    )
    library.add(child, "child")
    output = run("show", "child").output
    assert f"c ({library['c'].id[:12]})" in output
    assert "not in a library here" in output
    assert "odd ?[31m[red]" in output
    assert "0.750 (0.500 to 0.900, n = 16)" in output
    norms = json.loads(run("show", "child", "--json").output)["norms"]
    assert norms == pytest.approx(child.tensor.norm(dim=2).mean(1).tolist())
    assert f"{norms[0]:.3g} {norms[1]:.3g}" in output


def test_command_add_remove(library, run, make_prompt, tmp_path):
    make_prompt(seed=5).save(tmp_path / "birds" / "prompt")  # where an adapted model keeps it
    output = run("add", tmp_path / "birds", "--name", "vision/birds").output
    assert str(library.folder / "vision" / "birds") in output
    assert library["vision/birds"] == make_prompt(seed=5)
    readme = (library.folder / "vision/birds/README.md").read_text().splitlines()
    assert readme[0] == "# vision/birds"
    assert "| Name in the card | text/example |" in readme
    shown = [line.split() for line in run("show", "vision/birds").output.splitlines()[:2]]
    assert shown == [["name", "vision/birds"], ["name", "in", "its", "card", "text/example"]]
    said = json.loads(run("show", "vision/birds", "--json").output)
    assert (said["stored_as"], said["name"], said["id"]) == ("vision/birds", "text/example", make_prompt(seed=5).id)
    run("add", library.folder / "c", "--library", tmp_path / "other")
    assert PromptLibrary(tmp_path / "other").names() == ["text/example"]
    assert "in its card" not in run("show", "text/example", "--library", tmp_path / "other").output
    assert "Name in the card" not in (tmp_path / "other/text/example/README.md").read_text()
    run("remove", "vision/birds")
    assert "vision/birds" not in library
    with pytest.raises(PromptFileError, match="not a prompt folder"):
        run("add", tmp_path / "nowhere")
    with pytest.raises(InputError, match="read-only"):
        run("remove", "c", "--library", "starter")


def test_command_verify(library, run, own_cache):
    assert run("verify").exit_code == 0
    path = library.folder / "c" / "prompt.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (library.folder / "text" / "a" / "prompt.json").write_text("{")
    with pytest.warns(UserWarning, match="left out"):
        result = run("verify")
    assert result.exit_code == 1
    assert "2 damaged" in result.output
    assert "tensor 'prompt'" in " ".join(result.output.split())


def test_listing_does_not_import_torch(library):
    code = (
        "import sys; from promptgraft.cli import library; from promptgraft.library import PromptLibrary; "
        "assert len(PromptLibrary(sys.argv[1])) == 3; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(library.folder)], check=True, env=os.environ)


def test_user_library_default(monkeypatch, tmp_path):
    monkeypatch.delenv("PROMPTGRAFT_LIBRARY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_library().folder == tmp_path / ".local" / "share" / "promptgraft" / "library"
