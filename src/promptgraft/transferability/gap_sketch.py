"""The modality gap as far as sketches tell it.

The gap is made of means of exp(-d / w) over squared distances d: inside the prompt, inside the patches, between them.
Inside, they are known: of the patches all are at hand, and the sketch has a curve of w for the prompt, as the excess
over that of a gamma distribution of the same mean and variance, which it nearly is in hundreds of dimensions.

Between, with m the mean row, z_i = x_i - m, s_i = |z_i|², c the mean patch, v_j = y_j - c and b_j = |v_j|²,

    |x_i - y_j|² = |m - c|² + b_j - 2 (m - c)·v_j + s_i + 2 z_i·(m - c) - 2 z_i·v_j

The means of exp(-b_j / w) and exp(-s_i / w) are taken as they are, too. They are weights: patches and rows that are
far from all others, as special tokens and dead rows, hardly count. Under these weights the products enter by their
means and variances (cumulants to second order); the rows' weighted mean is known in one direction, their scatter along
m, and it is taken to be alike in all others.

Where the bandwidth adapts, it differs from draw to draw; two bandwidths stand for those of all draws.
"""

from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from promptgraft.transferability.base import Evidence, Sketches
from promptgraft.transferability.mmd import EPOCHS, Kernel, deal, median_bandwidth
from promptgraft.transferability.sketch import FIELDS, OCTAVES, gamma_exponent

Floats = NDArray[np.float64]
Score = Callable[[Sketches], Floats]

_WIDTHS = {"rbf5": (4.0, 2.0, 1.0, 0.5, 0.25), "rbf": (1.0,)}  # bandwidths, in units of w
_GRID = np.arange(-32, 65) / 8  # octaves of w above the patches' mean distance, where what concerns them is computed
_COARSE = 4  # steps of the grid from one vector of near patches to the next
_OWN = 1024  # patches whose distances to one another are taken
_SOME = 4096  # patches whose scatter is taken
_DIRECTIONS = 8  # in which it is taken as it is
_BLOCK = 8192  # sketches worked on at a time
_UNUSED = ("examples", "norm", "unit_mean")
_VECTORS = ("direction", "near_direction")


def gap_by_sketch(evidence: Evidence, kernel: Kernel) -> Callable[[Sketches], Floats]:
    """What scores sketches as the unbiased gap with this kernel scores prompts, but for about a constant."""
    n, D = evidence.patches.shape
    score = _linear(evidence.patches) if kernel == "linear" else _gaussian(evidence.patches, kernel, evidence.seed)

    def scores(sketches: Sketches) -> Floats:
        rows = sketches["rows"]
        found = np.full(len(rows), np.nan)
        if sketches["direction"].shape[1] != D:
            return found
        fields = {name: sketches[name] for name in FIELDS if name not in _UNUSED}
        with np.errstate(all="ignore"):  # of rows beyond what float32 can square; their scores are NaN
            for start in range(0, len(rows), _BLOCK):
                block = slice(start, start + _BLOCK)
                found[block] = score({name: values[block] for name, values in fields.items()})
        found[(rows < 2) | (rows > n)] = np.nan
        return found

    return scores


def _linear(patches: NDArray[np.float32]) -> Score:
    centre = patches.mean(0, dtype=np.float64)

    def score(s: Sketches) -> Floats:
        norm = s["mean_norm"].astype(np.float64)
        across = norm * _products(s["direction"], centre[:, None])[:, 0]
        apart: Floats = norm**2 - 2 * across + centre @ centre
        scores: Floats = s["scatter"] / (s["rows"] - 1) - apart
        return scores

    return score


def _gaussian(patches: NDArray[np.float32], kernel: Kernel, seed: int) -> Score:
    D = patches.shape[1]
    target = _Patches(patches, seed)
    fixed = median_bandwidth(patches, seed=seed) if kernel == "rbf" else None
    matrix = np.column_stack([target.centre, target.near.T, target.leading])
    split = 1 + len(target.near)
    shift = target.centre @ matrix

    def score(sketches: Sketches) -> Floats:
        s = {name: values.astype(np.float64) for name, values in sketches.items() if name not in _VECTORS}
        P, norm, scatter = s["rows"], s["mean_norm"], s["scatter"]
        dots = _products(sketches["direction"], matrix)
        away = norm[:, None] * dots - shift  # (m - c)·matrix
        apart = np.maximum(norm**2 - target.centre @ target.centre - 2 * away[:, 0], 0)
        along = norm - dots[:, 0]
        beside = _products(sketches["near_direction"], matrix[:, :split])
        towards = norm * s["near_along"] - beside[:, 0]  # (m - c)·v
        lead = away[:, split:]
        sideways = np.einsum("mi,ij,mj->m", lead, target.scatter, lead)
        sideways += np.maximum(apart - np.square(lead).sum(1), 0) * target.rest
        across = (s["near_scatter"] - s["near_spread"]).clip(min=0) / max(D - 1, 1)
        inside = 2 * scatter * P / (P - 1)
        if fixed is None:
            between = 2 * P**2 * (scatter + apart + target.spread)
            width = (P * (P - 1) * (inside + target.distance) + between) / (2 * P * (2 * P - 1))
            widths = [(share, width + more) for share, more in target.offsets(P)]
        else:
            widths = [(np.ones(1), np.broadcast_to(fixed, P.shape))]
        total = np.zeros(len(P))
        for (share, width), factor in product(widths, _WIDTHS[kernel]):
            w = factor * width
            octave = np.log2(w / target.distance)
            place = _place(octave, _GRID)
            far, spread, own = (_at(place, values) for values in (target.far, target.spreads, target.own))
            coarse, usual = _place(octave, _GRID[::_COARSE]), _place(np.log2(w / scatter), OCTAVES)
            shifted = _at(usual, s["near_curve"])
            first = (_at(coarse, away[:, 1:split]) + shifted * _at(coarse, beside[:, 1:])) / w - shifted * towards
            along_u, others = (_weighted(variance, scatter, w) for variance in (s["near_spread"], across))
            second = sideways * spread / target.usual + others * spread
            second += along_u * along**2 + others * np.maximum(apart - along**2, 0)
            middle = apart + far + gamma_exponent(scatter, s["scatter_variance"], w)
            middle += scatter * _at(usual, s["scatter_curve"])
            pairs = gamma_exponent(inside, s["pair_variance"], w)
            pairs += inside * _at(_place(np.log2(w / inside), OCTAVES), s["pair_curve"])
            alike = np.exp(-own / w) + np.exp(-pairs / w)
            total += share * (2 * np.exp(np.minimum(2 * (first + second / w) - middle, 0) / w) - alike)
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

    def __init__(self, patches: NDArray[np.float32], seed: int) -> None:
        n, D = patches.shape
        generator = np.random.default_rng(seed)
        self._patches, self._seed, self._known = patches, seed, dict[int, tuple[float, ...]]()
        self.centre: Floats = patches.mean(0, dtype=np.float64)
        b = np.concatenate([np.square(part - self.centre).sum(1) for part in np.array_split(patches, -(-n // _SOME))])
        self._b, self.spread = b, float(b.mean())
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

    def offsets(self, P: Floats) -> list[tuple[Floats, Floats]]:
        """What a draw's patches add to the bandwidth that it has on average: two shares, and how much in each.

        Two points with their mean, variance and skewness stand for the draws (Gauss quadrature). Of a draw, the
        distances inside and those to c count; those along m - c, which differ by prompt, are left out.
        """
        lengths, place = np.unique(P, return_inverse=True)
        found = np.array([self._offset(int(length)) for length in lengths])[place]
        return [(found[:, 0], found[:, 2]), (found[:, 1], found[:, 3])]

    def _offset(self, P: int) -> tuple[float, ...]:
        if P not in self._known:
            self._known[P] = (1.0, 0.0, 0.0, 0.0)
            if 1 < P <= len(self._b):
                draws = deal(len(self._b), P, EPOCHS, np.random.default_rng(self._seed))
                self._known[P] = _two_points(self._of_draws(draws))
        return self._known[P]

    def _of_draws(self, draws: NDArray[np.int64]) -> Floats:
        P = draws.shape[1]
        centres = np.array([self._patches[draw].mean(0, dtype=np.float64) for draw in draws])
        spread = self._b[draws].mean(1)
        inside = 2 * (spread - np.square(centres - self.centre).sum(1))  # times P / (P - 1): mean squared distance
        added: Floats = P * (inside + 2 * spread) / (2 * (2 * P - 1))
        return added


def _two_points(values: Floats) -> tuple[float, ...]:
    """Weights and places, about the mean, of two points that have the mean, variance and skewness of these values."""
    away = values - values.mean()
    deviation = away.std()
    if deviation <= 1e-9 * np.abs(values).max():
        return 1.0, 0.0, 0.0, 0.0
    skew = (away**3).mean() / deviation**3
    root = np.sqrt(skew**2 + 4)
    return (1 + skew / root) / 2, (1 - skew / root) / 2, deviation * (skew - root) / 2, deviation * (skew + root) / 2


def _own(Y: Floats, widths: Floats) -> Floats:
    squares = np.square(Y).sum(1)
    distances = (squares[:, None] + squares - 2 * Y @ Y.T)[np.triu_indices(len(Y), 1)].clip(min=0)
    return np.array([-w * np.log(np.exp(-distances / w).mean()) for w in widths])


def _products(vectors: NDArray[np.float16], matrix: Floats) -> Floats:
    found: Floats = (torch.from_numpy(vectors).float() @ torch.from_numpy(matrix).float()).double().numpy()
    return found


def _weighted(variance: Floats, scatter: Floats, w: Floats) -> Floats:
    """Variance under weights exp(-s / w), given that at w = scatter; as for normally distributed rows."""
    weighted: Floats = variance / (1 + 2 * variance * (1 / w - 1 / scatter.clip(min=1e-300))).clip(min=0.1)
    return weighted


def _place(octave: Floats, grid: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Where octaves lie on an even grid, as the step before and the part of the next; beyond the ends, there."""
    place = np.nan_to_num((octave - grid[0]) / (grid[1] - grid[0])).clip(0, len(grid) - 1)
    left = np.minimum(place.astype(np.int64), len(grid) - 2)
    return left, place - left


def _at(place: tuple[NDArray[np.int64], Floats], values: Floats) -> Floats:
    """Values (G,) on the grid, or (M, G), a row for each place, at M places."""
    left, part = place
    if values.ndim == 1:
        low, high = values[left], values[left + 1]
    else:
        rows = np.arange(len(left))
        low, high = values[rows, left], values[rows, left + 1]
    mixed: Floats = low + (high - low) * part
    return mixed
