"""What every estimator does first: see its input as a numpy array."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from promptgraft.errors import InputError

Array = NDArray[Any] | torch.Tensor


def as_array(values: ArrayLike | torch.Tensor) -> NDArray[Any]:
    """See numpy or torch values as a numpy array, without a copy where that is possible (bfloat16 becomes float32)."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)


def as_scores(values: ArrayLike | torch.Tensor, what: str) -> NDArray[np.float64]:
    """See one number per prompt as a float64 array (M,).

    Raises:
        InputError: the values are not one finite number per prompt; the message calls them `what`.
    """
    array = as_array(values).astype(np.float64)
    if array.ndim != 1:
        raise InputError(f"{what} must be one number per prompt, shape (M,); got shape {array.shape}.")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array))[0])
        raise InputError(f"{what} of prompt {row} is {array[row]}. Leave prompts without a finite value out.")
    return array
