"""How sure an estimator's agreement with measured transfer is: its interval, and a test against another estimator."""

from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from promptgraft.errors import InputError
from promptgraft.transferability.arrays import as_array, as_scores
from promptgraft.transferability.evaluate import check_pair

Grid = NDArray[np.float64]

_RESAMPLES = 2_000
_EXACT, _FLIPS = 14, 20_000


class Agreement(NamedTuple):
    """Mean agreement over targets, x 100, with its 95 % interval."""

    value: float
    low: float
    high: float


def agreement_interval(
    estimated: ArrayLike | torch.Tensor,
    measured: ArrayLike | torch.Tensor,
    *,
    measure: Literal["kendall", "spearman"] = "kendall",
    targets: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Agreement:
    """Mean over targets of a rank correlation, with a percentile interval by the bootstrap over targets and sources.

    Both are drawn anew with replacement, 2,000 times, the sources alike for all targets: the interval is about other
    tasks of both kinds. A source that is drawn twice makes no pair with itself, which keeps `kendall` from shrinking.

    Args:
        estimated: (T, M) scores of M sources on T targets, larger = transfers better; NaN where there is none.
        measured: (T, M) measured transfer, larger = better; NaN where there is none.
        measure: "kendall" or "spearman".
        targets: (T,) which target each row is about, where several rows, such as those of two transfer methods, are
            about one: they are averaged, and drawn together. By default each row is about a target of its own.
        seed: of the resampling.

    Raises:
        InputError: shapes that differ, infinite values, an unknown measure, or a target with fewer than two sources or
            with all values equal.
    """
    first, second = _grid(estimated, "estimated"), _grid(measured, "measured")
    if first.shape != second.shape or not first.size:
        raise InputError(f"estimated is {first.shape}, measured is {second.shape}. Give both as (targets, sources).")
    if measure not in ("kendall", "spearman"):
        raise InputError(f"there is no measure {measure!r}. Known: kendall, spearman.")
    rows, sources = first.shape
    about = list(range(rows) if targets is None else targets)
    if len(about) != rows:
        raise InputError(f"{len(about)} targets are named for {rows} rows. Name the target of each row.")
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(sources, np.full(sources, 1 / sources), _RESAMPLES)
    weights = np.vstack([np.ones(sources), draws])  # the first row is the sample itself
    values = np.empty((len(weights), rows))
    for row, (scores, reached) in enumerate(zip(first, second, strict=True)):
        there = ~np.isnan(scores) & ~np.isnan(reached)
        try:
            pair = check_pair(scores[there], reached[there])
        except InputError as error:
            raise InputError(f"target {row}: {error}") from error
        ours, theirs = (np.sign(side[:, None] - side) for side in pair)
        values[:, row] = 100 * _WEIGHTED[measure](ours, theirs, weights[:, there])
    parts = [values[:, [name == target for name in about]] for target in dict.fromkeys(about)]
    values = np.stack([_ratio(np.nansum(part, 1), (~np.isnan(part)).sum(1)) for part in parts], 1)
    count = len(parts)
    times = np.vstack([np.ones(count), generator.multinomial(count, np.full(count, 1 / count), _RESAMPLES)])
    times = np.where(np.isnan(values), 0, times)  # a draw without a pair says nothing of that target
    with np.errstate(invalid="ignore"):
        means = (times * np.nan_to_num(values)).sum(1) / times.sum(1)
    low, high = np.nanquantile(means[1:], [0.025, 0.975])
    return Agreement(float(means[0]), float(low), float(high))


class PairedTest(NamedTuple):
    """Mean difference over targets, and the one-sided p-value of "no better than the other"."""

    difference: float
    p: float


def paired_test(ours: ArrayLike | torch.Tensor, theirs: ArrayLike | torch.Tensor, *, seed: int = 0) -> PairedTest:
    """Whether one estimator agrees better with measured transfer than another, such as `norm`, on the same targets.

    A sign-flip permutation test: were the estimators equally good, each target's difference could as well have the
    other sign. All 2^T sign patterns up to T = 14 targets, else 20,000 at random. The least p is 2^-T, so fewer than
    five targets cannot give 0.05.

    Args:
        ours: (T,) agreement of one estimator on each target, such as `kendall`; larger = better.
        theirs: (T,) that of the other, on the same targets in the same order.
        seed: of the random patterns.

    Raises:
        InputError: no targets, different lengths, or values that are not finite.
    """
    pair = as_scores(ours, "our agreement", "target"), as_scores(theirs, "their agreement", "target")
    if len(pair[0]) != len(pair[1]) or not len(pair[0]):
        raise InputError(
            f"{len(pair[0])} and {len(pair[1])} targets cannot be paired. Measure both estimators on the same targets."
        )
    differences = pair[0] - pair[1]
    targets = len(differences)
    if targets <= _EXACT:
        negative = np.arange(2**targets)[:, None] >> np.arange(targets) & 1
    else:
        negative = np.random.default_rng(seed).integers(0, 2, (_FLIPS, targets))
        negative[0] = 0  # the pattern that was seen
    sums = (1 - 2 * negative) @ differences
    p = (sums >= differences.sum() - 1e-9 * np.abs(differences).sum()).mean()  # equal sums in spite of rounding
    return PairedTest(float(differences.mean()), float(p))


def _kendall_of(first: Grid, second: Grid, weights: Grid) -> Grid:
    """tau-a of R weightings (R, M) of sources, from the signs (M, M) of the differences of two rankings; (R,)."""
    pairs = weights.sum(1) ** 2 - (weights**2).sum(1)
    return _ratio(((weights @ (first * second)) * weights).sum(1), pairs)


def _spearman_of(first: Grid, second: Grid, weights: Grid) -> Grid:
    """Spearman's correlation, as `_kendall_of`: summed signs are ranks, up to a factor and a shift."""
    a, b = weights @ first.T, weights @ second.T  # their weighted mean is zero, since signs are antisymmetric
    spread = np.sqrt((weights * a**2).sum(1) * (weights * b**2).sum(1))
    return _ratio((weights * a * b).sum(1), spread)


_WEIGHTED = {"kendall": _kendall_of, "spearman": _spearman_of}


def _ratio(above: Grid, below: Grid) -> Grid:
    """NaN where the denominator is zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(below > 0, above / below, np.nan)


def _grid(values: ArrayLike | torch.Tensor, what: str) -> Grid:
    grid = as_array(values).astype(np.float64)
    if grid.ndim != 2 or np.isinf(grid).any():
        raise InputError(f"{what} must be finite numbers or NaN, shape (targets, sources); got shape {grid.shape}.")
    return grid
