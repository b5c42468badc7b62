import numpy as np
import pytest

from promptgraft.errors import InputError
from promptgraft.intervals import RESAMPLES, accuracy, paired_difference


def answers(n, hits, seed=0):
    return np.random.default_rng(seed).permutation(np.arange(n) < hits)


@pytest.mark.parametrize(("n", "hits"), [(40, 29), (150, 140), (12, 1)])
def test_accuracy_is_the_percentile_bootstrap(n, hits):
    correct = answers(n, hits)
    rows = np.random.default_rng(7).integers(n, size=(RESAMPLES, n))
    low, high = np.quantile(correct[rows].mean(1), [0.025, 0.975])
    score = accuracy(correct)
    assert (score.value, score.n) == (hits / n, n)
    assert abs(score.low - low) <= 1 / n + 1e-12  # quantiles of a discrete distribution may step by one example
    assert abs(score.high - high) <= 1 / n + 1e-12
    assert 0 <= score.low < score.value < score.high <= 1


def test_paired_difference_is_the_bootstrap_over_examples():
    n = 80
    ours, theirs = answers(n, 60, 1), answers(n, 48, 2)
    rows = np.random.default_rng(7).integers(n, size=(RESAMPLES, n))
    low, high = np.quantile((ours[rows].mean(1) - theirs[rows].mean(1)), [0.025, 0.975])
    score = paired_difference(ours, theirs)
    assert score.value == pytest.approx(12 / n)
    assert abs(score.low - low) <= 1 / n + 1e-12
    assert abs(score.high - high) <= 1 / n + 1e-12


def test_pairing_matters():
    ours = answers(100, 70)
    theirs = ours.copy()
    theirs[np.flatnonzero(ours)[:5]] = False  # the same answers but for five
    score = paired_difference(ours, theirs)
    assert score.low > 0
    assert score.high < accuracy(ours).high - accuracy(theirs).low


def test_seeds_repeat():
    correct = answers(50, 33)
    assert accuracy(correct) == accuracy(correct)
    assert accuracy(correct) == accuracy(correct[::-1])
    assert paired_difference(correct, answers(50, 20)) == paired_difference(correct, answers(50, 20))


@pytest.mark.parametrize("n", [1, 10, 1000])
def test_all_right_or_all_wrong_has_wilsons_bound(n):
    z2 = 1.959963984540054**2
    right, wrong = accuracy(np.ones(n, bool)), accuracy(np.zeros(n, bool))
    assert (right.value, right.high) == (1, 1)
    assert (wrong.value, wrong.low) == (0, 0)
    # Wilson's interval solves (p - hits / n)^2 = z^2 p (1 - p) / n
    assert (1 - right.low) ** 2 == pytest.approx(z2 * right.low * (1 - right.low) / n)
    assert wrong.high**2 == pytest.approx(z2 * wrong.high * (1 - wrong.high) / n)


@pytest.mark.parametrize("n", [1, 20])
def test_no_certainty_where_all_pairs_are_alike(n):
    yes, no = np.ones(n, bool), np.zeros(n, bool)
    tied, won, lost = paired_difference(yes, yes), paired_difference(yes, no), paired_difference(no, yes)
    assert (tied.value, won.value, lost.value) == (0, 1, -1)
    assert -1 < tied.low < 0 < tied.high < 1
    assert -tied.low == tied.high
    assert won.high == 1
    assert -1 <= won.low < 1
    assert (lost.low, lost.high) == (-won.high, -won.low)
    assert (won.low > 0) == (n == 20)  # one example proves nothing, twenty of twenty do


def test_no_examples_is_an_error():
    none = np.zeros(0, bool)
    with pytest.raises(InputError, match="no examples"):
        accuracy(none)
    with pytest.raises(InputError, match="no examples"):
        paired_difference(none, none)
    with pytest.raises(InputError, match="3 and to 2"):
        paired_difference(np.ones(3, bool), np.ones(2, bool))
