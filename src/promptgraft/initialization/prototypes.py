"""Self-Prompt Tuning: a prompt that starts as the target's own tokens (Wang et al. 2024, section 3.3-3.4)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from promptgraft.backbones.base import Backbone
from promptgraft.errors import InputError
from promptgraft.tasks.embedded import EmbeddedSplit, tokens_at

CHUNK = 64


def prototypes(
    backbone: Backbone,
    inputs: Sequence[Any] | EmbeddedSplit,
    *,
    kind: str = "sample",
    length: int,
    layers: str = "shallow",
    share: float = 1.0,
    seed: int = 0,
) -> Tensor:
    """Tokens of the target's own inputs as a prompt (L, P, D).

    Layer i's rows are tokens at the input of block i; those of a shallow prompt are embedded tokens, position
    embeddings included (E_0 of eq. 1). CLS, registers and padding are never taken. Every row comes from an input drawn
    for it alone, independently per layer, so only L x P inputs are forwarded.

    Args:
        backbone: the frozen model.
        inputs: raw inputs, or a split that is already embedded.
        kind: `sample`, tokens drawn at random.
        length: P.
        layers: `shallow` (L = 1) or `deep` (L = depth).
        share: part of the inputs that may be drawn from, in (0, 1].
        seed: of the draw.

    Raises:
        InputError: unknown kind or layers, no inputs, or a share out of range.
    """
    if kind != "sample":
        raise InputError(f"there is no kind of prototype named {kind!r}. Known: sample.")
    if layers not in ("shallow", "deep"):
        raise InputError(f"layers must be 'shallow' or 'deep', got {layers!r}.")
    if not 0 < share <= 1:
        raise InputError(f"share must be in (0, 1], got {share}.")
    if length < 1:
        raise InputError(f"a prompt has at least one row, got length {length}.")
    if len(inputs) == 0:
        raise InputError("prototypes need at least one input, got none.")
    count = 1 if layers == "shallow" else backbone.info.depth
    generator = torch.Generator().manual_seed(seed)
    pool = torch.randperm(len(inputs), generator=generator)[: max(1, round(share * len(inputs)))]
    rounds = -(-count * length // len(pool))
    chosen = torch.cat([pool[torch.randperm(len(pool), generator=generator)] for _ in range(rounds)])
    chosen = chosen[: count * length].view(count, length)
    where = torch.rand(count, length, generator=generator)
    return torch.stack([_layer_rows(backbone, inputs, i, chosen[i], where[i], layers) for i in range(count)])


def _layer_rows(
    backbone: Backbone, inputs: Sequence[Any] | EmbeddedSplit, layer: int, chosen: Tensor, where: Tensor, layers: str
) -> Tensor:
    """Rows (P, D) of one layer: from input `chosen[j]` the token at fraction `where[j]` of its patches or words."""
    info = backbone.info
    first = backbone.prefix_length if info.modality == "vision" else int(info.position == "after_cls")
    rows = []
    for start in range(0, len(chosen), CHUNK):
        index = chosen[start : start + CHUNK]
        tokens = tokens_at(backbone, inputs, index)
        with torch.no_grad():
            values = tokens.values
            if layers == "deep":
                for i, entering in enumerate(backbone.layer_inputs(tokens)):
                    if i == layer:
                        values = entering
                        break
        whole = torch.full((len(index),), values.shape[1])
        last = whole if tokens.mask is None else tokens.mask.sum(1).cpu()
        position = first + (where[start : start + CHUNK] * (last - first)).long()
        position = torch.minimum(position, last - 1)  # rounding up, and texts that are nothing but CLS
        rows.append(values[torch.arange(len(index)), position].float().cpu())
    return torch.cat(rows)
