"""Weights of sources over seeds, on results made by hand."""

from typing import Any

import pytest

from promptgraft.study.store import Record
from promptgraft.study.weights import source_weights


def record(target: str, method: str, seed: int, **result: Any) -> Record:
    labels = {"backbone": "vit", "target": target, "method": method, "seed": seed, "source": "all"}
    return Record(f"{target}{method}{seed}", "train", "done", labels, None, None, None, result or None, None, None)


def test_means_over_seeds() -> None:
    rows = source_weights(
        [
            record("t", "hgprompt", 0, sources=["a", "b"], weights=[0.2, 0.8], gradient_cosines=[[1, 0.5], [0.5, 1]]),
            record("t", "hgprompt", 1, sources=["a", "b"], weights=[0.4, 0.6], gradient_cosines=[[1, 0.1], [0.1, 1]]),
            record("t", "hgprompt", 2),
            record("t", "linear", 0, test_accuracy=0.5),
            record("u", "spot", 0, sources=["b", "c"], weights=[0.0, 1.0]),
        ]
    )
    assert [(row["target"], row["method"], row["n"], row["sources"]) for row in rows] == [
        ("t", "hgprompt", 2, ["a", "b"]),
        ("u", "spot", 1, ["b", "c"]),
    ]
    assert rows[0]["weights"] == pytest.approx([0.3, 0.7])
    assert rows[0]["cosines"] == [[1, pytest.approx(0.3)], [pytest.approx(0.3), 1]]
    assert rows[1]["cosines"] is None
    assert rows[1]["backbone"] == "vit"


def test_a_seed_that_took_other_sources() -> None:
    (row,) = source_weights(
        [
            record("t", "hgprompt", 0, sources=["a", "b"], weights=[0.2, 0.8], gradient_cosines=[[1, 0.5], [0.5, 1]]),
            record("t", "hgprompt", 1, sources=["b", "c"], weights=[0.6, 0.4], gradient_cosines=[[1, 0.1], [0.1, 1]]),
        ]
    )
    assert row["sources"] == ["a", "b", "c"]
    assert row["weights"] == pytest.approx([0.1, 0.7, 0.2])
    assert row["cosines"] == [[1, 0.5, None], [0.5, 1, 0.1], [None, 0.1, 1]]


def test_a_study_that_weighs_nothing_has_no_rows() -> None:
    assert source_weights([record("t", "concatenation", 0, sources=["a", "b"])]) == []
