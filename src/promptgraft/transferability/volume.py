"""The number of examples a prompt was trained on: the baseline V_data of cross-modality prompt transfer."""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from promptgraft.errors import InputError
from promptgraft.transferability.arrays import as_scores
from promptgraft.transferability.base import Estimator, Evidence


def data_volume(counts: ArrayLike | torch.Tensor) -> NDArray[np.float64]:
    """Score prompts by how many examples they were trained on.

    V_data in section 4.3 of Zhang et al., "Release the Powers of Prompt Tuning: Cross-Modality Prompt Transfer".

    Args:
        counts: (M,) numbers of training examples.

    Returns:
        (M,) scores, the counts themselves: more source data, better transfer.

    Raises:
        InputError: a count is negative or not finite.
    """
    scores = as_scores(counts, "the number of training examples")
    if (scores < 0).any():
        index = int(np.argmin(scores))
        raise InputError(
            f"prompt {index} was trained on {scores[index]:g} examples? Give a count that is not negative."
        )
    return scores


def _score(evidence: Evidence) -> NDArray[np.float64]:
    return data_volume([card.task.n_train for card in evidence.cards])


VOLUME = Estimator(
    name="volume",
    summary="number of examples the prompt was trained on (trivial baseline)",
    paper="Zhang et al., Release the Powers of Prompt Tuning: Cross-Modality Prompt Transfer (V_data)",
    needs="card",
    cost="M",
    applies="every prompt",
    score=_score,
    by_sketch=lambda evidence: lambda sketches: sketches["examples"],
)
