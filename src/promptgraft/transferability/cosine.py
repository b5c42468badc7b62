"""Cosine similarity of source prompts to a prompt that was tuned on the target: in-modality estimators.

Vu et al., "SPoT: Better Frozen Model Adaptation through Soft Prompt Transfer", ACL 2022, section 4, and Su et al., "On
Transferability of Prompt Tuning for Natural Language Processing", NAACL 2022, section 5.1.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from promptgraft.errors import CompatibilityError
from promptgraft.transferability.arrays import Array, as_rows, mean_row
from promptgraft.transferability.base import Estimator, Evidence, Sketches

Floats = NDArray[np.float64]


def mean_cosine(prompts: Array | Sequence[Array], target_prompt: Array) -> Floats:
    """Cosine of each prompt's mean row to the target prompt's mean row ("Avg Cos" of cross-modality prompt transfer).

    Args:
        prompts: (M, P, D), or M arrays (P_i, D) of mixed lengths.
        target_prompt: (P_t, D), tuned on the target.

    Returns:
        (M,) cosines in [-1, 1], larger = more alike.

    Raises:
        InputError: a prompt is not (P, D), is empty, holds NaN, infinite values or a row of zeros, or its rows cancel
            out.
        CompatibilityError: a prompt is not as wide as the target prompt.
    """
    return _products(prompts, target_prompt, lambda rows, what: _unit(mean_row(rows, what)))


def token_cosine(prompts: Array | Sequence[Array], target_prompt: Array) -> Floats:
    """Mean cosine of all pairs of a row of the prompt and a row of the target prompt.

    The mean of inner products is the inner product of means, so P x P_t cosines are one product of mean unit rows.

    Args:
        prompts: (M, P, D), or M arrays (P_i, D) of mixed lengths.
        target_prompt: (P_t, D), tuned on the target.

    Returns:
        (M,) mean cosines in [-1, 1], larger = more alike.

    Raises:
        InputError: a prompt is not (P, D), is empty, or holds NaN, infinite values or a row of zeros.
        CompatibilityError: a prompt is not as wide as the target prompt.
    """
    return _products(prompts, target_prompt, lambda rows, what: _unit(rows).mean(0))


def _products(
    prompts: Array | Sequence[Array], target_prompt: Array, digest: Callable[[Floats, str], Floats]
) -> Floats:
    """Inner products (M,) of what `digest` makes of each prompt's rows, one vector (D,), and of the target's."""
    target = as_rows(target_prompt, "the target prompt")
    vectors = np.empty((len(prompts), target.shape[1]))
    for index, prompt in enumerate(prompts):
        rows = as_rows(prompt, f"prompt {index}")
        if rows.shape[1] != target.shape[1]:
            raise CompatibilityError(
                f"prompt {index} is {rows.shape[1]} wide, the target prompt is {target.shape[1]} wide. Cosines need "
                "one width: leave the prompt out, or use task_gap, which projects it."
            )
        vectors[index] = digest(rows, f"prompt {index}")
    products: Floats = vectors @ digest(target, "the target prompt")
    return products


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return unit


def _score(evidence: Evidence, cosine: Callable[[Sequence[Array], Array], Floats]) -> Floats:
    scores = np.full(len(evidence.prompts), np.nan)
    target = evidence.target_prompt
    fitting = [index for index, prompt in enumerate(evidence.prompts) if prompt.shape[1] == target.shape[1]]
    scores[fitting] = cosine([evidence.prompts[index] for index in fitting], target)
    return scores


def _by_sketch(evidence: Evidence, field: str, goal: Callable[[Floats], Floats]) -> Callable[[Sketches], Floats]:
    """Inner products with what `goal` makes of the target prompt's rows, from vectors that are in the sketches."""
    vector = torch.from_numpy(goal(as_rows(evidence.target_prompt, "the target prompt"))).float()

    def score(sketches: Sketches) -> Floats:
        vectors = torch.from_numpy(sketches[field])
        if vectors.shape[1] != len(vector):
            return np.full(len(vectors), np.nan)
        scores: Floats = (vectors.float() @ vector).double().numpy()
        return scores

    return score


MEAN_COSINE = Estimator(
    name="mean-cosine",
    summary="cosine of the prompt's mean row to that of a prompt tuned on the target",
    paper="Vu et al., SPoT (https://arxiv.org/abs/2110.07904); Avg Cos in Zhang et al., Release the Powers of Prompt "
    "Tuning (https://openreview.net/forum?id=SYnIf4LxAG)",
    needs="target prompt",
    cost="M P D, once the target prompt is tuned",
    applies="prompts as wide as the target's embeddings",
    score=lambda evidence: _score(evidence, mean_cosine),
    by_sketch=lambda evidence: _by_sketch(
        evidence, "direction", lambda rows: _unit(mean_row(rows, "the target prompt"))
    ),
)

TOKEN_COSINE = Estimator(
    name="token-cosine",
    summary="mean cosine of all pairs of the prompt's rows and those of a prompt tuned on the target",
    paper="Su et al., On Transferability of Prompt Tuning (https://arxiv.org/abs/2111.06719), section 5.1",
    needs="target prompt",
    cost="M P D, once the target prompt is tuned",
    applies="prompts as wide as the target's embeddings",
    score=lambda evidence: _score(evidence, token_cosine),
    by_sketch=lambda evidence: _by_sketch(evidence, "unit_mean", lambda rows: _unit(rows).mean(0)),
)
