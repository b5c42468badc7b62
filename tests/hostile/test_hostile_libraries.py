"""Libraries: their prompts, the transfers that were measured, and an index that only saves time."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import strategies as st

from hostile.mutations import Files, changed, changed_json, changed_lines, files_of, lay, spoiled
from hostile.searching import Search, attempt
from promptgraft.errors import PromptFileError
from promptgraft.exchange.sums import SUMS_FILE, check_sums, write_sums
from promptgraft.library import Entry, PromptLibrary
from promptgraft.measured import MEASURED_LIMIT, Transfer
from promptgraft.prompt import SoftPrompt

INDEX = ".index.json"


@pytest.fixture(scope="module")
def files(make_prompt: Callable[..., SoftPrompt], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    library = PromptLibrary(tmp_path_factory.mktemp("libraries") / "library")
    names = [library.add(make_prompt(name=name, seed=seed)) for seed, name in enumerate(["text/a", "vision/b/c"])]
    transfer = Transfer(
        study="s",
        target="photos",
        modality="vision",
        backbone="tiny",
        weights_sha256="0" * 64,
        method="initial",
        source=names[0],
        source_id="1" * 64,
        accuracy=0.75,
        baseline=0.5,
        seeds=3,
        scores={"gap": -0.5},
    )
    library.add_measured([transfer, transfer.model_copy(update={"target": "texts", "baseline": None})])
    assert len(library.find()) == 2
    return files_of(library.folder)


def seen(folder: Path) -> dict[str, tuple[int, bytes]]:
    """What a folder holds, but for the index."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name != INDEX:
            link, file = path.is_symlink(), path.is_file()
            content = str(path.readlink()).encode() if link else path.read_bytes() if file else b""
            found[path.relative_to(folder).as_posix()] = (path.lstat().st_mode, content)
    return found


def read(folder: Path, forged: bool = False) -> None:
    before, library = seen(folder), PromptLibrary(folder)
    for entry in library.find():
        assert entry == checked(entry)
        with suppress(PromptFileError):
            assert library[entry.name].id == entry.id or forged
    assert all(map(str.strip, library.damaged().values()))
    for transfer in library.measured():
        assert transfer.model_dump_json()
    assert seen(folder) == before


def checked(entry: Entry) -> Entry:
    """An entry that a listing can print."""
    scores = [f"{score:.3f}" for score in (entry.score, entry.head) if score is not None]
    assert "nan" not in scores
    assert f"{entry.layers:d}x{entry.length:d}x{entry.dim:d} {entry.id[:8]} {entry.name} {entry.task}"
    return entry


def test_libraries(search: Search, files: dict[str, bytes]) -> None:
    search(read, spoiled(files))


def test_measured_transfers(search: Search, files: dict[str, bytes]) -> None:
    search(read, spoiled(files, ("measured.jsonl",)))


def test_lists_of_sums(search: Search, files: dict[str, bytes], tmp_path: Path) -> None:
    folder = lay(files, tmp_path / "library")
    write_sums(PromptLibrary(folder))
    content = (folder / SUMS_FILE).read_bytes()

    def checked_sums(folder: Path) -> None:
        before, library = seen(folder), PromptLibrary(folder)
        found = check_sums(library)
        assert found is None or found[0] >= 0
        assert seen(folder) == before

    cases = changed_lines(content).map(lambda lines: {**files, SUMS_FILE: lines})
    search(checked_sums, cases | spoiled({**files, SUMS_FILE: content}))


def stamped(folder: Path) -> None:
    """Give the records of an index the stamps of the prompts that lie there, so that they are believed."""
    with suppress(OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError):
        index = json.loads((folder / INDEX).read_bytes())
        for name, record in index["records"].items():
            stat = (folder / name / "prompt.json").stat()
            record[0] = [stat.st_mtime_ns, stat.st_size, stat.st_ino]
        (folder / INDEX).write_text(json.dumps(index))


@st.composite
def forged(draw: st.DrawFn, files: dict[str, bytes]) -> Files:
    if draw(st.integers(0, 4)) == 0:
        return {**files, INDEX: draw(changed_json(files[INDEX]))}
    index = json.loads(files[INDEX])
    name = draw(st.sampled_from(sorted(index["records"])))
    index["records"][name] = draw(changed(index["records"][name]))
    return {**files, INDEX: json.dumps(index).encode("utf-8", "surrogatepass")}


def test_forged_indices(search: Search, files: dict[str, bytes]) -> None:
    def listed(folder: Path) -> None:
        stamped(folder)
        read(folder, forged=True)

    search(listed, forged(files))


def test_an_index_with_another_name_is_not_believed(files: dict[str, bytes], tmp_path: Path) -> None:
    index = files[INDEX].replace(b'"name":"text/a"', b'"name":"text/z"')
    assert index != files[INDEX]
    folder = lay({**files, INDEX: index}, tmp_path / "library")
    stamped(folder)
    assert PromptLibrary(folder).names() == ["text/a", "vision/b/c"]


def test_an_index_hides_no_prompt(files: dict[str, bytes], tmp_path: Path) -> None:
    index = json.loads(files[INDEX])
    index["records"]["text/a"] = [[0, 0, 0], None, ""]
    folder = lay({**files, INDEX: json.dumps(index).encode()}, tmp_path / "library")
    stamped(folder)
    assert PromptLibrary(folder).names() == ["text/a", "vision/b/c"]


@pytest.mark.parametrize("name", [INDEX, "measured.jsonl", "text/a/prompt.json", "text/a/prompt.safetensors"])
@pytest.mark.parametrize("odd", ["pipe", "device", "loop", "outside", "folder"])
def test_a_listing_waits_for_nothing(name: str, odd: str, files: dict[str, bytes], tmp_path: Path) -> None:
    folder = lay({**files, name: odd}, tmp_path / "library")  # type: ignore[dict-item]
    assert attempt(lambda: read(folder))


def test_folders_without_end(tmp_path: Path, files: dict[str, bytes]) -> None:
    folder = lay(files, tmp_path / "library")
    (folder / "text" / "again").symlink_to(folder)
    deep = folder.joinpath(*["d"] * 400)
    deep.mkdir(parents=True)
    assert attempt(lambda: read(folder))


def test_a_file_of_measured_transfers_that_is_too_large(files: dict[str, bytes], tmp_path: Path) -> None:
    folder = lay(files, tmp_path / "library")
    with (folder / "measured.jsonl").open("ab") as stream:
        stream.truncate(MEASURED_LIMIT * 1000)
    assert attempt(PromptLibrary(folder).measured)
    with pytest.warns(UserWarning, match="more than the"):
        assert PromptLibrary(folder).measured() == []
