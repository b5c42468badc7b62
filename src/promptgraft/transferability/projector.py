"""The task gap: cosine of source prompts to the target prompt, after one linear projector has carried them over.

Equation 5 of Zhang et al., "Release the Powers of Prompt Tuning: Cross-Modality Prompt Transfer"; the training of the
universal projector after appendix C.4.2 and C.5.4.

The projector is linear, so the mean of projected rows is the projection of their mean. Its loss reads such means only:
a training step projects M mean rows instead of all M P rows, with equal gradients. It goes no further than that (to
Gram matrices of the rows, say), since Adam scales every entry of the matrix by itself and so leaves the rows' span.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promptgraft.errors import CompatibilityError, InputError
from promptgraft.transferability.arrays import Array, as_array, as_rows, mean_row
from promptgraft.transferability.base import Estimator, Evidence


def task_gap(
    prompts: Array | Sequence[Array],
    target_prompt: Array,
    *,
    lr: float = 1e-4,
    weight_decay: float = 0.1,
    epochs: int = 100,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Task gap of M prompts to one target (eq. 5): minus the cosine of projected mean row and target mean row.

    The projector, a linear layer with bias, starts at random (uniform in +-1 / sqrt(Ds), as torch.nn.Linear does). In
    every epoch all rows are shuffled across the prompts anew and dealt out to M groups of the prompts' lengths; Adam
    takes one step on the mean Euclidean distance of the M projected group means to the target's mean row (eq. 4 of the
    appendix). Weight decay is Adam's, added to the gradient. The defaults are the paper's. Arithmetic is float64 if an
    input is, otherwise float32.

    Args:
        prompts: (M, P, Ds), or M arrays (P_i, Ds) of mixed lengths; M >= 2.
        target_prompt: (P_t, Dt), tuned on the target.
        lr: learning rate.
        weight_decay: of weights and bias.
        epochs: training steps.
        seed: seeds the start and the shuffles.

    Returns:
        (M,) gaps in [-1, 1], float64, smaller = nearer. They depend on which prompts are measured together.

    Raises:
        InputError: fewer than two prompts, an argument out of range, a prompt that is not (P, D), is empty, or holds
            NaN, infinite values or a row of zeros, a target prompt whose rows cancel out, or a diverging projector.
        CompatibilityError: the prompts are not all of one width.
    """
    sources, target = _check(prompts, target_prompt)
    if not (0 < lr < np.inf and 0 <= weight_decay < np.inf and epochs >= 1):
        raise InputError(
            f"lr is {lr}, weight_decay is {weight_decay}, epochs is {epochs}. Give a positive rate, a decay that is "
            "not negative, and at least one epoch."
        )
    rows = torch.from_numpy(np.concatenate(sources))
    goal = torch.from_numpy(mean_row(target, "the target prompt"))
    lengths = [len(source) for source in sources]
    weight, bias = _train(rows, lengths, goal, lr, weight_decay, epochs, seed)
    means = torch.from_numpy(np.stack([source.mean(0) for source in sources]))
    cosines = torch.cosine_similarity(torch.addmm(bias, means, weight.T), goal[None], dim=1, eps=0)
    if not bool(cosines.isfinite().all()):
        raise InputError(f"the projector diverged with lr {lr} and weight_decay {weight_decay}. Lower them.")
    gaps: NDArray[np.float64] = -cosines.double().numpy()
    return gaps


def _train(
    rows: Tensor, lengths: list[int], goal: Tensor, lr: float, weight_decay: float, epochs: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Weight (Dt, Ds) and bias (Dt,) of the universal projector."""
    bound = rows.shape[1] ** -0.5
    generator = torch.Generator().manual_seed(seed)
    weight, bias = (  # drawn in float64, so that float32 starts at the same place
        torch.empty(shape, dtype=torch.float64).uniform_(-bound, bound, generator=generator).to(rows.dtype)
        for shape in ((len(goal), rows.shape[1]), (len(goal),))
    )
    optimizer = torch.optim.Adam([weight, bias], lr=lr, weight_decay=weight_decay, fused=True)
    shuffles = np.random.default_rng(seed)
    places = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    sizes = torch.tensor(lengths)[:, None]
    group = torch.empty_like(places)
    for _ in range(epochs):
        group[shuffles.permutation(len(rows))] = places
        means = rows.new_zeros(len(lengths), rows.shape[1]).index_add_(0, group, rows) / sizes
        away = torch.addmm(bias - goal, means, weight.T)
        away /= torch.linalg.vector_norm(away, dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
        away /= len(lengths)  # the gradient of the mean distance at the M projected means
        weight.grad, bias.grad = away.T @ means, away.sum(0)
        optimizer.step()
    return weight, bias


def _check(
    prompts: Array | Sequence[Array], target_prompt: Array
) -> tuple[list[NDArray[np.floating]], NDArray[np.floating]]:
    """The prompts and the target prompt in the dtype of the arithmetic."""
    given = [as_array(prompt) for prompt in prompts]
    dtype = np.result_type(*given, as_array(target_prompt), np.float32)
    target = as_rows(target_prompt, "the target prompt", dtype)
    sources = [as_rows(prompt, f"prompt {index}", dtype) for index, prompt in enumerate(given)]
    if len(sources) < 2:
        raise InputError(
            f"the universal projector is trained on rows that are shuffled across prompts; got {len(sources)} prompt. "
            "Give at least two."
        )
    for index, source in enumerate(sources):
        if source.shape[1] != sources[0].shape[1]:
            raise CompatibilityError(
                f"prompt {index} is {source.shape[1]} wide, prompt 0 is {sources[0].shape[1]} wide. A projector takes "
                "one width: measure prompts of one width at a time."
            )
    return sources, target


def _score(evidence: Evidence) -> NDArray[np.float64]:
    """Minus the task gap, by a projector of their own for the prompts of each width."""
    scores = np.full(len(evidence.prompts), np.nan)
    for width in {prompt.shape[1] for prompt in evidence.prompts}:
        same = [index for index, prompt in enumerate(evidence.prompts) if prompt.shape[1] == width]
        if len(same) > 1:
            sources = [evidence.prompts[index] for index in same]
            scores[same] = -task_gap(sources, evidence.target_prompt, seed=evidence.seed)
    return scores


TASK_GAP = Estimator(
    name="task-gap",
    summary="cosine to a prompt tuned on the target, after one linear projector for all prompts",
    paper="Zhang et al., Release the Powers of Prompt Tuning: Cross-Modality Prompt Transfer "
    "(https://openreview.net/forum?id=SYnIf4LxAG), eq. 5 and appendix C.4.2",
    needs="target prompt",
    cost="100 steps of M Ds Dt, once the target prompt is tuned",
    applies="prompts of a width that two or more prompts share",
    score=_score,
)
