"""Cross-modality transferability: the modality gap and the task gap together.

Equation 6 of Zhang et al., "Release the Powers of Prompt Tuning: Cross-Modality Prompt Transfer".
"""

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from promptgraft.errors import InputError
from promptgraft.transferability.arrays import as_scores
from promptgraft.transferability.base import Estimator, Evidence
from promptgraft.transferability.mmd import GAP
from promptgraft.transferability.projector import TASK_GAP


def transferability(
    gaps: ArrayLike | torch.Tensor, task_gaps: ArrayLike | torch.Tensor, *, weight: float = 1.0
) -> NDArray[np.float64]:
    """T = -(modality gap + weight x task gap), eq. 6.

    The paper adds them as they are, weight 1. A task gap lies in [-1, 1]; how far a modality gap goes depends on its
    kernel (up to 10 with five Gaussians), so the weight decides which of the two orders the prompts.

    Args:
        gaps: (M,) modality gaps, as from `modality_gap`.
        task_gaps: (M,) task gaps, as from `task_gap`.
        weight: of the task gap.

    Returns:
        (M,) scores, larger = transfers better.

    Raises:
        InputError: the numbers are not one of each per prompt, or not finite.
    """
    first, second = as_scores(gaps, "the modality gap"), as_scores(task_gaps, "the task gap")
    if len(first) != len(second):
        raise InputError(f"{len(first)} modality gaps but {len(second)} task gaps. Give one of each per prompt.")
    if not np.isfinite(weight):
        raise InputError(f"weight is {weight}. Give a finite number.")
    return -(first + weight * second)


def _score(evidence: Evidence) -> NDArray[np.float64]:
    scores, near = GAP.score(evidence), TASK_GAP.score(evidence)
    both = np.isfinite(scores) & np.isfinite(near)
    total = np.full(len(scores), np.nan)
    total[both] = transferability(-scores[both], -near[both])
    return total


TRANSFERABILITY = Estimator(
    name="transferability",
    summary="modality gap and task gap, added",
    paper="Zhang et al., Release the Powers of Prompt Tuning: Cross-Modality Prompt Transfer "
    "(https://openreview.net/forum?id=SYnIf4LxAG), eq. 6",
    needs="target prompt",
    cost="that of gap and of task-gap",
    applies="prompts that both gap and task-gap apply to",
    score=_score,
)
