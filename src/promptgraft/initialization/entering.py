"""Tokens as they enter the blocks of a frozen model: which blocks, and which positions are patches or words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from promptgraft.backbones.base import Backbone, Tokens
from promptgraft.errors import CompatibilityError
from promptgraft.tasks.embedded import EmbeddedSplit, tokens_at

CHUNK = 64

Blocks = range | None
"""Blocks whose inputs are read; None: the embedded tokens, before the first."""


@dataclass(frozen=True)
class Entering:
    """The inputs of a task on their way through a backbone."""

    backbone: Backbone
    inputs: Sequence[Any] | EmbeddedSplit

    @property
    def first(self) -> int:
        """Position of the first patch or word."""
        info = self.backbone.info
        return self.backbone.prefix_length if info.modality == "vision" else int(info.position == "after_cls")

    def tokens(self, index: Tensor) -> Tokens:
        """Embedded tokens of the inputs at `index` (B,)."""
        return tokens_at(self.backbone, self.inputs, index)

    def at(self, tokens: Tokens, blocks: Blocks) -> Iterator[Tensor]:
        """The input (B, T, D) of each of the blocks; nothing after the last of them is run."""
        if blocks is None:
            yield tokens.values
            return
        for i, values in enumerate(self.backbone.layer_inputs(tokens)):
            if i in blocks:
                yield values
            if i == blocks[-1]:
                return

    def rows(self, index: Tensor, blocks: Blocks) -> Iterator[Tensor]:
        """Patches or words (n, D) of the inputs at `index` at each of the blocks: no CLS, registers or padding."""
        tokens = self.tokens(index)
        real = None if tokens.mask is None else tokens.mask[:, self.first :]
        for values in self.at(tokens, blocks):
            kept = values[:, self.first :]
            yield kept.flatten(0, 1) if real is None else kept[real.to(kept.device)]


def choose_blocks(backbone: Backbone, layers: str, tokens_of: str) -> Blocks:
    """Blocks whose inputs a prompt's rows come from.

    Args:
        backbone: that the prompt is for.
        layers: `shallow` or `deep`.
        tokens_of: `own`, `first` or `last`.

    Raises:
        CompatibilityError: a shallow prompt of the last block's tokens, where these are wider than embeddings.
    """
    info = backbone.info
    if tokens_of == "last":
        if layers == "shallow" and info.embed_dim != info.dim:
            raise CompatibilityError(
                f"a shallow prompt of {info.name} is {info.embed_dim} wide and the tokens of its last block are "
                f"{info.dim} wide. Take tokens of the first block, or a deep prompt."
            )
        return range(info.depth - 1, info.depth)
    if layers == "shallow":
        return None
    return range(info.depth if tokens_of == "own" else 1)
