"""`regret`, `agreement_interval` and `paired_test` against written-out enumeration and resampling."""

import itertools

import numpy as np
import pytest
from scipy import stats

from promptgraft.errors import InputError
from promptgraft.transferability import agreement_interval, kendall, paired_test, regret, resampling, spearman


@pytest.mark.parametrize("top", [1, 2, 3, 5])
def test_regret_is_the_mean_over_all_orders_of_ties(top):
    estimated, measured = [3, 1, 2, 2, 2], [0.6, 0.9, 0.5, 0.8, 0.7]
    lost = []
    for order in itertools.permutations(range(5)):
        ranked = sorted(order, key=lambda i: -estimated[i])  # stable: ties stay in this order
        lost.append(0.9 - max(measured[i] for i in ranked[:top]))
    assert regret(estimated, measured, top=top) == pytest.approx(np.mean(lost), abs=1e-12)


def test_regret_without_ties():
    assert regret([1, 3, 2], [0.9, 0.5, 0.7]) == pytest.approx(0.4)
    assert regret([1, 3, 2], [0.9, 0.5, 0.7], top=2) == pytest.approx(0.2)
    assert regret([3, 1, 2], [0.9, 0.5, 0.7]) == 0


@pytest.mark.parametrize(
    ("estimated", "measured", "top", "message"),
    [
        ([1, 2], [1, 2], 0, "top is 0"),
        ([1, 2], [1, 2], 3, "top is 3. Give a number of prompts from 1 to 2"),
        ([1, 1], [1, 2], 1, "all 2 estimated scores are 1"),
        ([1, 2], [1, np.nan], 1, "measured transfer of prompt 1 is nan"),
    ],
)
def test_regret_refuses(estimated, measured, top, message):
    with pytest.raises(InputError, match=message):
        regret(estimated, measured, top=top)


def make(targets=4, sources=5, seed=0):
    rng = np.random.default_rng(seed)
    measured = rng.normal(0, 1, (targets, sources))
    estimated = np.round(2 * measured + rng.normal(0, 1, measured.shape))  # ties
    estimated[0, 1], measured[2, 4] = np.nan, np.nan
    return estimated, measured


def literal_kendall(pairs, who):
    """tau-a of a resample: pairs of a source with itself are no pairs."""
    signs = [
        np.sign(pairs[i][0] - pairs[j][0]) * np.sign(pairs[i][1] - pairs[j][1])
        for i, j in itertools.combinations(range(len(pairs)), 2)
        if who[i] != who[j]
    ]
    return 100 * np.mean(signs) if signs else np.nan


def literal_spearman(pairs, who):
    first, second = np.array(pairs).T
    if len(set(first)) < 2 or len(set(second)) < 2:
        return np.nan
    return 100 * stats.spearmanr(first, second).statistic


@pytest.mark.parametrize(("measure", "literal"), [("kendall", literal_kendall), ("spearman", literal_spearman)])
def test_interval_equals_literal_resampling(measure, literal, monkeypatch):
    monkeypatch.setattr(resampling, "_RESAMPLES", 60)
    estimated, measured = make()
    targets, sources = estimated.shape
    generator = np.random.default_rng(7)
    which_sources = generator.multinomial(sources, np.full(sources, 1 / sources), 60)
    which_targets = generator.multinomial(targets, np.full(targets, 1 / targets), 60)
    means = []
    for source_counts, target_counts in zip(which_sources, which_targets, strict=True):
        values = []
        for target in np.repeat(np.arange(targets), target_counts):
            drawn = [
                source
                for source in np.repeat(np.arange(sources), source_counts)
                if not np.isnan(estimated[target, source] + measured[target, source])
            ]
            pairs = [(estimated[target, source], measured[target, source]) for source in drawn]
            values.append(literal(pairs, drawn) if len(pairs) > 1 else np.nan)
        if not np.isnan(values).all():
            means.append(np.nanmean(values))
    found = agreement_interval(estimated, measured, measure=measure, seed=7)
    assert found[1:] == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-9)
    plain = {"kendall": kendall, "spearman": spearman}[measure]
    there = ~np.isnan(estimated + measured)
    expected = np.mean([plain(e[t], m[t]) for e, m, t in zip(estimated, measured, there, strict=True)])
    assert found.value == pytest.approx(expected)


def test_interval_narrows_with_more_targets_and_sources():
    few, many = (agreement_interval(*make(*shape)) for shape in ((3, 6), (20, 30)))
    assert many.high - many.low < few.high - few.low
    assert many.low < many.value < many.high


@pytest.mark.parametrize(
    ("estimated", "measured", "how", "message"),
    [
        ([[1, 2]], [[1, 2], [2, 1]], {}, r"estimated is \(1, 2\), measured is \(2, 2\)"),
        ([1, 2], [1, 2], {}, r"estimated must be .*\(targets, sources\); got shape \(2,\)"),
        ([[1, np.inf]], [[1, 2]], {}, "estimated must be finite"),
        ([[1, 2], [1, 1]], [[1, 2], [1, 2]], {}, "target 1: all 2 estimated scores are 1"),
        (
            [[1, 2], [1, np.nan]],
            [[1, 2], [1, 2]],
            {},
            "target 1: .* at least two prompts, got 1",
        ),
        ([[1, 2]], [[1, 2]], {"measure": "pearson"}, "no measure 'pearson'"),
    ],
)
def test_interval_refuses(estimated, measured, how, message):
    with pytest.raises(InputError, match=message):
        agreement_interval(estimated, measured, **how)


def test_paired_test_counts_sign_patterns():
    ours, theirs = np.array([40.0, 10.0, 30.0, 25.0]), np.array([10.0, 20.0, 10.0, 25.0])
    differences = ours - theirs
    patterns = list(itertools.product([1, -1], repeat=4))
    expected = np.mean([np.dot(signs, differences) >= differences.sum() for signs in patterns])
    assert paired_test(ours, theirs) == (10.0, pytest.approx(expected))
    assert paired_test([1, 1, 1, 1, 1], np.zeros(5)).p == 2**-5
    assert paired_test([1, 2], [1, 2]) == (0, 1)


def test_many_targets_are_sampled_near_the_exact_value(monkeypatch):
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.4, 1, 10), rng.normal(0, 1, 10)
    exact = paired_test(ours, theirs).p
    monkeypatch.setattr(resampling, "_EXACT", 5)
    sampled = [paired_test(ours, theirs, seed=seed).p for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]
    assert sampled == pytest.approx([exact] * 3, abs=0.02)


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ([], [], "0 and 0 targets cannot be paired"),
        ([1.0], [1.0, 2.0], "1 and 2 targets"),
        ([1.0, np.nan], [1.0, 2.0], "our agreement of target 1 is nan. Leave targets without"),
    ],
)
def test_paired_test_refuses(ours, theirs, message):
    with pytest.raises(InputError, match=message):
        paired_test(ours, theirs)


def test_rows_of_one_target_are_averaged_and_drawn_together():
    estimated, measured = make()
    named = agreement_interval(estimated, measured, targets=list("abcd"), seed=3)
    assert named == agreement_interval(estimated, measured, seed=3)
    taus = [kendall(*(side[~np.isnan(e + m)] for side in (e, m))) for e, m in zip(estimated, measured, strict=True)]
    together = agreement_interval(estimated, measured, targets=list("abba"))
    assert together.value == pytest.approx(((taus[0] + taus[3]) / 2 + (taus[1] + taus[2]) / 2) / 2)
    # a row that stands there three times is one target: it adds no certainty
    alone, thrice = (agreement_interval(estimated[[1] * n], measured[[1] * n], targets="x" * n) for n in (1, 3))
    assert thrice == pytest.approx(alone)
    with pytest.raises(InputError, match="3 targets are named for 4 rows"):
        agreement_interval(estimated, measured, targets="abc")
