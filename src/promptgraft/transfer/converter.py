"""What a zero-shot converter is: prompts of source models to rows for a target model, without data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.registry import Registry
from promptgraft.transfer.anchors import Anchors, shared_anchors, word_embeddings
from promptgraft.transfer.patch_anchors import shared_patches


@dataclass(frozen=True)
class Passage:
    """What a converter may use.

    prompts: the live rows (P, Ds) of a shallow prompt of each source. sources: their models. target: where to.
    parts: prompts of equal length that stand one under another in these rows, to be converted at once. images: whose
    patches are the anchors of vision models; None for words.
    """

    prompts: tuple[Tensor, ...]
    sources: tuple[TransformerBackbone, ...]
    target: TransformerBackbone
    parts: int = 1
    images: Sequence[Any] | None = None

    @cached_property
    def anchors(self) -> Anchors:
        """What all models know, words or patches; embeddings in the order of the sources, then the target's."""
        models = (*self.sources, self.target)
        return shared_anchors(*models) if self.images is None else shared_patches(*models, images=self.images)

    @cached_property
    def embeddings(self) -> tuple[Tensor, ...]:
        """Each model's embeddings (V, D) of all tokens, or of all patches of the images; the target's last."""
        if self.images is None:
            return tuple(word_embeddings(model) for model in (*self.sources, self.target))
        return self.anchors.embeddings


@dataclass(frozen=True)
class Converted:
    """The target's rows (P, Dt), and what the converter knows of their quality, for the card.

    diagnostics: JSON values. of_rows: for each of the P rows a number or a word.
    """

    rows: Tensor
    diagnostics: dict[str, Any]
    of_rows: dict[str, Tensor | list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Converter:
    """One way to carry a prompt to another model.

    name: as the user writes it. summary: one line. paper: where it comes from. run: a passage, and options by keyword,
    to rows. several: it takes several sources at once.
    """

    name: str
    summary: str
    paper: str
    run: Callable[..., Converted]
    several: bool = False


PAPER = "https://arxiv.org/abs/2310.01691"

CONVERTERS: Registry[Converter] = Registry(
    "converter",
    {
        "relative": "promptgraft.transfer.relative_converter:RELATIVE",
        "copy": "promptgraft.transfer.direct_copy:COPY",
        "discretization": "promptgraft.transfer.discretization:DISCRETIZATION",
        "neural-projector": "promptgraft.transfer.neural_projector:NEURAL_PROJECTOR",
    },
)
