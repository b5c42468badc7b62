"""Estimators against measured transfer, and against the prompt's norm."""

from typing import Any

import pytest

from promptgraft.study.agreement import agreement, overall
from promptgraft.transferability.resampling import agreement_interval

REACHED = {"a": 0.8, "b": 0.7, "c": 0.6, "d": 0.5}
IN_ORDER, REVERSED, SWAPPED = (4.0, 3.0, 2.0, 1.0), (1.0, 2.0, 3.0, 4.0), (3.0, 4.0, 2.0, 1.0)  # tau-a 100, -100, 67


def estimates(estimator: str, scores: tuple[float | None, ...], target: str = "photos", seed: int = 0) -> list[Any]:
    where = {"backbone": "vit", "target": target, "estimator": estimator, "method": "frozen", "seed": seed}
    pairs = zip(REACHED.items(), scores, strict=True)
    return [where | {"source": name, "measured": reached, "score": score} for (name, reached), score in pairs]


def test_regrets_are_of_the_one_and_the_three_first() -> None:
    (row,) = agreement(estimates("gap", (1.0, 4.0, 3.0, 2.0)))
    assert row["kendall"] == pytest.approx(0.0)  # of six pairs the three with `a` are wrong
    assert (row["top1_regret"], row["top3_regret"]) == pytest.approx((0.1, 0.1))
    (row,) = agreement(estimates("gap", (2.0, 1.0, 3.0, 4.0)))
    assert (row["top1_regret"], row["top3_regret"]) == pytest.approx((0.3, 0.0))


def test_of_two_equal_scores_the_regret_is_the_mean() -> None:
    (row,) = agreement(estimates("volume", (1.0, 5.0, 5.0, 1.0)))
    assert row["top1_regret"] == pytest.approx(0.15)


def test_two_sources_have_no_third() -> None:
    (row,) = agreement(estimates("gap", (2.0, 1.0, None, None)))
    assert (row["n"], row["kendall"], row["top3_regret"]) == (2, 100.0, None)


def test_overall_is_the_mean_with_interval_and_the_test_against_the_norm() -> None:
    names = [f"target {number}" for number in range(5)]
    gap = [IN_ORDER, IN_ORDER, SWAPPED, IN_ORDER, IN_ORDER]
    norm = [SWAPPED, REVERSED, SWAPPED, SWAPPED, SWAPPED]
    rows = [row for name, scores in zip(names, gap, strict=True) for row in estimates("gap", scores, name)]
    rows += [row for name, scores in zip(names, norm, strict=True) for row in estimates("norm", scores, name)]
    first, second = overall(rows)
    assert (first["estimator"], first["targets"], second["estimator"]) == ("gap", 5, "norm")
    assert first["kendall"] == pytest.approx((4 * 100 + 200 / 3) / 5)
    expected = agreement_interval(gap, [list(REACHED.values())] * 5)
    assert (first["low"], first["high"]) == (expected.low, expected.high)
    # differences 33, 200, 0, 33, 33: of 32 patterns of signs only those that flip nothing, or the zero, reach the sum
    assert first["difference"] == pytest.approx((3 * 100 / 3 + 200) / 5)
    assert first["p"] == pytest.approx(2 / 32)
    assert first["against"] == "norm"
    assert (second["against"], second["difference"], second["p"]) == (None, None, None)


def test_without_the_norm_nothing_is_tested() -> None:
    (row,) = overall(estimates("gap", IN_ORDER))
    assert row["kendall"] == 100.0
    assert (row["against"], row["difference"], row["p"]) == (None, None, None)


def test_a_target_without_a_coefficient_leaves_all_open() -> None:
    rows = estimates("gap", IN_ORDER) + estimates("gap", (1.0, 1.0, 1.0, 1.0), "texts") + estimates("norm", IN_ORDER)
    first, second = overall(rows)
    assert first["targets"] == 2
    assert [first[name] for name in ("kendall", "low", "high", "against", "p")] == [None] * 5
    assert second["kendall"] == 100.0
