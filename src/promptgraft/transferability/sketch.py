"""A prompt's sketch: what is kept of it to find, among very many prompts, those worth reading.

Three directions in half precision, some moments of the rows and three short curves: 6 D + 260 bytes instead of 4 P D.
What an estimator scores from it says `Estimator.by_sketch`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]

OCTAVES = np.arange(-6, 10) / 2
"""Where curves are known: at widths w of 2^-3 to 2^4.5 times the mean of what they are about."""
_CURVE = len(OCTAVES)

FIELDS: dict[str, tuple[str, int | None]] = {
    "rows": ("<i8", None),
    "examples": ("<f8", None),
    "norm": ("<f8", None),
    "mean_norm": ("<f4", None),
    "scatter": ("<f4", None),
    "scatter_variance": ("<f4", None),
    "pair_variance": ("<f4", None),
    "near_scatter": ("<f4", None),
    "near_spread": ("<f4", None),
    "near_along": ("<f4", None),
    "scatter_curve": ("<f4", _CURVE),
    "pair_curve": ("<f4", _CURVE),
    "near_curve": ("<f4", _CURVE),
    "direction": ("<f2", 0),
    "near_direction": ("<f2", 0),
    "unit_mean": ("<f2", 0),
}
"""Type of each field, and how many numbers it has: None for one, 0 for D. For rows x_i of mean m, with u = m / |m|,
z_i = x_i - m, s_i = |z_i|² and weights exp(-s_i / w), under which far rows count less:

rows: P. examples: that the prompt was trained on. norm: mean of |x_i|. mean_norm: |m|. scatter, scatter_variance: mean
and variance of s. pair_variance: variance of |x_i - x_j|² over i < j. near_scatter: weighted mean of s, near_spread:
weighted variance of u·z, both at w = scatter. scatter_curve, pair_curve: -w log mean exp(-d / w) of d = s_i and of
d = |x_i - x_j|², less `gamma_exponent`, over the mean of d. direction: u. near_direction: v, that of the weighted mean
of z at w = scatter. near_along: u·v. near_curve: weighted mean of v·z. unit_mean: mean of x_i / |x_i|.
"""

_BATCH = 2**21  # numbers worked on at a time


def width_of(field: str, D: int) -> tuple[int, ...]:
    """Shape of a field of one sketch, for prompts D wide."""
    count = FIELDS[field][1]
    return () if count is None else (count or D,)


def sketch(prompts: Sequence[NDArray[np.float32]], examples: Sequence[float]) -> dict[str, NDArray[Any]]:
    """Sketches of M prompts of one width, in their order.

    Args:
        prompts: M arrays (P_i, D) of finite numbers.
        examples: how many each was trained on.
    """
    D = prompts[0].shape[1]
    made = {name: np.empty((len(prompts), *width_of(name, D)), FIELDS[name][0]) for name in FIELDS}
    made["rows"][:] = [len(prompt) for prompt in prompts]
    made["examples"][:] = examples
    for P in set(made["rows"].tolist()):
        same = np.flatnonzero(made["rows"] == P)
        step = max(1, _BATCH // (P * max(P, D)))
        for index in (same[start : start + step] for start in range(0, len(same), step)):
            with np.errstate(all="ignore"):  # rows beyond what float32 can square have no finite sketch
                found = _moments(torch.from_numpy(np.stack([prompts[place] for place in index])))
                for name, values in found.items():
                    made[name][index] = values
    return made


def gamma_exponent(mean: Floats, variance: Floats, w: Floats) -> Floats:
    """-w log mean exp(-d / w) for gamma-distributed d of this mean and variance; the mean, where that is 0."""
    ratio = np.divide(variance, mean * w, out=np.zeros(np.broadcast(mean, w).shape), where=mean * w > 0).clip(min=1e-9)
    exponent: Floats = mean * np.log1p(ratio) / ratio
    return exponent


def _moments(X: Tensor) -> dict[str, NDArray[Any]]:
    """Fields of B prompts (B, P, D)."""
    P, tiny = X.shape[1], torch.finfo(X.dtype).tiny
    norms = torch.linalg.vector_norm(X, dim=2)
    mean = X.mean(1)
    mean_norm = torch.linalg.vector_norm(mean, dim=1)
    direction = mean / mean_norm.clamp(min=tiny)[:, None]
    away = X - mean[:, None]
    gram = away @ away.mT
    s = gram.diagonal(dim1=1, dim2=2)
    along = (direction[:, None] @ away.mT).squeeze(1)
    scatter, scatter_variance = s.mean(1).double().numpy(), s.double().var(1, correction=0).numpy()
    widths = torch.from_numpy(2**OCTAVES) * s.mean(1, keepdim=True).clamp(min=tiny)  # (B, octaves)
    weights = torch.exp(-s.double()[:, None] / widths[:, :, None])  # (B, octaves, P)
    curve = -(2**OCTAVES) * weights.mean(2).log().numpy()
    weights /= weights.sum(2, keepdim=True)
    usual = weights[:, list(OCTAVES).index(0)]
    spread = (usual * along.double().square()).sum(1) - (usual * along.double()).sum(1).square()
    near = (usual.to(X.dtype)[:, None] @ away).squeeze(1)
    near_direction = near / torch.linalg.vector_norm(near, dim=1).clamp(min=tiny)[:, None]
    towards = (near_direction[:, None] @ away.mT).squeeze(1).double()
    pair_mean, pair_variance, pair_curve = _pairs(gram, s)
    return {
        "norm": norms.double().mean(1).numpy(),
        "mean_norm": mean_norm.numpy(),
        "scatter": scatter,
        "scatter_variance": scatter_variance,
        "pair_variance": pair_variance,
        "near_scatter": (usual * s).sum(1).numpy(),
        "near_spread": spread.numpy(),
        "scatter_curve": curve - _gamma_curve(scatter, scatter_variance),
        "pair_curve": pair_curve - _gamma_curve(pair_mean, pair_variance),
        "near_along": (direction * near_direction).sum(1).numpy(),
        "near_curve": (weights @ towards[:, :, None]).squeeze(2).numpy(),
        "direction": direction.numpy(),
        "near_direction": near_direction.numpy(),
        "unit_mean": ((1 / norms.clamp(min=tiny))[:, None] @ X).squeeze(1).div(P).numpy(),
    }


def _gamma_curve(mean: Floats, variance: Floats) -> Floats:
    """What `gamma_exponent` is at the octaves, in units of the mean."""
    square = np.where(mean > 0, np.square(mean), 1)
    return gamma_exponent(np.ones((len(mean), 1)), (variance / square)[:, None], 2**OCTAVES)


def _pairs(gram: Tensor, s: Tensor) -> tuple[Floats, Floats, Floats]:
    """Mean and variance of squared distances over pairs, and -w log mean exp(-d / w) at the octaves, over the mean."""
    P = s.shape[1]
    pairs = max(P * (P - 1), 1)
    distances = (s[:, :, None] + s[:, None] - 2 * gram).clamp_(min=0).flatten(1)
    mean = distances.sum(1) / pairs
    distances /= mean.clamp(min=torch.finfo(s.dtype).tiny)[:, None]
    variance = mean.double().square() * ((distances - 1).square_().sum(1).double() - P).clamp(min=0) / pairs
    curve = torch.ones(len(s), _CURVE, dtype=torch.float64)
    for chain in (0, 1) if P > 1 else ():  # each octave down is a square
        kernel = torch.exp(distances * -(2.0 ** -OCTAVES[-1 - chain]))
        for place in range(_CURVE - 1 - chain, -1, -2):
            curve[:, place] = (kernel.sum(1).double() - P) / pairs
            kernel.square_()
    exponents: Floats = -(2**OCTAVES) * curve.clamp(min=1e-300).log().numpy()
    return mean.double().numpy(), variance.numpy(), exponents
