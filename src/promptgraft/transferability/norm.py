"""The mean row norm of a prompt: the trivial baseline that a better estimator has to beat.

The paper's modality gap is, on the published RoBERTa prompts, mostly a function of this number.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from promptgraft.errors import InputError
from promptgraft.transferability.arrays import Array, as_array
from promptgraft.transferability.base import Estimator, Evidence


def prompt_norm(prompts: Array | Sequence[Array]) -> NDArray[np.float64]:
    """Mean Euclidean norm of each prompt's rows, (M,).

    Args:
        prompts: (M, P, D), deep prompts (M, L, P, D), or a sequence of M arrays (P_i, D_i) or (L_i, P_i, D_i) of mixed
            shapes.

    Raises:
        InputError: there is no prompt, or a prompt has no rows or a value that is not finite.
    """
    return np.array([_mean_row_norm(as_array(prompt), index) for index, prompt in enumerate(prompts)])


def _mean_row_norm(prompt: NDArray[np.generic], index: int) -> float:
    if prompt.ndim not in (2, 3) or not prompt.size:
        raise InputError(f"prompt {index} must be (P, D) or (L, P, D), not empty; got shape {prompt.shape}.")
    norm = float(np.linalg.norm(prompt.astype(np.float64), axis=-1).mean())
    if not np.isfinite(norm):
        raise InputError(f"prompt {index} holds NaN or infinite values. Leave it out: its training diverged.")
    return norm


def _score(evidence: Evidence) -> NDArray[np.float64]:
    return prompt_norm(evidence.prompts)


NORM = Estimator(
    name="norm",
    summary="mean Euclidean norm of the prompt's rows (trivial baseline)",
    paper="a baseline of this library",
    needs="prompt",
    cost="M P D",
    applies="every prompt",
    score=_score,
    by_sketch=lambda evidence: lambda sketches: sketches["norm"],
)
