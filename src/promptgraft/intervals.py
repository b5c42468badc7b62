"""Accuracies with 95 % intervals, by the bootstrap over examples."""

import numpy as np
from numpy.typing import NDArray

from promptgraft.card import Score
from promptgraft.errors import InputError

RESAMPLES = 10_000
_Z = 1.959963984540054  # 97.5 % point of the normal distribution


def accuracy(correct: NDArray[np.bool_], seed: int = 0) -> Score:
    """Accuracy of N answers with its percentile bootstrap interval.

    Where all answers are alike (all right or all wrong) resampling cannot vary, so the bound is Wilson's.

    Args:
        correct: (N,) True where the answer was right.
        seed: of the resampling.

    Raises:
        InputError: there are no answers.
    """
    n, hits = _count(correct), int(correct.sum())
    if hits in (0, n):
        return Score(value=hits / n, low=1 - _unseen(n) if hits else 0.0, high=1.0 if hits else _unseen(n), n=n)
    draws = np.random.default_rng(seed).binomial(n, hits / n, RESAMPLES) / n  # a resample of 0/1 answers is binomial
    low, high = np.quantile(draws, [0.025, 0.975])
    return Score(value=hits / n, low=float(low), high=float(high), n=n)


def paired_difference(ours: NDArray[np.bool_], theirs: NDArray[np.bool_], seed: int = 0) -> Score:
    """Difference in accuracy (ours - theirs) on the same N examples, with its paired bootstrap interval.

    Where all pairs are alike (all won, all lost, or all tied) resampling cannot vary, so the bound is Wilson's on
    the pairs of another kind.

    Args:
        ours: (N,) True where our answer was right.
        theirs: (N,) the same examples in the same order.
        seed: of the resampling.

    Raises:
        InputError: there are no answers, or not as many of ours as of theirs.
    """
    n = _count(ours)
    if len(theirs) != n:
        raise InputError(f"answers to {n} and to {len(theirs)} examples cannot be paired. Answer the same examples.")
    wins, losses = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    value = (wins - losses) / n
    if n in (wins, losses, n - wins - losses):
        reach = (1 + abs(value)) * _unseen(n)  # a pair of another kind moves a tie by 1, a win or a loss by up to 2
        return Score(value=value, low=max(value - reach, -1.0), high=min(value + reach, 1.0), n=n)
    # resampling pairs is a multinomial draw over win / loss / tie
    draws = np.random.default_rng(seed).multinomial(n, [wins / n, losses / n, (n - wins - losses) / n], RESAMPLES)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / n, [0.025, 0.975])
    return Score(value=value, low=float(low), high=float(high), n=n)


def _count(answers: NDArray[np.bool_]) -> int:
    if len(answers) == 0:
        raise InputError("there are no examples to take an accuracy of. Add some to the split.")
    return len(answers)


def _unseen(n: int) -> float:
    """Wilson's upper 95 % bound for the share of what was not seen in n draws."""
    return _Z**2 / (n + _Z**2)
