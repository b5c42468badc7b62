"""Sketches of a library's prompts: an index that only saves time, and the prompts that it is made of."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hostile.mutations import files_of, lay, spoiled
from hostile.searching import Search, attempt
from promptgraft.errors import InputError, PromptFileError
from promptgraft.library import PromptLibrary
from promptgraft.prompt import SoftPrompt, read_first_layer
from promptgraft.transferability.base import ESTIMATORS, Evidence
from promptgraft.transferability.shortlist import make_shortlist
from promptgraft.transferability.sketch_index import FOLDER, SketchIndex, index_of

STAMPS = dict.fromkeys(("a", "b", "c"), (1, 2, 3))
ROWS = np.random.default_rng(0).normal(0, 1, (20, 16)).astype("f4")


@pytest.fixture(scope="module")
def sketches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("sketches")
    SketchIndex(folder).update(STAMPS, lambda name: (ROWS[:4], 5.0))
    return files_of(folder)


def shortlisted(folder: Path) -> None:
    index = SketchIndex(folder)
    index.update(STAMPS, lambda name: (ROWS[:4], 5.0))
    target = Evidence([], [], lambda: ROWS, lambda: ROWS, lambda rows: ROWS)
    for name in ("gap", "gap-rbf", "gap-linear", "mean-cosine", "norm", "volume"):
        try:
            found = make_shortlist(index.segments, ESTIMATORS[name], target, 2)
        except InputError as error:
            assert "no prompt of the library has a score" in str(error)  # noqa: PT017
        else:
            assert set(found.names) < STAMPS.keys()
            assert found.misses(np.zeros(len(found.names))) >= 0


def test_sketches(search: Search, sketches: dict[str, bytes]) -> None:
    search(shortlisted, spoiled(sketches))


@pytest.mark.parametrize("odd", ["pipe", "device", "loop", "outside", "folder"])
def test_an_index_waits_for_nothing(odd: str, sketches: dict[str, bytes], tmp_path: Path) -> None:
    folder = lay(dict.fromkeys(sketches, odd), tmp_path / "folder")  # type: ignore[arg-type]
    assert attempt(lambda: shortlisted(folder))


@pytest.fixture(scope="module")
def library(make_prompt: Callable[..., SoftPrompt], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    library = PromptLibrary(tmp_path_factory.mktemp("libraries") / "library")
    for seed, name in enumerate(["text/a", "b"]):
        library.add(make_prompt(seed=seed, layers=1 + seed), name)
    return files_of(library.folder)


def indexed(folder: Path) -> None:
    """What is sketched is what a full read gives, or what that refuses."""
    library = PromptLibrary(folder)
    index, _ = index_of(library)
    for segment in index.segments:
        for name in segment.names:
            card, rows = read_first_layer(folder / name)
            try:
                whole = library[name]
            except PromptFileError:
                continue
            assert card == whole.card
            np.testing.assert_array_equal(rows, whole.tensor[0].numpy()[: len(rows)])


def test_prompts(search: Search, library: dict[str, bytes]) -> None:
    search(indexed, spoiled(library))


@pytest.mark.parametrize("odd", ["pipe", "device", "loop", "outside", "folder"])
@pytest.mark.parametrize("name", ["b/prompt.json", "b/prompt.safetensors", FOLDER])
def test_indexing_waits_for_nothing(name: str, odd: str, library: dict[str, bytes], tmp_path: Path) -> None:
    folder = lay({**library, name: odd}, tmp_path / "library")  # type: ignore[dict-item]
    assert attempt(lambda: indexed(folder))
