"""How well an estimated ranking of prompts agrees with their measured transfer."""

from math import comb

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from promptgraft.errors import InputError
from promptgraft.transferability.arrays import as_scores


def kendall(estimated: ArrayLike | torch.Tensor, measured: ArrayLike | torch.Tensor) -> float:
    """Kendall's tau-a x 100: concordant minus discordant pairs, over all M (M - 1) / 2 pairs.

    A pair tied on either side counts for neither and stays in the denominator. Table 2 of Zhang et al., "Release the
    Powers of Prompt Tuning", follows from its table 12 in this way and no other.

    Args:
        estimated: (M,) scores, larger = transfers better.
        measured: (M,) measured transfer, larger = better.

    Returns:
        A number in [-100, 100].

    Raises:
        InputError: fewer than two prompts, different lengths, values that are not finite, or all values equal.
    """
    first, second = check_pair(estimated, measured)
    signs = np.sign(first[:, None] - first) * np.sign(second[:, None] - second)  # every pair twice
    return float(100 * signs.sum() / (len(first) * (len(first) - 1)))


def spearman(estimated: ArrayLike | torch.Tensor, measured: ArrayLike | torch.Tensor) -> float:
    """Spearman's rank correlation x 100, ties at their mean rank.

    Args:
        estimated: (M,) scores, larger = transfers better.
        measured: (M,) measured transfer, larger = better.

    Returns:
        A number in [-100, 100].

    Raises:
        InputError: fewer than two prompts, different lengths, values that are not finite, or all values equal.
    """
    first, second = check_pair(estimated, measured)
    return float(100 * np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def regret(estimated: ArrayLike | torch.Tensor, measured: ArrayLike | torch.Tensor, *, top: int = 1) -> float:
    """Measured transfer lost by trying only the `top` prompts that are ranked first, and keeping the best of them.

    Where scores tie at the border, the mean over all orders of the tied prompts.

    Args:
        estimated: (M,) scores, larger = transfers better.
        measured: (M,) measured transfer, larger = better.
        top: how many prompts are tried, 1 to M.

    Returns:
        A loss, 0 or more, in the unit of `measured`.

    Raises:
        InputError: fewer than two prompts, different lengths, values that are not finite, all values equal, or `top`
            out of range.
    """
    scores, reached = check_pair(estimated, measured)
    if not 1 <= top <= len(scores):
        raise InputError(f"top is {top}. Give a number of prompts from 1 to {len(scores)}.")
    border = np.sort(scores)[-top]
    sure, tied = reached[scores > border], np.sort(reached[scores == border])
    drawn, best_sure = top - len(sure), sure.max(initial=-np.inf)
    # of `drawn` out of the tied ones the i-th smallest is the largest in comb(i, drawn - 1) ways
    ways = [comb(index, drawn - 1) for index in range(len(tied))]
    expected = sum(way * max(value, best_sure) for way, value in zip(ways, tied, strict=True)) / sum(ways)
    return float(reached.max() - expected)


def check_pair(
    estimated: ArrayLike | torch.Tensor, measured: ArrayLike | torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """See estimated and measured values as two arrays (M,) that can be ranked.

    Raises:
        InputError: fewer than two prompts, different lengths, values that are not finite, or all values equal.
    """
    pair = as_scores(estimated, "the estimated score"), as_scores(measured, "the measured transfer")
    if len(pair[0]) != len(pair[1]):
        raise InputError(f"{len(pair[0])} estimated but {len(pair[1])} measured values. Give one of each per prompt.")
    if len(pair[0]) < 2:
        raise InputError(f"a rank correlation needs at least two prompts, got {len(pair[0])}.")
    for values, what in zip(pair, ("estimated scores", "measured values"), strict=True):
        if (values == values[0]).all():
            raise InputError(
                f"all {len(values)} {what} are {values[0]:g}: they rank nothing, and no correlation is defined."
            )
    return pair
