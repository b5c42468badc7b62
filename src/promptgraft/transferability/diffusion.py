"""Whitened cosines of prompts' mean rows, spread over the whole library: an estimator that compares prompts only.

Three steps, none with a fitted number:

1. A row counts by the signs of its entries. Models normalise their input rows, so a row's scale tells nothing, and in
   signs the few outlier dimensions of a language model weigh no more than any other.
2. The rows of one prompt are repeated measurements of one task. How they scatter about their prompt's mean, pooled
   over all prompts, is noise: means are compared after whitening by it (within-class covariance normalisation, Hatch
   et al., Interspeech 2006; shrunk after Ledoit and Wolf, 2004).
3. A source transfers if it is like the target, or like tasks that are like the target: Katz's index (Psychometrika,
   1953) on the graph of cosines, half-way to the radius where it diverges.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from promptgraft.errors import CompatibilityError
from promptgraft.transferability.arrays import Array, as_rows, mean_row
from promptgraft.transferability.base import Estimator, Evidence

Floats = NDArray[np.float64]


def diffused_cosine(prompts: Array | Sequence[Array], target_prompt: Array) -> Floats:
    """Whitened cosine of each prompt to the target prompt, directly and by way of the other prompts.

    Args:
        prompts: (M, P, D), or M arrays (P_i, D) of mixed lengths. All of them shape the score of each.
        target_prompt: (P_t, D), tuned on the target.

    Returns:
        (M,) scores, larger = transfers better; comparable within one call only.

    Raises:
        InputError: a prompt is not (P, D), is empty, holds NaN, infinite values or a row of zeros, or the signs of its
            rows cancel out.
        CompatibilityError: a prompt is not as wide as the target prompt.
    """
    target = as_rows(target_prompt, "the target prompt")
    signs, means = [np.sign(target)], [mean_row(np.sign(target), "the target prompt")]
    for index, prompt in enumerate(prompts):
        rows = as_rows(prompt, f"prompt {index}")
        if rows.shape[1] != target.shape[1]:
            raise CompatibilityError(
                f"prompt {index} is {rows.shape[1]} wide, the target prompt is {target.shape[1]} wide. Cosines need "
                "one width: leave the prompt out, or use task_gap, which projects it."
            )
        signs.append(np.sign(rows))
        means.append(mean_row(signs[-1], f"prompt {index}"))
    scatter = np.concatenate([rows - mean for rows, mean in zip(signs, means, strict=True)])
    return _spread(_whitened_cosines(np.stack(means), scatter))[1:, 0]


def _whitened_cosines(means: Floats, scatter: Floats) -> Floats:
    """Cosines (M, M) of means (M, D) in the inner product of the inverse covariance of the scatter (n, D)."""
    from sklearn.covariance import ledoit_wolf_shrinkage

    products = means @ means.T
    if scatter.any():  # it does not where every prompt has one row
        shrinkage = max(ledoit_wolf_shrinkage(scatter, assume_centered=True), 1 / len(scatter))  # keeps it invertible
        covariance = (1 - shrinkage) / len(scatter) * scatter.T @ scatter
        covariance.flat[:: len(covariance) + 1] += shrinkage * np.square(scatter).sum() / scatter.size
        products = means @ np.linalg.solve(covariance, means.T)
    norms = np.sqrt(products.diagonal())
    cosines: Floats = products / norms[:, None] / norms
    return cosines


def _spread(cosines: Floats) -> Floats:
    """Katz's index of the graph of M prompts: the sum over all walks, a walk of k steps weighed by (2 radius)^-k."""
    identity = np.eye(len(cosines))
    links = cosines - identity
    radius = np.abs(np.linalg.eigvalsh(links)).max()
    index: Floats = np.linalg.inv(identity - links / (2 * radius)) if radius else identity
    return index


def _score(evidence: Evidence) -> Floats:
    scores = np.full(len(evidence.prompts), np.nan)
    target = evidence.target_prompt
    fitting = [index for index, prompt in enumerate(evidence.prompts) if prompt.shape[1] == target.shape[1]]
    if fitting:
        scores[fitting] = diffused_cosine([evidence.prompts[index] for index in fitting], target)
    return scores


DIFFUSED_COSINE = Estimator(
    name="diffused-cosine",
    summary="whitened cosine to a prompt tuned on the target, also by way of the library's other prompts",
    paper="a method of this library",
    needs="target prompt",
    cost="M P D^2 + D^3, once the target prompt is tuned",
    applies="prompts as wide as the target's embeddings",
    score=_score,
)
