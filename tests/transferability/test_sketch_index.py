"""The index of sketches: what it holds, appends and drops, and what it does about damaged and foreign files."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from promptgraft.files import write_atomic
from promptgraft.library import PromptLibrary, Stamp
from promptgraft.transferability import sketch_index
from promptgraft.transferability.sketch import FIELDS, sketch
from promptgraft.transferability.sketch_index import FOLDER, Change, SketchIndex, Source, index_of, segments_of


class Prompts:
    """Prompts by name, and who was asked for."""

    def __init__(self, width: int = 4) -> None:
        self.width = width
        self.asked: list[str] = []

    def source(self, name: str) -> Source:
        rng = np.random.default_rng(int(name))
        return rng.normal(0, 1, (3, self.width)).astype("f4"), float(name)

    def __call__(self, name: str) -> Source | None:
        self.asked.append(name)
        return None if name == "13" else self.source(name)


def stamps(*numbers: int, time: int = 1) -> dict[str, Stamp]:
    return {str(number): (time, 2, 3) for number in numbers}


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def contents(index: SketchIndex) -> dict[str, dict[str, Any]]:
    return {
        name: {field: segment.sketches[field][place] for field in FIELDS}
        for segment in index.segments
        for place, name in enumerate(segment.names)
        if segment.live[place]
    }


def held(index: SketchIndex, prompts: Prompts) -> set[str]:
    """The names held, each with the sketch of its own prompt."""
    found = contents(index)
    for name, fields in found.items():
        rows, examples = prompts.source(name)
        for field, values in sketch([rows], [examples]).items():
            np.testing.assert_array_equal(fields[field], values[0], err_msg=f"{name} {field}")
    assert len(index) == len(found) == sum(int(segment.live.sum()) for segment in index.segments)
    return set(found)


@pytest.fixture
def few_to_a_file(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sketch_index, "FULL", 10 * (4 * 4 + 320))
    monkeypatch.setattr(sketch_index, "_GROUP", 4)
    return 10


def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    index, prompts = SketchIndex(tmp_path / "s"), Prompts()
    assert index.update(stamps(*range(5)), prompts) == Change(5, 0)
    assert held(index, prompts) == set("01234")
    prompts.asked.clear()
    again = SketchIndex(tmp_path / "s")
    assert again.update(stamps(*range(7)), prompts) == Change(2, 0)
    assert prompts.asked == ["5", "6"]
    assert held(again, prompts) == set("0123456")


def test_changed_and_removed_prompts_are_noticed(tmp_path: Path) -> None:
    index, prompts = SketchIndex(tmp_path / "s"), Prompts()
    index.update(stamps(*range(6)), prompts)
    prompts.asked.clear()
    now = stamps(0, 1, 2, 5) | stamps(1, time=9)
    assert index.update(now, prompts) == Change(1, 3)
    assert prompts.asked == ["1"]
    assert held(index, prompts) == set("0125")
    prompts.asked.clear()
    assert held(SketchIndex(tmp_path / "s"), prompts) == set()
    index.update(now, prompts)
    assert (prompts.asked, held(index, prompts)) == ([], set("0125"))


def test_full_files_stay_and_small_ones_are_taken_over(tmp_path: Path, few_to_a_file: int) -> None:
    index, prompts = SketchIndex(tmp_path / "s"), Prompts()
    index.update(stamps(*range(0, 12)), prompts)
    full = set(files(tmp_path / "s"))
    for last in range(13, 60):
        SketchIndex(tmp_path / "s").update(stamps(*(set(range(last)) - {13})), prompts)
    index.update(stamps(*(set(range(60)) - {13})), prompts)
    assert held(index, prompts) == {str(number) for number in range(60)} - {"13"}
    assert len(files(tmp_path / "s")) <= 2 * 60 / few_to_a_file + 1
    assert full & set(files(tmp_path / "s"))
    assert all(len(segment.names) <= few_to_a_file * 1.5 for segment in index.segments)


def test_each_width_has_its_files(tmp_path: Path) -> None:
    narrow, wide = Prompts(4), Prompts(6)

    def read(name: str) -> Source:
        return (narrow if int(name) < 3 else wide).source(name)

    index = SketchIndex(tmp_path / "s")
    index.update(stamps(*range(5)), read)
    index.update(stamps(*range(6)), read)
    assert sorted((segment.width, len(segment.names)) for segment in index.segments) == [(4, 3), (6, 3)]


def test_a_prompt_that_cannot_be_read_is_left_out_and_tried_again(tmp_path: Path) -> None:
    index, prompts = SketchIndex(tmp_path / "s"), Prompts()
    assert index.update(stamps(12, 13), prompts) == Change(1, 0)
    prompts.asked.clear()
    index.update(stamps(12, 13), prompts)
    assert prompts.asked == ["13"]


def test_stopped_while_writing_it_loads_with_what_was_written(
    tmp_path: Path, few_to_a_file: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = Prompts()
    written: list[Path] = []

    def stopped(path: Path, data: bytes) -> None:
        if len(written) == 2:
            (path.parent / f".{path.name}.half").write_bytes(data[:100])
            raise KeyboardInterrupt
        written.append(path)
        write_atomic(path, data)

    monkeypatch.setattr(sketch_index, "write_atomic", stopped)
    with pytest.raises(KeyboardInterrupt):
        SketchIndex(tmp_path / "s").update(stamps(*range(20, 80)), prompts)
    monkeypatch.undo()
    before = len(prompts.asked)
    index = SketchIndex(tmp_path / "s")
    index.update(stamps(*range(20, 80)), prompts)
    assert 10 <= 60 - (len(prompts.asked) - before) < 60
    assert held(index, prompts) == {str(number) for number in range(20, 80)}


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    one, other, prompts = SketchIndex(tmp_path / "s"), SketchIndex(tmp_path / "s"), Prompts()

    def late(name: str) -> Source | None:
        other.update(stamps(*range(4)), prompts)
        return prompts(name)

    one.update(stamps(*range(3)), late)
    both = SketchIndex(tmp_path / "s")
    both.update(stamps(*range(4)), prompts)
    assert held(both, prompts) == set("0123")


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any], metadata: dict[str, str] | None = None) -> None:
    tensors = dict(safetensors.numpy.load_file(path))
    with safetensors.safe_open(path, framework="np") as file:
        kept = file.metadata()
    change(tensors)
    safetensors.numpy.save_file(tensors, path, metadata or kept)


def damage_metadata(path: Path) -> None:
    rewrite(path, lambda tensors: None, {"promptgraft": "sketches 0"})


def damage_lacking(path: Path) -> None:
    rewrite(path, lambda tensors: tensors.pop("unit_mean"))


def damage_type(path: Path) -> None:
    rewrite(path, lambda tensors: tensors.update(direction=tensors["direction"].astype("f4")))


def damage_width(path: Path) -> None:
    rewrite(path, lambda tensors: tensors.update(unit_mean=tensors["unit_mean"][:, :2].copy()))


def damage_count(path: Path) -> None:
    rewrite(path, lambda tensors: tensors.update(norm=tensors["norm"][:2].copy()))


def damage_names(path: Path) -> None:
    rewrite(path, lambda tensors: tensors.update(names=np.frombuffer(b"0\n1", np.uint8)))


def damage_letters(path: Path) -> None:
    rewrite(path, lambda tensors: tensors.update(names=np.array([255, 254, 10, 0], np.uint8)))


def damage_stamps(path: Path) -> None:
    rewrite(path, lambda tensors: tensors.update(stamps=tensors["stamps"][:, :2].copy()))


def damage_flat(path: Path) -> None:
    rewrite(path, lambda tensors: tensors.update(direction=tensors["direction"].reshape(-1)))


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_no_whole_file_of_sketches_is_made_again(damage: Callable[[Path], None], tmp_path: Path) -> None:
    prompts = Prompts()
    SketchIndex(tmp_path / "s").update(stamps(*range(3)), prompts)
    [path] = files(tmp_path / "s")
    damage(path)
    prompts.asked.clear()
    index = SketchIndex(tmp_path / "s")
    index.update(stamps(*range(3)), prompts)
    assert sorted(prompts.asked) == ["0", "1", "2"]
    assert held(index, prompts) == set("012")
    prompts.asked.clear()
    index.update(stamps(*range(3)), prompts)
    assert prompts.asked == []


def test_altered_numbers_are_found_when_hashes_are_checked(tmp_path: Path) -> None:
    prompts = Prompts()
    SketchIndex(tmp_path / "s").update(stamps(*range(3)), prompts)
    [path] = files(tmp_path / "s")
    rewrite(path, lambda tensors: tensors.update(norm=tensors["norm"] + 1))
    prompts.asked.clear()
    index = SketchIndex(tmp_path / "s")
    index.update(stamps(*range(3)), prompts, verify=True)
    assert len(prompts.asked) == 3
    assert held(index, prompts) == set("012")


def test_nothing_outside_is_read_written_or_removed(tmp_path: Path) -> None:
    prompts, elsewhere = Prompts(), tmp_path / "elsewhere"
    SketchIndex(elsewhere).update(stamps(0), prompts)
    [path] = files(elsewhere)
    (elsewhere / "weights.safetensors").write_bytes(b"mine")
    linked = tmp_path / "linked"
    linked.symlink_to(elsewhere)
    index = SketchIndex(linked)
    index.update(stamps(0, 1), prompts)
    assert held(index, prompts) == {"0", "1"}  # in memory
    assert files(elsewhere) == sorted([path, elsewhere / "weights.safetensors"])
    real = tmp_path / "real"
    real.mkdir()
    (real / path.name).symlink_to(path)
    (real / "weights.safetensors").write_bytes(b"mine")
    (real / ("0" * 32 + ".safetensors")).mkdir()
    index = SketchIndex(real)
    index.update(stamps(0, 1), prompts, verify=True)
    assert held(index, prompts) == {"0", "1"}
    assert path.exists()
    assert (real / path.name).is_symlink()
    assert (real / "weights.safetensors").read_bytes() == b"mine"


def test_read_only_it_writes_and_removes_nothing(tmp_path: Path) -> None:
    prompts = Prompts()
    SketchIndex(tmp_path / "s").update(stamps(0), prompts)
    [path] = files(tmp_path / "s")
    path.write_bytes(b"")
    index = SketchIndex(tmp_path / "s", read_only=True)
    index.update(stamps(0, 1), prompts)
    assert held(index, prompts) == {"0", "1"}
    assert (files(tmp_path / "s"), path.read_bytes()) == ([path], b"")


def test_where_it_cannot_be_written_it_is_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("a file")
    index, prompts = SketchIndex(tmp_path / "s"), Prompts()
    index.update(stamps(*range(3)), prompts)
    assert held(index, prompts) == set("012")


def test_stamps_beyond_64_bits(tmp_path: Path) -> None:
    prompts, large = Prompts(), {"5": (-(2**40), 2, 2**64 - 1)}
    SketchIndex(tmp_path / "s").update(large, prompts)
    assert SketchIndex(tmp_path / "s").update(large, prompts) == Change(0, 0)


class TestOfALibrary:
    @pytest.fixture
    def library(self, make_prompt: Any, tmp_path: Path) -> PromptLibrary:
        library = PromptLibrary(tmp_path / "library")
        for seed in range(4):
            library.add(make_prompt(seed=seed, layers=1 + seed % 2), f"a/{seed}")
        return library

    def test_its_rows_are_those_that_enter_with_the_embeddings(self, library: PromptLibrary) -> None:
        index, change = index_of(library)
        assert (change, len(index)) == (Change(4, 0), 4)
        [segment] = segments_of([library[name] for name in library])
        found = contents(index)
        for place, name in enumerate(library):
            for field in FIELDS:
                np.testing.assert_array_equal(found[name][field], segment.sketches[field][place])

    def test_the_folder_is_the_truth(self, library: PromptLibrary, make_prompt: Any) -> None:
        index_of(library)
        library.remove("a/1")
        shutil.rmtree(library.folder / "a" / "2")
        library.add(make_prompt(seed=9), "a/2")
        library.add(make_prompt(seed=10), "b")
        index, change = index_of(library)
        assert (change.added, change.gone) == (2, 2)
        assert contents(index).keys() == set(library)
        assert library.names() == ["a/0", "a/2", "a/3", "b"]

    @pytest.mark.parametrize("damage", ["tensor", "nan", "card", "none"])
    def test_damaged_prompts_are_left_out_aloud(self, library: PromptLibrary, damage: str) -> None:
        folder = library.folder / "a" / "0"
        tensor = folder / "prompt.safetensors"
        if damage == "tensor":
            tensor.write_bytes(tensor.read_bytes()[:-1])
        elif damage == "nan":
            tensor.write_bytes(tensor.read_bytes()[:-4] + b"\xff\xff\xff\xff")
        elif damage == "card":
            (folder / "prompt.json").write_text("{}")
        else:
            tensor.unlink()
        with pytest.warns(UserWarning, match="'a/0' is left out: .*a/0"):
            index, _ = index_of(library)
        assert contents(index).keys() == {"a/1", "a/2", "a/3"}

    def test_dead_rows_do_not_count(self, make_prompt: Any, tmp_path: Path) -> None:
        prompt = make_prompt(length=5)
        said = prompt.card.prompt.model_copy(update={"dead_rows": (0, 3)})
        library = PromptLibrary(tmp_path / "l")
        library.add(make_prompt(length=5, prompt=said), "x")
        [fields] = contents(index_of(library)[0]).values()
        rows = np.delete(prompt.tensor[0].numpy(), [0, 3], axis=0)
        np.testing.assert_array_equal(fields["norm"], sketch([rows], [0])["norm"][0])

    @pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
    def test_in_a_folder_of_someone_else(self, library: PromptLibrary) -> None:
        library.folder.chmod(0o555)
        try:
            index, _ = index_of(library)
        finally:
            library.folder.chmod(0o755)
        assert len(index) == 4
        assert not (library.folder / FOLDER).exists()
