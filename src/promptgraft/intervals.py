"""Accuracies with 95 % intervals, by the bootstrap over examples."""

import numpy as np
from numpy.typing import NDArray

from promptgraft.card import Score

RESAMPLES = 10_000
_Z = 1.959963984540054  # 97.5 % point of the normal distribution


def accuracy(correct: NDArray[np.bool_], seed: int = 0) -> Score:
    """Accuracy of N answers with its percentile bootstrap interval.

    Where all answers are alike (all right or all wrong) resampling cannot vary, so the bound is Wilson's.

    Args:
        correct: (N,) True where the answer was right.
        seed: of the resampling.
    """
    n, hits = len(correct), int(correct.sum())
    if hits in (0, n):
        edge = _Z**2 / (n + _Z**2)
        return Score(value=hits / n, low=1 - edge if hits else 0.0, high=1.0 if hits else edge, n=n)
    draws = np.random.default_rng(seed).binomial(n, hits / n, RESAMPLES) / n  # a resample of 0/1 answers is binomial
    low, high = np.quantile(draws, [0.025, 0.975])
    return Score(value=hits / n, low=float(low), high=float(high), n=n)


def paired_difference(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], seed: int = 0) -> Score:
    """Difference in accuracy (ours - theirs) on the same N examples, with its paired bootstrap interval.

    Args:
        ours: (N,) True where our answer was right.
        theirs: (N,) the same examples in the same order.
        seed: of the resampling.
    """
    n = len(ours)
    wins, losses = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    # resampling pairs is a multinomial draw over win / loss / tie
    draws = np.random.default_rng(seed).multinomial(n, [wins / n, losses / n, (n - wins - losses) / n], RESAMPLES)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / n, [0.025, 0.975])
    return Score(value=(wins - losses) / n, low=float(low), high=float(high), n=n)
