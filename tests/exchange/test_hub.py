"""Sharing through a hub: the real client of huggingface_hub in front of a stand-in for the hub."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_stand_in import READS, WRITES, Hub, stand_in
from huggingface_hub import constants

from promptgraft.errors import HubError, InputError, OfflineError, PromptFileError
from promptgraft.exchange import hub as module
from promptgraft.exchange.hub import Pulled, pull, push, read_pulled
from promptgraft.library import PromptLibrary
from promptgraft.prompt import SoftPrompt

REPO = "maker/prompts"
MakePrompt = Callable[..., SoftPrompt]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", WRITES)
    monkeypatch.delenv("PROMPTGRAFT_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with stand_in() as running:  # what HF_ENDPOINT does where it is set beforehand
        monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
        address = f"{running.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        yield running


@pytest.fixture
def library(tmp_path: Path) -> PromptLibrary:
    return PromptLibrary(tmp_path / "pulled")


def files_of(prompt: SoftPrompt, folder: Path, prefix: str = "") -> dict[str, bytes]:
    return {f"{prefix}{path.name}": path.read_bytes() for path in prompt.save(folder).iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".index.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_one_prompt_goes_to_the_root_and_comes_back_the_same(
    hub: Hub, library: PromptLibrary, make_prompt: MakePrompt
) -> None:
    prompt = make_prompt(head=True, parents=("e" * 64,))
    pushed = push(prompt, REPO)
    sha, files = hub.repositories[REPO].commits[-1]
    assert pushed.commit == sha
    assert pushed.url == f"{hub.endpoint}/{REPO}/commit/{sha}"
    assert sorted(files) == [".gitattributes", "README.md", "prompt.json", "prompt.safetensors"]

    origins = pull(REPO, library)
    assert origins == {"text/example": Pulled(hub=hub.endpoint, repo=REPO, commit=sha, folder="")}
    assert library["text/example"] == prompt
    assert library["text/example"].id == prompt.id
    assert read_pulled(library.folder / "text/example") == origins["text/example"]
    fetched = [path for path in hub.asked if path.startswith("GET /maker")]
    assert sorted(fetched) == [f"GET /{REPO}/resolve/{sha}/prompt.{end}" for end in ("json", "safetensors")]


def test_several_prompts_lie_in_a_folder_each(hub: Hub, library: PromptLibrary, make_prompt: MakePrompt) -> None:
    prompts = {"text/a": make_prompt(seed=1), "text/b": make_prompt(seed=2), "deep": make_prompt(layers=2)}
    push(prompts, REPO)
    assert list(pull(REPO, library)) == ["deep", "text/a", "text/b"]
    assert {name: library[name] for name in library} == prompts

    alone = PromptLibrary(library.folder.parent / "alone")
    assert list(pull(REPO, alone, subfolder="text/b/", name="mine")) == ["mine"]
    assert alone["mine"] == prompts["text/b"]
    assert contents(alone.folder).keys() == {f"mine/{file}" for file in (*SAVED, "pulled.json")}
    with pytest.raises(PromptFileError, match=r"no prompt in 'text'\. There are prompts in: deep, text/a, text/b"):
        pull(REPO, alone, subfolder="text")
    with pytest.raises(InputError, match="3 prompts, which cannot all be named 'x'"):
        pull(REPO, alone, name="x")


SAVED = ("README.md", "prompt.json", "prompt.safetensors")


def test_a_commit_is_pinned(hub: Hub, tmp_path: Path, make_prompt: MakePrompt) -> None:
    first = push(make_prompt(seed=1), REPO)
    second = push(make_prompt(seed=2), REPO)
    assert first.commit != second.commit
    for revision, seed in ((first.commit, 1), (second.commit, 2), ("main", 2)):
        library = PromptLibrary(tmp_path / revision)
        [origin] = pull(f"{REPO}@{revision}", library).values()
        assert origin.commit == (first if seed == 1 else second).commit
        assert library["text/example"] == make_prompt(seed=seed)


def test_what_a_branch_stood_for_is_what_is_fetched(hub: Hub, library: PromptLibrary, make_prompt: MakePrompt) -> None:
    """The branch moves on between the answer that names its commit and the download."""
    before = push(make_prompt(seed=1), REPO)
    moved: list[SoftPrompt] = []

    def move_on() -> None:
        hub.between.clear()
        moved.append(make_prompt(seed=2))
        hub.publish(REPO, files_of(moved[0], library.folder.parent / "moved"))

    hub.between["/prompt.json"] = move_on
    [origin] = pull(REPO, library).values()
    assert moved
    assert origin.commit == before.commit
    assert library["text/example"] == make_prompt(seed=1)


def test_pulling_again_changes_nothing(hub: Hub, library: PromptLibrary, make_prompt: MakePrompt) -> None:
    push(make_prompt(), REPO)
    pull(REPO, library)
    held = contents(library.folder)
    hub.publish(REPO, hub.repositories[REPO].commits[-1][1] | {"NEWS.md": b"no news"})
    pull(REPO, library)
    assert contents(library.folder) == held


def test_no_prompt_is_pushed_away(hub: Hub, make_prompt: MakePrompt) -> None:
    push({"a": make_prompt(seed=1), "b": make_prompt(seed=2)}, REPO)
    before = len(hub.repositories[REPO].commits)
    for prompts in ({"a": make_prompt(seed=3)}, make_prompt(seed=3)):
        with pytest.raises(InputError, match="holds other prompts: "):
            push(prompts, REPO)
    assert len(hub.repositories[REPO].commits) == before
    push({"a": make_prompt(seed=3), "b": make_prompt(seed=2), "c": make_prompt(seed=4)}, REPO)
    push(make_prompt(), "maker/one")
    with pytest.raises(InputError, match="holds other prompts: one at its root"):
        push({"a": make_prompt()}, "maker/one")


def test_of_two_pushes_at_once_one_is_refused(hub: Hub, make_prompt: MakePrompt) -> None:
    push(make_prompt(), REPO)

    def other() -> None:
        hub.between.clear()
        hub.publish(REPO, {"README.md": b"other"})

    hub.between["/commit/main"] = other
    with pytest.raises(HubError, match=r"changed by somebody else meanwhile\. Push again"):
        push(make_prompt(seed=1), REPO)
    assert hub.repositories[REPO].commits[-1][1] == {"README.md": b"other"}


def test_private_stays_private(
    hub: Hub, library: PromptLibrary, make_prompt: MakePrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(make_prompt(), REPO, private=True)
    assert hub.repositories[REPO].private
    push(make_prompt(seed=1), REPO, private=True)
    push(make_prompt(), "maker/open")
    with pytest.raises(InputError, match="maker/open is public already"):
        push(make_prompt(seed=1), "maker/open", private=True)
    monkeypatch.setenv("HF_TOKEN", READS)
    assert list(pull(REPO, library)) == ["text/example"]
    no_token(monkeypatch)
    with pytest.raises(HubError, match=f"no repository {REPO}, or hides it from you.*hf auth login"):
        pull(REPO, library)


def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", os.devnull)


def test_what_a_hub_refuses_is_one_error(
    hub: Hub, library: PromptLibrary, make_prompt: MakePrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(make_prompt(), REPO)
    with pytest.raises(HubError, match=f"^{REPO} has no revision 'v9' on {hub.endpoint}. Give a branch, a tag"):
        pull(f"{REPO}@v9", library)
    with pytest.raises(HubError, match="no repository maker/nothing, or hides it from you"):
        pull("maker/nothing", library)
    monkeypatch.setenv("HF_TOKEN", READS)
    with pytest.raises(HubError, match=f"does not let your token do that with {REPO}"):
        push(make_prompt(seed=1), REPO)
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    for ask in (lambda: pull(REPO, library), lambda: push(make_prompt(seed=1), REPO)):
        with pytest.raises(HubError, match=f"does not accept your token for {REPO}"):
            ask()
    no_token(monkeypatch)
    asked = len(hub.asked)
    with pytest.raises(HubError, match=f"^there is no token for {hub.endpoint}.*hf auth login.*HF_TOKEN"):
        push(make_prompt(seed=1), REPO)
    assert len(hub.asked) == asked
    assert not library.folder.exists()


def test_without_a_network(library: PromptLibrary, make_prompt: MakePrompt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITES)
    monkeypatch.delenv("PROMPTGRAFT_OFFLINE", raising=False)
    with stand_in() as gone:
        pass
    for ask in (
        lambda: pull(REPO, library, endpoint=gone.endpoint),
        lambda: push(make_prompt(), REPO, endpoint=gone.endpoint),
    ):
        with pytest.raises(HubError, match=f"cannot talk to {gone.endpoint} about {REPO} .ConnectError.*the network"):
            ask()


@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "PROMPTGRAFT_OFFLINE"])
def test_offline_asks_for_nothing(
    switch: str, hub: Hub, library: PromptLibrary, make_prompt: MakePrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    if switch == "HF_HUB_OFFLINE":
        monkeypatch.setattr(constants, switch, True)  # the client reads it when it is imported
    else:
        monkeypatch.setenv(switch, "1")
    for ask in (lambda: pull(REPO, library), lambda: push(make_prompt(), REPO)):
        with pytest.raises(OfflineError, match="HF_HUB_OFFLINE or PROMPTGRAFT_OFFLINE is set"):
            ask()
    assert hub.asked == []


@pytest.mark.parametrize("source", ["prompts", "a/b/c", "../b", "a/b@", "a b/c", "-a/b", "a/b\n"])
def test_what_names_no_repository_is_refused_before_anything_is_asked(
    source: str, hub: Hub, library: PromptLibrary, make_prompt: MakePrompt
) -> None:
    with pytest.raises(InputError, match="names no repository"):
        pull(source, library)
    with pytest.raises(InputError, match="names no repository"):
        push(make_prompt(), source)
    assert hub.asked == []


def test_a_revision_with_a_slash_is_one_part_of_the_address(hub: Hub, library: PromptLibrary) -> None:
    hub.publish(REPO, {})
    with pytest.raises(HubError, match=r"has no revision '\.\./\.\./other/secret'"):
        pull(f"{REPO}@../../other/secret", library)


def test_only_the_files_of_prompts_are_fetched(
    hub: Hub, library: PromptLibrary, make_prompt: MakePrompt, tmp_path: Path
) -> None:
    files = files_of(make_prompt(), tmp_path / "saved")
    extra = dict.fromkeys(("pickle.bin", "prompt.py", "pulled.json", "a/prompt.safetensors", "../x"), b"evil")
    hub.publish(REPO, files | extra)
    pull(REPO, library)
    assert contents(library.folder).keys() == {f"text/example/{file}" for file in (*SAVED, "pulled.json")}
    assert b"evil" not in contents(library.folder).values()
    assert contents(library.folder)["text/example/README.md"] == files["README.md"]


def test_folders_that_lead_elsewhere_are_left_out(
    hub: Hub, library: PromptLibrary, make_prompt: MakePrompt, tmp_path: Path
) -> None:
    good = files_of(make_prompt(), tmp_path / "saved")
    files = {f"good/{name}": content for name, content in good.items()}
    for folder in ("../up", "a/../../up", "/abs", ".hidden", "a b", "a//b", "*"):
        files |= {f"{folder}/{name}": content for name, content in good.items()}
    hub.publish(REPO, files)
    with pytest.warns(UserWarning, match="folders that no library can have are left out"):
        assert list(pull(REPO, library)) == ["good"]
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(PromptFileError, match=r"holds no prompt in '\.\./up'"),
    ):
        pull(REPO, library, subfolder="../up")
    assert [path for path in hub.asked if "up" in path or "*" in path] == []


@pytest.mark.parametrize("size", [1 << 31, None, "7"])
@pytest.mark.parametrize("file", ["prompt.json", "prompt.safetensors"])
def test_a_file_of_no_good_size_is_refused_before_it_is_fetched(
    file: str, size: Any, hub: Hub, library: PromptLibrary, make_prompt: MakePrompt
) -> None:
    push(make_prompt(), REPO)
    hub.listed[file] = size
    asked = len(hub.asked)
    with pytest.raises(PromptFileError, match=rf"{file} has {size} bytes, \d+ is the most. Nothing was fetched"):
        pull(REPO, library)
    assert [path for path in hub.asked[asked:] if "resolve" in path] == []
    assert not library.folder.exists()


def test_all_of_it_together_is_bounded(
    hub: Hub, library: PromptLibrary, make_prompt: MakePrompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    push({"a": make_prompt(seed=1), "b": make_prompt(seed=2)}, REPO)
    with monkeypatch.context() as patch:
        patch.setattr(module, "MOST", 1)
        with pytest.raises(PromptFileError, match="holds 2 prompts, 1 is the most for one pull"):
            pull(REPO, library)
    hub.listed |= {"a/prompt.safetensors": 1 << 29, "b/prompt.safetensors": (1 << 29) + 1}
    with pytest.raises(PromptFileError, match=r"holds \d+ bytes of prompts, \d+ is the most for one pull"):
        pull(REPO, library)
    assert not library.folder.exists()


def test_of_a_damaged_prompt_and_a_whole_one_none_is_taken(
    hub: Hub, library: PromptLibrary, make_prompt: MakePrompt, tmp_path: Path
) -> None:
    library.add(make_prompt(seed=9), "mine")
    held = contents(library.folder)
    whole = files_of(make_prompt(seed=1), tmp_path / "one", "a/") | files_of(make_prompt(), tmp_path / "two", "b/")
    tensor = bytearray(whole["b/prompt.safetensors"])
    tensor[-1] ^= 1
    damages: list[tuple[dict[str, bytes], str]] = [
        ({"b/prompt.safetensors": bytes(tensor)}, "prompt.safetensors was altered: tensor 'prompt'"),
        ({"b/prompt.safetensors": b"\x80\x04."}, "prompt.safetensors is truncated"),
        ({"b/prompt.json": whole["b/prompt.json"].replace(b'"vpt"', b'"spt"')}, "was altered: its card and tensor"),
        ({"b/prompt.json": b"[]"}, "does not hold a JSON object"),
    ]
    for damage, said in damages:
        sha = hub.publish(REPO, whole | damage)
        with pytest.raises(PromptFileError, match=said) as caught:
            pull(REPO, library)
        assert f"{REPO}@{sha[:12]}/b" in str(caught.value)  # the place that a person knows, not a temporary one
        assert contents(library.folder) == held
    without = {path: content for path, content in whole.items() if path != "b/prompt.safetensors"}
    hub.publish(REPO, without)
    with pytest.raises(PromptFileError, match=r"lacks b/prompt.safetensors"):
        pull(REPO, library)
    assert contents(library.folder) == held


def test_where_a_name_is_taken_nothing_is_added(
    hub: Hub, library: PromptLibrary, make_prompt: MakePrompt, tmp_path: Path
) -> None:
    library.add(make_prompt(seed=9), "b")
    library.add(make_prompt(seed=1), "a")  # the very one that is pulled: it has to stay
    held = contents(library.folder)
    push({"a": make_prompt(seed=1), "aa": make_prompt(seed=2), "b": make_prompt(seed=3)}, REPO)
    with pytest.raises(InputError, match="another prompt named 'b'"):
        pull(REPO, library)
    assert contents(library.folder) == held
    nested = files_of(make_prompt(seed=4), tmp_path / "one", "c/") | files_of(make_prompt(), tmp_path / "two", "c/d/")
    hub.publish(REPO, nested)
    with pytest.raises(InputError, match="'c' is a prompt"):
        pull(REPO, library)
    assert contents(library.folder) == held
    twice = files_of(make_prompt(), tmp_path / "four", "text/example/")
    hub.publish(REPO, twice | files_of(make_prompt(seed=4), tmp_path / "three"))
    with pytest.raises(InputError, match="holds two prompts named 'text/example'"):
        pull(REPO, library)
    assert list(pull(REPO, library, subfolder=".")) == ["text/example"]
    assert library["text/example"] == make_prompt(seed=4)


def test_a_server_that_is_no_hub(hub: Hub, library: PromptLibrary) -> None:
    hub.publish(REPO, {})
    hub.repositories[REPO].commits[:] = [("main", {})]
    with pytest.raises(HubError, match=f"{hub.endpoint} names no commit of {REPO} to pin"):
        pull(REPO, library)
    hub.publish("some/page", {f"api/models/{REPO}": b"<html>"})
    with pytest.raises(HubError, match=r"cannot talk to .*JSONDecodeError.*HF_ENDPOINT"):
        pull(REPO, library, endpoint=f"{hub.endpoint}/some/page/resolve/main/")


@pytest.mark.parametrize("content", [b"{", b'{"hub": "x"}', b" " * 5000, None])
def test_a_damaged_note_of_where_a_prompt_came_from_is_named(content: bytes | None, tmp_path: Path) -> None:
    note = tmp_path / "pulled.json"
    assert read_pulled(tmp_path) is None
    note.symlink_to("/etc/passwd") if content is None else note.write_bytes(content)
    with pytest.raises(PromptFileError, match=r"pulled.json does not say where"):
        read_pulled(tmp_path)


def test_commands(
    hub: Hub,
    promptgraft: Callable[..., tuple[int, str, str]],
    make_prompt: MakePrompt,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PROMPTGRAFT_OFFLINE", "0")
    mine = PromptLibrary(tmp_path / "library")
    mine.add(make_prompt(seed=1), "text/a")
    mine.add(make_prompt(seed=2), "text/b")
    code, out, error = promptgraft("library", "push", "--repo", REPO, "--dataset", "stanfordnlp/sst2")
    sha, files = hub.repositories[REPO].commits[-1]
    assert (code, error) == (0, "")
    assert out == f"pushed to {hub.endpoint}/{REPO}/commit/{sha}     next: promptgraft library pull {REPO}@{sha}\n"
    assert yaml.safe_load(files["README.md"].decode().split("---\n")[1])["datasets"] == ["stanfordnlp/sst2"]
    other = tmp_path / "other"
    code, out, error = promptgraft("library", "pull", f"{REPO}@{sha}", "--library", other)
    assert (code, error) == (0, "")
    assert out == (
        f"wrote 2 prompts to {other} from {REPO}@{sha}     next: promptgraft library show text/a --library {other}\n"
    )
    _, out, _ = promptgraft("library", "show", "text/a", "--library", other)
    assert f"{REPO} text/a at {sha} ({hub.endpoint})" in " ".join(out.split())
    shown = json.loads(promptgraft("library", "show", "text/a", "--library", other, "--json")[1])
    assert shown["pulled"] == {"hub": hub.endpoint, "repo": REPO, "commit": sha, "folder": "text/a"}
    assert "pulled" not in json.loads(promptgraft("library", "show", "text/a", "--json")[1])

    code, out, error = promptgraft("library", "push", "text/b", "--repo", "maker/b", "--private")
    assert (code, error) == (0, "")
    assert hub.repositories["maker/b"].private
    code, out, error = promptgraft("library", "pull", "maker/b", "--name", "b", "--library", other)
    assert (code, error) == (0, "")
    assert out.startswith(f"wrote {other / 'b'} from maker/b@")
    assert PromptLibrary(other)["b"] == make_prompt(seed=2)
    code, out, error = promptgraft("library", "pull", "maker/nothing", "--library", other)
    assert (code, out) == (2, "")
    assert error.startswith(f"error: {hub.endpoint} has no repository maker/nothing")
    assert error.count("\n") == 1


def test_the_hubs_own_variables_are_heeded(hub: Hub, make_prompt: MakePrompt, tmp_path: Path) -> None:
    """HF_ENDPOINT and HF_HUB_OFFLINE, in a process of its own: the client reads them when it is imported."""
    push(make_prompt(), REPO)
    script = "import sys; from promptgraft.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "library", "pull", REPO, "--library", str(tmp_path / "there")]
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint}
    offline = subprocess.run(command, env=environment | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    assert (offline.returncode, offline.stdout) == (2, "")
    assert "HF_HUB_OFFLINE" in offline.stderr
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert PromptLibrary(tmp_path / "there")["text/example"] == make_prompt()
