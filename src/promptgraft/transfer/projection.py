"""A linear layer carries a frozen source prompt into the target's space (cross-modality prompt transfer, eq. 3)."""

import torch
from torch import Tensor, nn

from promptgraft.backbones.base import Backbone, Tokens
from promptgraft.errors import CompatibilityError
from promptgraft.transfer.sources import live_rows
from promptgraft.tuning.method import Method, Setting
from promptgraft.tuning.prompted import PromptModule


class ProjectedPrompt(PromptModule):
    """P(p_s): one linear layer with bias over the frozen rows of a shallow source, (1, P, Ds) -> (1, P, Dt).

    The paper leaves the start open. Equal widths start at the identity, so training starts from the frozen prompt;
    other widths start at Xavier's, with a zero bias.
    """

    source: Tensor

    def __init__(self, source: Tensor, width: int, seed: int) -> None:
        super().__init__()
        self.register_buffer("source", source.detach().clone())
        self.projection = nn.Linear(source.shape[2], width)
        with torch.no_grad():
            if source.shape[2] == width:
                self.projection.weight.copy_(torch.eye(width))
            else:
                generator = torch.Generator().manual_seed(seed)
                nn.init.xavier_uniform_(self.projection.weight, generator=generator)
            self.projection.bias.zero_()

    def forward(self, tokens: Tokens) -> Tensor:
        """The projected prompt, (1, P, Dt)."""
        projected: Tensor = self.projection(self.source)
        return projected


def _fits(backbone: Backbone, layers: int, width: int, what: str) -> None:
    if layers != 1:
        raise CompatibilityError(
            f"{what} is deep ({layers} layers); projection carries shallow prompts. Choose one of those, or `--method "
            "initial` where the width and the depth fit."
        )


def _build(setting: Setting) -> PromptModule:
    source = setting.sources[0]
    _fits(setting.backbone, source.card.prompt.layers, source.card.prompt.dim, f"prompt {source.card.name!r}")
    rows = live_rows(source.tensor, source.card.prompt.dead_rows)
    return ProjectedPrompt(rows, setting.backbone.info.embed_dim, setting.seed)


projection = Method(
    name="projection",
    summary="a learned linear layer over the frozen source prompt",
    paper="https://openreview.net/forum?id=SYnIf4LxAG",
    sources="one",
    start="source",
    build=_build,
    fits=_fits,
)
