"""Overlap of the neurons that prompts activate, ON: how alike the target's model is stimulated.

Su et al., "On Transferability of Prompt Tuning for Natural Language Processing", NAACL 2022, section 5.1, as Zhang et
al., "Release the Powers of Prompt Tuning", appendix B.2, eq. 3, carry it to the target's vision model.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from promptgraft.backbones.base import Backbone
from promptgraft.errors import CompatibilityError, InputError
from promptgraft.transferability.arrays import Array, as_array, as_rows
from promptgraft.transferability.base import Estimator, Evidence

_BATCH = 64  # prompts in one forward; activations of hundreds of long prompts would fill the memory


def neuron_overlap(activations: Array, target_activations: Array) -> NDArray[np.float64]:
    """Cosine of each prompt's map of active neurons to the target prompt's map (eq. 3).

    A neuron is active where its value is positive. ReLU, GELU and SiLU keep the sign, so values before and after the
    activation function give the same map.

    Args:
        activations: (M, K) values of K neurons under each prompt.
        target_activations: (K,) values under the target prompt.

    Returns:
        (M,) overlaps in [0, 1], larger = more alike.

    Raises:
        InputError: wrong shapes, NaN values, or a prompt under which no neuron is active.
        CompatibilityError: the numbers of neurons differ.
    """
    values, target = as_array(activations), as_array(target_activations)
    if values.ndim != 2 or target.ndim != 1:
        raise InputError(
            f"activations must be (M, K) and the target's (K,); got shapes {values.shape} and {target.shape}."
        )
    if values.shape[1] != len(target):
        raise CompatibilityError(
            f"activations of {values.shape[1]} neurons cannot be compared with those of {len(target)}. Take both from "
            "one model."
        )
    every = np.vstack([values, target])
    names = [*(f"prompt {index}" for index in range(len(values))), "the target prompt"]
    if not np.isfinite(every).all():
        index = int(np.flatnonzero(~np.isfinite(every).all(1))[0])
        raise InputError(f"the activations under {names[index]} hold NaN or infinite values. Leave it out.")
    maps = (every > 0).astype(np.float64)
    active = maps.sum(1)
    if not active.all():
        raise InputError(f"{names[int(np.argmin(active))]} activates no neuron: no overlap is defined. Leave it out.")
    overlaps: NDArray[np.float64] = maps[:-1] @ maps[-1] / np.sqrt(active[:-1] * active[-1])
    return overlaps


def neuron_activations(backbone: Backbone, prompts: Sequence[Array]) -> NDArray[np.float32]:
    """Values of the feed-forward neurons of the last three blocks under each prompt alone, (M, K).

    Prompts of one length run as one batch. Which rows the model sees and which it is read at says
    `Backbone.neuron_activations`.

    Args:
        backbone: the target's model.
        prompts: M arrays (P_i, D) of mixed lengths, D the width of the embeddings.

    Raises:
        InputError: there is no prompt, or one is not (P, D), is empty, or holds NaN, infinite values or a row of
            zeros.
        CompatibilityError: a prompt is of another width.
    """
    rows = [as_rows(prompt, f"prompt {index}", np.float32) for index, prompt in enumerate(prompts)]
    if not rows:
        raise InputError("there is no prompt to run. Give at least one.")
    for index, prompt in enumerate(rows):
        backbone.check(1, prompt.shape[1], f"prompt {index}")
    found: dict[int, NDArray[np.float32]] = {}
    for length in {len(prompt) for prompt in rows}:
        same = [index for index, prompt in enumerate(rows) if len(prompt) == length]
        for start in range(0, len(same), _BATCH):
            batch = same[start : start + _BATCH]
            values = backbone.neuron_activations(torch.from_numpy(np.stack([rows[index] for index in batch])))
            found |= zip(batch, values.float().cpu().numpy(), strict=True)
    return np.stack([found[index] for index in range(len(rows))])


def _score(evidence: Evidence) -> NDArray[np.float64]:
    scores = np.full(len(evidence.prompts), np.nan)
    target = evidence.target_prompt
    fitting = [index for index, prompt in enumerate(evidence.prompts) if prompt.shape[1] == target.shape[1]]
    *sources, own = evidence.activate([*(evidence.prompts[index] for index in fitting), target])
    if fitting:
        scores[fitting] = neuron_overlap(np.stack(sources), own)
    return scores


OVERLAP = Estimator(
    name="overlap",
    summary="overlap of the neurons that the prompt and a prompt tuned on the target activate (ON)",
    paper="Su et al., On Transferability of Prompt Tuning (https://arxiv.org/abs/2111.06719); ON in Zhang et al., "
    "Release the Powers of Prompt Tuning (https://openreview.net/forum?id=SYnIf4LxAG), appendix B.2",
    needs="activations",
    cost="one forward of M + 1 prompts, once the target prompt is tuned",
    applies="prompts as wide as the target's embeddings",
    score=_score,
)
