"""`promptgraft bench library`: its shares of misses are those of the sketches, and its prompts repeat."""

import time
from typing import Any

import numpy as np
import pytest

from promptgraft.bench import library as bench
from promptgraft.bench.library import library
from promptgraft.transferability import gap_sketch
from promptgraft.transferability.sketch_index import SketchIndex


def test_what_the_shortlist_misses_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {row.name: row for row in library("smoke")}
    assert rows.keys() == {f"library-{name}" for name in ("gap", "mean-cosine", "append", "index", "folders")}
    assert rows["library-gap"].error < 0.2
    assert rows["library-mean-cosine"].error == 0
    assert "20 of 100" in rows["library-gap"].note
    monkeypatch.setattr(
        gap_sketch, "_products", lambda direction, matrix: 9 * np.ones((len(direction), matrix.shape[1]))
    )
    assert {row.name: row for row in library("smoke")}["library-gap"].error > rows["library-gap"].error + 0.1


def test_prompts_are_made_alike_and_their_making_is_not_counted(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = bench._sources("smoke")
    made, again = bench._Synthetic(sources), bench._Synthetic(sources)
    first, second, same = made("3"), made("4"), again("3")
    np.testing.assert_array_equal(first[0], same[0])
    assert first[1] == same[1]
    assert not np.array_equal(first[0], second[0])
    assert first[0].shape == sources[0].shape
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    make = made._make

    def slow(number: int) -> Any:
        now[0] += 5
        return make(number)

    monkeypatch.setattr(made, "_make", slow)
    assert made.index(SketchIndex(tmp_path / "s"), {"3": (1, 1, 1), "4": (1, 1, 1)}) == 0
