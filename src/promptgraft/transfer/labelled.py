"""Labelled features: checked once, and how far their covariance should be shrunk."""

from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from promptgraft.errors import InputError

Number = TypeVar("Number", float, torch.Tensor)


def as_features(features: ArrayLike | torch.Tensor, what: str = "features") -> NDArray[np.float64]:
    """See features as a float64 array (N, D); the message calls them `what`.

    Raises:
        InputError: the shape is another, there are fewer than two examples, or a value is not finite.
    """
    X = _as_array(features).astype(np.float64)
    if X.ndim != 2 or len(X) < 2 or not X.shape[1]:
        raise InputError(f"{what} must be (N, D), at least two examples; got shape {X.shape}.")
    if not np.isfinite(X).all():
        row = int(np.flatnonzero(~np.isfinite(X).all(1))[0])
        raise InputError(f"{what} hold NaN or infinite values in row {row}. Leave the example out or embed it anew.")
    return X


def centred(X: NDArray[np.float64], what: str = "features") -> NDArray[np.float64]:
    """Features (N, D) less their mean.

    Raises:
        InputError: all examples are alike; the message calls the features `what`.
    """
    shifted: NDArray[np.float64] = X - X.mean(0)
    if np.abs(shifted).max() <= 4 * np.finfo(np.float64).eps * np.abs(X).max():
        raise InputError(f"{what} are the same for all {len(X)} examples. Check how they were made.")
    return shifted


def as_classes(labels: ArrayLike | torch.Tensor, examples: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """See labels as class indices (N,) from 0 to C - 1 without a gap, and count the examples of each class, (C,).

    A class of one example is a class like any other.

    Raises:
        InputError: labels are not one whole number from 0 on per example, or name one class only.
    """
    y = _as_array(labels)
    if y.shape != (examples,):
        raise InputError(f"labels must be one per example, shape ({examples},); got shape {y.shape}.")
    if not np.issubdtype(y.dtype, np.integer) and not (np.isfinite(y).all() and (y == np.floor(y)).all()):
        raise InputError("labels must be whole numbers, 0 to C - 1. Number the classes first.")
    if y.min() < 0:
        row = int(np.argmin(y))
        raise InputError(f"the label of example {row} is {y[row]}. Number the classes from 0, leave unlabelled out.")
    present, index, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(present) < 2:
        raise InputError(f"all {examples} examples are of class {present[0]}. Give examples of at least two classes.")
    return index.astype(np.int64), counts.astype(np.int64)


def class_means(X: NDArray[np.float64], y: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean feature of each class, (C, D)."""
    order = np.argsort(y, kind="stable")
    sums: NDArray[np.float64] = np.add.reduceat(X[order], np.concatenate([[0], np.cumsum(counts)[:-1]]))
    return sums / counts[:, None]


def ledoit_wolf(trace: Number, square: Number, fourth: Number, examples: int, width: int) -> Number:
    """How far to shrink a covariance S = XᵀX / N towards (trace S / D) I: 0 not at all, 1 all the way.

    Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004 (lemma 3.2 to 3.5;
    https://doi.org/10.1016/S0047-259X(03)00096-4), from sums that stay small. Numbers, or tensors with gradients.

    Args:
        trace: of S.
        square: sum of the squared entries of S.
        fourth: mean over examples of |x|⁴, x centred.
        examples: N.
        width: D.
    """
    noise, spread = (fourth - square) / examples, square - trace * trace / width
    if isinstance(spread, torch.Tensor):
        tiny = torch.finfo(spread.dtype).tiny
        return torch.minimum(noise.clamp_min(0), spread.clamp_min(0)) / spread.clamp_min(tiny)
    return min(max(noise, 0.0), spread) / spread if spread > 0 else 0.0


def _as_array(values: ArrayLike | torch.Tensor) -> NDArray[Any]:
    return values.detach().cpu().double().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
