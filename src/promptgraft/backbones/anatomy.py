"""A transformer taken apart where prompts need it: each block is split at its attention.

One family = one function that returns the anatomy of a `transformers` model; the run of tokens and prompts through it
is the same for all families (`promptgraft.backbones.transformer`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from promptgraft.backbones.base import Batch, Tokens
from promptgraft.card import Modality, Pool, Position
from promptgraft.registry import Registry

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Block:
    """One block, split at its attention and before its feed-forward.

    enter: (B, n, dim) -> (B, n, dim), what the attention projects (the first norm of a pre-norm block, else identity).
    query, key, value: (B, n, dim) -> (B, n, dim) projections.
    merge: (rows of the block's input, their attention context) -> rows after the attention, all (B, n, dim).
    neurons: rows after the attention -> what the feed-forward's activation function acts on, (B, n, neurons).
    feed: rows after the attention -> rows of the block's output, both (B, n, dim).
    """

    enter: Map
    query: Map
    key: Map
    value: Map
    merge: Callable[[Tensor, Tensor], Tensor]
    neurons: Map
    feed: Map
    heads: int
    scale: float

    def leave(self, x: Tensor, context: Tensor) -> Tensor:
        """Rows of the block's output, from rows of its input and their attention context."""
        return self.feed(self.merge(x, context))


@dataclass(frozen=True)
class Anatomy:
    """How a model embeds, what its blocks are, and how it ends.

    embed: prepared batch -> Tokens, position embeddings included, before any embedding norm.
    lift: (B, n, embed_dim) -> (B, n, dim), from the embeddings to the first block: embedding norm, ALBERT's widening.
    norm: what follows the last block, (B, n, dim) -> (B, n, dim): a norm, a masked-language head's transform.
    prefix: number of tokens before the first patch (CLS, distillation and register tokens); 0 for text.
    bias: additive attention bias from query and key positions, (b, q), (k,) -> (b, heads, q, k).
    """

    modality: Modality
    blocks: tuple[Block, ...]
    embed: Callable[[Batch], Tokens]
    lift: Map
    norm: Map
    embed_dim: int
    dim: int
    pool: Pool
    position: Position = "after_cls"
    prefix: int = 0
    causal: bool = False
    bias: Callable[[Tensor, Tensor], Tensor] | None = None
    image_size: int | None = None
    patch_size: int | None = None


FAMILIES: Registry[Callable[[Any], Anatomy]] = Registry(
    "model family",
    {
        "vit": "promptgraft.backbones.vision:vit",
        "deit": "promptgraft.backbones.vision:deit",
        "dinov2": "promptgraft.backbones.vision:dinov2",
        "dinov2_with_registers": "promptgraft.backbones.vision:dinov2",
        "clip_vision_model": "promptgraft.backbones.vision:clip",
        "vit_mae": "promptgraft.backbones.vision:vit_mae",
        "bert": "promptgraft.backbones.language:bert",
        "roberta": "promptgraft.backbones.language:roberta",
        "xlm-roberta": "promptgraft.backbones.language:roberta",
        "albert": "promptgraft.backbones.language:albert",
        "mpnet": "promptgraft.backbones.language:mpnet",
        "gpt2": "promptgraft.backbones.language:gpt2",
    },
)
"""transformers' `config.model_type` -> the function that takes such a model apart."""


def identity(x: Tensor) -> Tensor:
    """Return `x`: the norm that a family does not have."""
    return x


def first_int(size: Any) -> int:
    """A side length from a configuration that gives an int or a (height, width) pair."""
    return int(size if isinstance(size, int) else size[0])


def encoded(batch: Batch) -> tuple[Tensor, Tensor]:
    """`input_ids` and boolean `attention_mask`, both (B, T), of an encoded text batch."""
    assert not isinstance(batch, Tensor)
    ids = batch["input_ids"]
    mask = batch.get("attention_mask")
    return ids, torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.bool()


def pre_norm_end(project: Map, norm: nn.Module, widen: Map, feed_forward: Map) -> dict[str, Any]:
    """End of a pre-norm block: x + project(context), then x + feed_forward(norm(x)), which widens first."""
    return {
        "merge": lambda x, context: x + project(context),
        "neurons": lambda x: widen(norm(x)),
        "feed": lambda x: x + feed_forward(norm(x)),
    }
