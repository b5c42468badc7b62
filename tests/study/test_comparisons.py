"""Pairs of source and target against other methods, on rows made by hand."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from promptgraft.study.comparisons import comparisons, gains

Accuracies = Mapping[tuple[str, str, str | None], Sequence[float | None]]


def compared(accuracies: Accuracies, backbone: str = "vit") -> list[dict[str, Any]]:
    """Compare methods by (method, target, source), with an accuracy for each seed."""
    rows, trials = [], []
    for number, ((method, target, source), values) in enumerate(accuracies.items()):
        keys = [f"{number}-{seed}" for seed in range(len(values))]
        rows.append({"backbone": backbone, "method": method, "target": target, "source": source, "trials": keys})
        trials += [
            {"key": key, "seed": seed, "test_accuracy": value}
            for seed, (key, value) in enumerate(zip(keys, values, strict=True))
        ]
    return comparisons(rows, trials)


def one(found: Sequence[dict[str, Any]], method: str, against: str) -> dict[str, Any]:
    (row,) = [row for row in found if (row["method"], row["against"]) == (method, against)]
    return row


def transfer(values: Mapping[str, Sequence[float]], linear: Sequence[float]) -> dict[Any, Any]:
    """One seed: `values` of `frozen` by source, over targets t0, t1, ...; `linear` over the same."""
    made: dict[Any, Any] = {("linear", f"t{place}", None): [value] for place, value in enumerate(linear)}
    for source, own in values.items():
        made |= {("frozen", f"t{place}", source): [value] for place, value in enumerate(own)}
    return made


def test_a_pair_is_relative_to_the_other_method_on_its_target() -> None:
    found = compared(transfer({"a": [0.55, 0.4], "b": [0.5, 0.9]}, linear=[0.5, 0.8]))
    assert [(row["method"], row["against"]) for row in found] == [("frozen", "linear")]
    (row,) = found
    values = {(cell["source"], cell["target"]): cell["value"] for cell in row["cells"]}
    expected = {("a", "t0"): 0.1, ("a", "t1"): -0.5, ("b", "t0"): 0.0, ("b", "t1"): 0.125}
    assert values == pytest.approx(expected)
    assert (row["above"], row["pairs"], row["targets"], row["share"]) == (2, 4, 2, 0.5)  # a tie is not above
    assert row["gain"] == pytest.approx(((0.1 + 0) / 2 + (-0.5 + 0.125) / 2) / 2)
    assert (row["low"], row["high"], row["p"]) == (None, None, None)  # two targets
    first = row["cells"][0]
    assert (first["accuracy"], first["reference"]) == (0.55, 0.5)


def test_only_seeds_that_both_have_are_compared() -> None:
    accuracies = {("linear", "t", None): [0.5, 0.8, None], ("frozen", "t", "a"): [0.6, None, 0.1]}
    (row,) = compared(accuracies)
    assert [(cell["accuracy"], cell["reference"]) for cell in row["cells"]] == [(0.6, 0.5)]
    assert compared({("linear", "t", None): [0.5, None], ("frozen", "t", "a"): [None, 0.1]}) == []


def test_methods_with_sources_are_compared_source_by_source() -> None:
    accuracies: Accuracies = {
        ("frozen", "t", "a"): [0.6],
        ("frozen", "t", "b"): [0.3],
        ("matched", "t", "a"): [0.5],
        ("random", "t", None): [0.4],
    }
    found = compared(accuracies)
    row = one(found, "frozen", "matched")
    assert (row["same_source"], row["sourced"], row["pairs"]) == (True, True, 1)
    assert [(cell["source"], cell["value"]) for cell in row["cells"]] == [("a", pytest.approx(0.2))]
    assert one(found, "matched", "random")["same_source"] is False
    assert {(row["method"], row["against"]) for row in found} == {
        *(("frozen", "matched"), ("matched", "frozen"), ("frozen", "random"), ("matched", "random"))
    }


def test_methods_without_sources_stand_beside_and_alone_say_nothing() -> None:
    both: Accuracies = {("linear", "t", None): [0.5], ("vpt", "t", None): [0.6]}
    assert compared(both) == []
    found = compared({**both, ("frozen", "t", "a"): [0.5]})
    row = one(found, "vpt", "linear")
    assert (row["sourced"], row["above"], row["pairs"]) == (False, 1, 1)
    assert row["cells"][0]["source"] is None


def test_p_flips_the_signs_of_whole_targets() -> None:
    # mean gains 0.2, 0.1, -0.02: of the 8 patterns of signs two reach the sum, as it is and with the last one flipped
    found = compared(transfer({"a": [0.7, 0.55, 0.48], "b": [0.5, 0.55, 0.5]}, linear=[0.5] * 3))
    assert found[0]["gain"] == pytest.approx((0.2 + 0.1 - 0.02) / 3)
    assert found[0]["p"] == pytest.approx(2 / 8)


def test_the_interval_is_that_of_drawing_targets_and_sources() -> None:
    # one of three targets is above with every source: a draw of targets holds k of it, so the share is k / 3
    found = compared(transfer({"a": [0.6, 0.4, 0.4], "b": [0.6, 0.4, 0.4]}, linear=[0.5] * 3))
    shares = [sum(place == 0 for place in draw) / 3 for draw in itertools.product(range(3), repeat=3)]
    assert sorted(shares).index(1.0) / len(shares) < 0.975  # more than 2.5 % of the draws
    assert (found[0]["low"], found[0]["high"]) == (0.0, 1.0)
    assert found[0]["share"] == pytest.approx(1 / 3)


def test_pairs_that_all_agree_have_no_interval() -> None:
    found = compared(transfer({"a": [0.4] * 4, "b": [0.3] * 4}, linear=[0.5] * 4))
    assert (found[0]["above"], found[0]["pairs"], found[0]["low"], found[0]["high"]) == (0, 8, None, None)
    assert found[0]["p"] == 1.0


def test_holes_are_left_out() -> None:
    accuracies = transfer({"a": [0.6, 0.6, 0.6], "b": [0.4, 0.4, 0.4]}, linear=[0.5, 0.5, 0.5])
    del accuracies["frozen", "t1", "b"]
    (row,) = compared(accuracies)
    assert (row["above"], row["pairs"], row["targets"]) == (3, 5, 3)
    assert row["gain"] == pytest.approx((0 + 0.2 + 0) / 3)


def test_gains_set_one_step_beside_the_next() -> None:
    linear, vpt = [0.5, 0.5, 0.4, 0.5, 0.5], [0.6, 0.55, 0.5, 0.5, 0.45]
    accuracies = transfer({"a": [0.66, 0.55, 0.6, 0.4, 0.3], "b": [0.6, 0.55, 0.6, 0.4, 0.3]}, linear)
    accuracies |= {("vpt", f"t{place}", None): [value] for place, value in enumerate(vpt)}
    (row,) = gains(compared(accuracies), "linear")
    assert (row["method"], row["against"], row["baseline"]) == ("frozen", "vpt", "linear")
    first = row["targets"][0]
    assert (first["x"], first["y"], first["low"], first["high"]) == pytest.approx((0.2, 0.05, 0.0, 0.1))
    # x: 0.2, 0.1, 0.25, 0, -0.1; y: 0.05, 0, 0.2, -0.2, -0.33: the same order
    assert row["correlation"] == pytest.approx(100)
    assert (row["low"], row["high"]) == (None, None)


def test_few_targets_have_no_correlation_and_the_baseline_no_step() -> None:
    accuracies = transfer({"a": [0.6, 0.5]}, linear=[0.5, 0.5])
    assert gains(compared(accuracies), "linear") == []
    accuracies |= {("vpt", "t0", None): [0.6], ("vpt", "t1", None): [0.4]}
    (row,) = gains(compared(accuracies), "linear")
    assert [row[name] for name in ("correlation", "low", "high")] == [None] * 3
    assert gains(compared(accuracies), None) == []
