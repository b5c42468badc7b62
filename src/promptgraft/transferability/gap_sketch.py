"""The modality gap as far as sketches tell it.

The gap is made of means of exp(-d / w) over squared distances d: inside the prompt, inside the patches, between them.
Inside, they are known: of the patches all are at hand, and the sketch has a curve of w for the prompt, as the excess
over that of a gamma distribution of the same mean and variance, which it nearly is in hundreds of dimensions.

Between, with m the mean row, z_i = x_i - m, s_i = |z_i|², c the mean patch, v_j = y_j - c and b_j = |v_j|²,

    |x_i - y_j|² = |m - c|² + b_j - 2 (m - c)·v_j + s_i + 2 z_i·(m - c) - 2 z_i·v_j

The means of exp(-b_j / w) and exp(-s_i / w) are taken as they are, too. They are weights: patches and rows that are
far from all others, as special tokens and dead rows, hardly count. Under these weights the products enter by their
means and variances (cumulants to second order); the rows' scatter is known along m, and taken to be alike in all other
directions.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promptgraft.transferability.base import Evidence, Sketches
from promptgraft.transferability.mmd import Kernel, median_bandwidth
from promptgraft.transferability.sketch import FIELDS, OCTAVES, gamma_exponent

Floats = NDArray[np.float64]
Score = Callable[[Tensor, Mapping[str, Floats]], Floats]
"""Scores of sketches from their directions (M, D) and the rest of their fields."""

_WIDTHS = {"rbf5": (4.0, 2.0, 1.0, 0.5, 0.25), "rbf": (1.0,)}  # bandwidths, in units of w
_GRID = np.arange(-32, 65) / 8  # octaves of w above the patches' mean distance, where what concerns them is computed
_COARSE = 4  # steps of the grid from one vector of near patches to the next
_OWN = 1024  # patches whose distances to one another are taken
_SOME = 4096  # patches whose scatter is taken
_DIRECTIONS = 8  # in which it is taken as it is
_BLOCK = 8192  # sketches worked on at a time
_USED = [name for name in FIELDS if name not in ("examples", "norm", "direction", "unit_mean")]


def gap_by_sketch(evidence: Evidence, kernel: Kernel) -> Callable[[Sketches], Floats]:
    """What scores sketches as the unbiased gap with this kernel scores prompts, but for about a constant."""
    n, D = evidence.patches.shape
    score = _linear(evidence.patches) if kernel == "linear" else _gaussian(evidence.patches, kernel, evidence.seed)

    def scores(sketches: Sketches) -> Floats:
        rows, direction = sketches["rows"], sketches["direction"]
        found = np.full(len(rows), np.nan)
        if direction.shape[1] != D:
            return found
        moments = {name: sketches[name].astype(np.float64) for name in _USED}
        with np.errstate(all="ignore"):  # of rows beyond what float32 can square; their scores are NaN
            for start in range(0, len(rows), _BLOCK):
                block = slice(start, start + _BLOCK)
                some = {name: values[block] for name, values in moments.items()}
                found[block] = score(torch.from_numpy(direction[block]).float(), some)
        found[(rows < 2) | (rows > n)] = np.nan
        return found

    return scores


def _linear(patches: NDArray[np.float32]) -> Score:
    centre = patches.mean(0, dtype=np.float64)

    def score(direction: Tensor, s: Mapping[str, Floats]) -> Floats:
        across = s["mean_norm"] * _products(direction, centre[:, None])[:, 0]
        apart: Floats = s["mean_norm"] ** 2 - 2 * across + centre @ centre
        return s["scatter"] / (s["rows"] - 1) - apart

    return score


def _gaussian(patches: NDArray[np.float32], kernel: Kernel, seed: int) -> Score:
    D = patches.shape[1]
    target = _Patches(patches, np.random.default_rng(seed))
    fixed = median_bandwidth(patches, seed=seed) if kernel == "rbf" else None
    matrix = np.column_stack([target.centre, target.leading, target.near.T])
    shift, split = target.centre @ matrix, 1 + target.leading.shape[1]

    def score(direction: Tensor, s: Mapping[str, Floats]) -> Floats:
        P, norm, scatter = s["rows"], s["mean_norm"], s["scatter"]
        dots = _products(direction, matrix)
        away = norm[:, None] * dots - shift  # (m - c)·matrix
        apart = np.maximum(norm**2 - target.centre @ target.centre - 2 * away[:, 0], 0)
        along = norm - dots[:, 0]
        lead = away[:, 1:split]
        sideways = np.einsum("mi,ij,mj->m", lead, target.scatter, lead)
        sideways += np.maximum(apart - np.square(lead).sum(1), 0) * target.rest
        across = (s["near_scatter"] - s["near_spread"]).clip(min=0) / max(D - 1, 1)
        inside = 2 * scatter * P / (P - 1)
        width = fixed
        if width is None:
            between = 2 * P**2 * (scatter + apart + target.spread)
            width = (P * (P - 1) * (inside + target.distance) + between) / (2 * P * (2 * P - 1))
        total = np.zeros(len(P))
        for factor in _WIDTHS[kernel]:
            w = np.broadcast_to(factor * width, P.shape)
            octave = np.log2(w / target.distance)
            far, spread, own = (np.interp(octave, _GRID, v) for v in (target.far, target.spreads, target.own))
            first = _at(octave, _GRID[::_COARSE], away[:, split:]) / w
            first -= along * _at(np.log2(w / scatter), OCTAVES, s["along_curve"])
            along_u, others = (_weighted(variance, scatter, w) for variance in (s["near_spread"], across))
            second = sideways * spread / target.usual + others * spread
            second += along_u * along**2 + others * np.maximum(apart - along**2, 0)
            middle = apart + far + _exponent(scatter, s["scatter_variance"], s["scatter_curve"], w)
            total += 2 * np.exp(np.minimum(2 * (first + second / w) - middle, 0) / w) - np.exp(-own / w)
            total -= np.exp(-_exponent(inside, s["pair_variance"], s["pair_curve"], w) / w)
        return total

    return score


class _Patches:
    """What of the target's patches y_j (n, D) enters, with c their mean and b_j = |y_j - c|².

    centre: c. spread: mean of b. distance: mean |y_i - y_j|². The others are given at each bandwidth w of the grid,
    under weights exp(-b_j / w). far: -w log mean exp(-b / w), which tends to `spread`. spreads: weighted mean of b.
    near: w times the weighted mean of y - c, at every fourth bandwidth. own: -w log mean exp(-|y_i - y_j|² / w).
    leading (D, k): directions in which the patches scatter most at the bandwidth `distance`, where `spreads` is
    `usual`; scatter (k, k): their covariance; rest: the mean variance in all others.
    """

    def __init__(self, patches: NDArray[np.float32], generator: np.random.Generator) -> None:
        n, D = patches.shape
        self.centre: Floats = patches.mean(0, dtype=np.float64)
        b = np.concatenate([np.square(part - self.centre).sum(1) for part in np.array_split(patches, -(-n // _SOME))])
        self.spread = float(b.mean())
        self.distance = 2 * self.spread * n / max(n - 1, 1)
        widths = self.distance * 2.0**_GRID
        weights = np.exp(-(b - b.min()) / widths[:, None])
        self.far = b.min() - widths * np.log(weights.mean(1))
        weights /= weights.sum(1, keepdims=True)
        self.spreads = weights @ b
        # The weights less their mean: the patches' own mean drops out, and with it what float32 would lose.
        self.near: Floats = (weights[::_COARSE] - 1 / n).astype(np.float32) @ patches * widths[::_COARSE, None]
        self.own = _own(patches[generator.choice(n, min(n, _OWN), replace=False)] - self.centre, widths)
        usual = int(np.flatnonzero(_GRID == 0)[0])
        self.usual = self.spreads[usual]
        some = generator.choice(n, min(n, _SOME), replace=False)
        Z = (patches[some] - self.centre - self.near[usual // _COARSE] / self.distance) * np.sqrt(
            weights[usual][some, None] / weights[usual][some].sum()
        )
        self.leading: Floats = np.linalg.qr(generator.standard_normal((D, min(D, _DIRECTIONS))))[0]
        for _ in range(5):  # of subspace iteration
            self.leading = np.linalg.qr(Z.T @ (Z @ self.leading))[0]
        projected = Z @ self.leading
        self.scatter: Floats = projected.T @ projected
        self.rest = float((np.square(Z).sum() - np.trace(self.scatter)) / max(D - self.leading.shape[1], 1))


def _own(Y: Floats, widths: Floats) -> Floats:
    squares = np.square(Y).sum(1)
    distances = (squares[:, None] + squares - 2 * Y @ Y.T)[np.triu_indices(len(Y), 1)].clip(min=0)
    return np.array([-w * np.log(np.exp(-distances / w).mean()) for w in widths])


def _products(direction: Tensor, matrix: Floats) -> Floats:
    found: Floats = (direction @ torch.from_numpy(matrix).float()).double().numpy()
    return found


def _exponent(mean: Floats, variance: Floats, curve: Floats, w: Floats) -> Floats:
    """-w log mean exp(-d / w) of distances with this mean, variance, and excess at the octaves above the mean."""
    known: Floats = gamma_exponent(mean, variance, w) + mean * _at(np.log2(w / mean), OCTAVES, curve)
    return known


def _weighted(variance: Floats, scatter: Floats, w: Floats) -> Floats:
    """Variance under weights exp(-s / w), given that at w = scatter; as for normally distributed rows."""
    weighted: Floats = variance / (1 + 2 * variance * (1 / w - 1 / scatter.clip(min=1e-300))).clip(min=0.1)
    return weighted


def _at(octave: Floats, grid: Floats, values: Floats) -> Floats:
    """Each row of values (M, G), given on an even grid, at an octave of its own; beyond the ends as there."""
    place = np.nan_to_num((octave - grid[0]) / (grid[1] - grid[0])).clip(0, len(grid) - 1)
    left = np.minimum(place.astype(int), len(grid) - 2)[:, None]
    low, high = (np.take_along_axis(values, left + step, 1)[:, 0] for step in (0, 1))
    mixed: Floats = low + (high - low) * (place - left[:, 0])
    return mixed
