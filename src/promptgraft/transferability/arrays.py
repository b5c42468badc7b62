"""What every estimator does first: see its input as a numpy array."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray

from promptgraft.errors import InputError

Array = NDArray[Any] | torch.Tensor


def as_array(values: ArrayLike | torch.Tensor) -> NDArray[Any]:
    """See numpy or torch values as a numpy array, without a copy where that is possible (bfloat16 becomes float32)."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)


def as_scores(values: ArrayLike | torch.Tensor, what: str, each: str = "prompt") -> NDArray[np.float64]:
    """See one number per prompt (or per what `each` says) as a float64 array (M,).

    Raises:
        InputError: the values are not one finite number per prompt; the message calls them `what`.
    """
    array = as_array(values).astype(np.float64)
    if array.ndim != 1:
        raise InputError(f"{what} must be one number per {each}, shape (M,); got shape {array.shape}.")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array))[0])
        raise InputError(f"{what} of {each} {row} is {array[row]}. Leave {each}s without a finite value out.")
    return array


def mean_row(rows: NDArray[Any], what: str) -> NDArray[Any]:
    """Mean row (D,) of rows (P, D), where its direction counts.

    Raises:
        InputError: the rows cancel out; the message calls them `what`.
    """
    mean: NDArray[Any] = rows.mean(0)
    if np.linalg.norm(mean) <= 4 * np.finfo(rows.dtype).eps * np.linalg.norm(rows, axis=1).max():
        raise InputError(f"the rows of {what} cancel out: their mean has no direction. Leave it out.")
    return mean


def as_rows(prompt: Array, what: str, dtype: DTypeLike = np.float64) -> NDArray[Any]:
    """See one prompt as an array (P, D).

    Raises:
        InputError: it is not (P, D), is empty, or has a row that is not finite or all zero; the message calls it
            `what`.
    """
    rows = as_array(prompt)
    if rows.ndim != 2 or not rows.size:
        raise InputError(f"{what} must be (P, D), not empty; got shape {rows.shape}.")
    rows = rows.astype(dtype)
    if not np.isfinite(rows).all():
        row = int(np.flatnonzero(~np.isfinite(rows).all(1))[0])
        raise InputError(f"{what} holds NaN or infinite values in row {row}. Leave it out or make it anew.")
    if not rows.any(1).all():
        row = int(np.flatnonzero(~rows.any(1))[0])
        raise InputError(f"row {row} of {what} is all zeros: a dead row has no direction. Leave dead rows out.")
    return rows
