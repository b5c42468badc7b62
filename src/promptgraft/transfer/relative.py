"""Zero-shot search of a prompt in a relative space, in closed form.

Wu, Wu & Mou, "Zero-Shot Continuous Prompt Transfer: Generalizing Task Semantics Across Language Models", ICLR 2024,
search by 2,000 steps of Adam. But with C the target's anchors at unit length, one a row, the relation of v is C v by
|v|. So the cosine that eq. 5 maximises is that of r and C v: least squares, with the solution (CᵀC)⁻¹Cᵀ r.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promptgraft.errors import CompatibilityError, InputError

Array = NDArray[Any] | Tensor

TOP_K = 8192
"""Anchors that count for a row: appendix A.1 of the paper."""
_TOLERANCE = 1e-5  # of a solution, relative, in the norm of its system; a cosine falls short by the square of it
_FIXED_POINT_STEPS = 50
_SINGULAR = 1e-7  # of a Cholesky factor's diagonal, smallest to largest: digits that are left of float64's 16


@dataclass(frozen=True)
class Match:
    """What a search found.

    rows: (P, Dt) float64 at unit length: relations are cosines, which fix directions only.
    cosines: (P,) of source and target relation over the anchors that count, eq. 5; the mean over several sources.
    explained: (P,) share of the source relation's squared norm, over all anchors, that the target's relation matches;
        the mean over several sources.
    """

    rows: Tensor
    cosines: Tensor
    explained: Tensor


def relative_search(
    prompt: Array | Sequence[Array],
    source_anchors: Array | Sequence[Array],
    target_anchors: Array,
    *,
    top_k: int = TOP_K,
    absolute: bool = False,
    ridge: float = 0.0,
    normalise: bool = True,
) -> Array:
    """The target's prompt whose cosines to the anchors are most like the source's, eqs. 3 to 7 of the paper.

    Args:
        prompt: (P, Ds); or one of them for each of several sources, of any widths (eq. 7).
        source_anchors: (K, Ds), one row for each anchor; or one of them for each source.
        target_anchors: (K, Dt), the same anchors in the target.
        top_k: anchors that count for a row: those of its largest cosines; all where there are fewer.
        absolute: take the largest cosines by their size, whatever their sign; the paper takes the largest.
        ridge: added to the diagonal of CᵀC, in units of its mean eigenvalue; needed where fewer anchors count than the
            target has dimensions.
        normalise: bring the mean and the standard deviation of all values to those of the target's anchors (eq. 6);
            without it, rows are at unit length.

    Returns:
        (P, Dt) float64, a tensor where the prompt is one, else a numpy array.

    Raises:
        InputError: shapes do not go together, a row is zero or not finite, or the anchors do not determine the prompt.
        CompatibilityError: the sources' prompts differ in length.
    """
    options: dict[str, Any] = {"top_k": top_k, "absolute": absolute, "ridge": ridge}
    rows = relative_match(prompt, source_anchors, target_anchors, **options).rows
    if normalise:
        rows = normalised(rows, torch.as_tensor(target_anchors))
    first = prompt if isinstance(prompt, np.ndarray | Tensor) else prompt[0]
    return rows if isinstance(first, Tensor) else rows.cpu().numpy()


def normalised(rows: Tensor, embeddings: Tensor, spread: float = 1.0) -> Tensor:
    """Rows (P, Dt) with the mean and standard deviation of all values of `embeddings` (V, Dt), eq. 6 of the paper.

    spread: factor of that standard deviation; 1 is the paper's.
    """
    embeddings = embeddings.to(rows)
    return (rows - rows.mean()) / rows.std(correction=0) * (embeddings.std(correction=0) * spread) + embeddings.mean()


def relative_match(
    prompt: Array | Sequence[Array],
    source_anchors: Array | Sequence[Array],
    target_anchors: Array,
    *,
    top_k: int = TOP_K,
    absolute: bool = False,
    ridge: float = 0.0,
) -> Match:
    """`relative_search` with how well each row is matched; arguments and errors are its."""
    target = _rows(target_anchors, "target anchors").double()
    relations = _relations(prompt, source_anchors, target)
    anchors, width = target.shape
    counted = _checked(top_k, ridge, anchors, width)
    chosen = relations.abs() if absolute else relations
    masks = torch.zeros_like(relations).scatter_(2, chosen.topk(counted, dim=2).indices, 1)
    kept = relations * masks
    wanted = kept / kept.norm(dim=2, keepdim=True)

    C = _unit(target)
    solve = _solver(C, masks, ridge * counted / width)
    found = _unit(solve(masks.sum(0), wanted.sum(0)))  # exact where all sources share a mask
    cosines, sizes = _cosines(C, masks, wanted, found)
    if not (masks == masks[:1]).all():
        for _ in range(_FIXED_POINT_STEPS):
            # the gradient of eq. 7 vanishes where Cᵀ diag(weights) C v = Cᵀ targets, with both read at v itself
            weights = (cosines.clamp_min(0) / sizes**2)[..., None] * masks
            tried = _unit(solve(weights.sum(0), (wanted / sizes[..., None]).sum(0)))
            reached, at = _cosines(C, masks, wanted, tried)
            gain = reached.mean(0) - cosines.mean(0)
            better = gain > 0
            found = torch.where(better[:, None], tried, found)
            cosines, sizes = torch.where(better, reached, cosines), torch.where(better, at, sizes)
            if gain.max() < _TOLERANCE**2:
                break
    shares = (kept.norm(dim=2) / relations.norm(dim=2)) ** 2
    return Match(found, cosines.mean(0), (cosines**2 * shares).mean(0))


def matching_cosine(
    prompt: Array, rows: Array, source_anchors: Array, target_anchors: Array, *, top_k: int = TOP_K
) -> Tensor:
    """Cosines (P,) of the relations of any target rows (P, Dt) and of the prompt (P, Ds), eq. 5 of the paper.

    One minus them is the matching loss of the paper's figure 2. Anchors count as in `relative_search`.

    Raises:
        InputError: shapes do not go together, or a row is zero or not finite.
    """
    target = _rows(target_anchors, "target anchors").double()
    [relations] = _relations(prompt, source_anchors, target)
    mask = torch.zeros_like(relations).scatter_(1, relations.topk(min(top_k, len(target)), dim=1).indices, 1)
    reached = _unit(_rows(rows, "target rows").to(target)) @ _unit(target).T
    return torch.cosine_similarity(relations * mask, reached * mask)


def _relations(prompt: Array | Sequence[Array], source_anchors: Array | Sequence[Array], target: Tensor) -> Tensor:
    """Cosines (S, P, K) of the rows of each of S sources to its anchors, eq. 3."""
    prompts = [prompt] if isinstance(prompt, np.ndarray | Tensor) else list(prompt)
    anchors = [source_anchors] if isinstance(source_anchors, np.ndarray | Tensor) else list(source_anchors)
    if not prompts or len(prompts) != len(anchors):
        raise InputError(f"each prompt needs its model's anchors; got {len(prompts)} prompts, {len(anchors)} sets.")
    relations: list[Tensor] = []
    for index, (one, its) in enumerate(zip(prompts, anchors, strict=True)):
        rows, known = _rows(one, f"prompt {index}"), _rows(its, f"source anchors {index}")
        if rows.shape[1] != known.shape[1] or len(known) != len(target):
            raise InputError(
                f"prompt {index} is {tuple(rows.shape)}, its anchors {tuple(known.shape)}, the target's "
                f"{tuple(target.shape)}: a prompt is as wide as its anchors, and all models have the same anchors."
            )
        if relations and len(rows) != relations[0].shape[0]:
            raise CompatibilityError(
                f"prompt {index} has {len(rows)} rows, prompt 0 has {relations[0].shape[0]}. Rows are matched one by "
                "one: choose prompts of one length."
            )
        relations.append(_unit(rows.to(target)) @ _unit(known.to(target)).T)
    return torch.stack(relations)


def _checked(top_k: int, ridge: float, anchors: int, width: int) -> int:
    """How many anchors count for a row."""
    if top_k < 1:
        raise InputError(f"top_k must be 1 or more, got {top_k}.")
    if not 0 <= ridge < float("inf"):
        raise InputError(f"ridge must be 0 or more, got {ridge}.")
    counted = min(top_k, anchors)
    if counted < width and not ridge:
        raise InputError(
            f"{counted} anchors count (top_k {top_k}, {anchors} shared), the target has {width} dimensions: many "
            "prompts match equally well. Raise top_k, or give a ridge such as 0.1, which takes the shortest of them."
        )
    return counted


def _solver(C: Tensor, masks: Tensor, penalty: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Solve (Cᵀ diag(weights_p) C + penalty) v_p = Cᵀ targets_p for each row p; weights and targets (P, K).

    Where all anchors count, one factor serves all rows. Else each row has a system of its own, and conjugate gradients
    solve all of them in one batch: the factor of what they have in common leaves few steps to go.
    """
    gram = C.T @ C * masks.mean()
    gram.diagonal().add_(penalty)
    factor, failed = torch.linalg.cholesky_ex(gram)
    diagonal = factor.diagonal()
    if failed.item() or diagonal.min() < _SINGULAR * diagonal.max():
        raise InputError(
            "the target's anchors leave dimensions of it open: some of them repeat or depend on others. Give a ridge "
            "such as 0.01, which leaves what is open at zero."
        )

    def by_factor(right: Tensor) -> Tensor:
        solved: Tensor = torch.cholesky_solve(right.T, factor).T
        return solved

    def solve(weights: Tensor, targets: Tensor) -> Tensor:
        scale = weights.mean(1, keepdim=True) / masks.mean()
        right = targets @ C
        v: Tensor = by_factor(right) / scale
        if bool((weights == weights[:, :1]).all()):
            return v
        residual = right - ((v @ C.T) * weights) @ C - penalty * scale * v
        goal = _TOLERANCE**2 * _dot(right, v)
        z = by_factor(residual) / scale
        direction, size = z, _dot(residual, z)
        for _ in range(4 * C.shape[1]):
            if (size <= goal).all():
                break
            image = ((direction @ C.T) * weights) @ C + penalty * scale * direction
            # rows that are done stand still: their sizes may have come to 0
            step = torch.where(size > goal, size / _dot(direction, image), 0.0)
            v = v + step * direction
            residual = residual - step * image
            z = by_factor(residual) / scale
            before, size = size, torch.where(size > goal, _dot(residual, z), size)
            direction = z + torch.where(size > goal, size / before, 0.0) * direction
        return v

    return solve


def _cosines(C: Tensor, masks: Tensor, wanted: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines (S, P) of the targets' relations (S, P, K), at unit length, and v's own; and the norms of these."""
    reached = (v @ C.T) * masks
    sizes = reached.norm(dim=2)
    return (wanted * reached).sum(2) / sizes, sizes


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1, keepdim=True)


def _unit(rows: Tensor) -> Tensor:
    unit: Tensor = rows / rows.norm(dim=1, keepdim=True)
    return unit


def _rows(values: Array, what: str) -> Tensor:
    """See values as a tensor (n, D) that has a direction in every row."""
    rows = torch.as_tensor(values).detach()
    if rows.dim() != 2 or not rows.numel() or not rows.is_floating_point():
        raise InputError(f"{what} must be floats (rows, width), not empty; got {rows.dtype} {tuple(rows.shape)}.")
    usable = rows.isfinite().all(1) & rows.any(1)
    if not usable.all():
        row = int((~usable).nonzero()[0])
        raise InputError(f"row {row} of {what} is zero or not finite: it has no direction. Leave it out.")
    return rows
