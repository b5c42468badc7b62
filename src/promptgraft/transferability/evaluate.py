"""How well an estimated ranking of prompts agrees with their measured transfer."""

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
    first, second = _pair(estimated, measured)
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
    first, second = _pair(estimated, measured)
    return float(100 * np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def _pair(
    estimated: ArrayLike | torch.Tensor, measured: ArrayLike | torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
