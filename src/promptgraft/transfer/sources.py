"""What a transfer takes from a source prompt."""

from collections.abc import Callable

import torch
from torch import Tensor

from promptgraft.backbones.base import Backbone
from promptgraft.errors import CompatibilityError
from promptgraft.initialization.random import xavier
from promptgraft.tuning.method import Setting


def fitting_source(setting: Setting) -> Tensor:
    """The rows (L, P, D) of the only source, dead rows left out, checked against the backbone.

    Raises:
        CompatibilityError: its width or layers do not fit; names the method that bridges them.
    """
    source = setting.sources[0]
    tensor = live_rows(source.tensor, source.card.prompt.dead_rows)
    setting.backbone.check(tensor.shape[0], tensor.shape[2], what=f"prompt {source.card.name!r}")
    return tensor


def shallow_source(setting: Setting, method: str) -> Tensor:
    """The rows (1, P, D) of the only source, of any width, dead rows left out.

    Raises:
        CompatibilityError: it is deep; names the method that takes deep ones.
    """
    source = setting.sources[0]
    info = source.card.prompt
    fits_shallow(method)(setting.backbone, info.layers, info.dim, f"prompt {source.card.name!r}")
    return live_rows(source.tensor, info.dead_rows)


def fits_shallow(method: str) -> Callable[[Backbone, int, int, str], None]:
    """The `fits` of a method that carries shallow prompts of any width."""

    def fits(backbone: Backbone, layers: int, width: int, what: str) -> None:
        if layers != 1:
            raise CompatibilityError(
                f"{what} is deep ({layers} layers); {method} carries shallow prompts. Choose one of those, or "
                "`--method initial` where the width and the depth fit."
            )

    return fits


def live_rows(tensor: Tensor, dead: tuple[int, ...]) -> Tensor:
    """A prompt (L, P, D) without the rows that its card calls dead."""
    keep = [row for row in range(tensor.shape[1]) if row not in dead]
    if not keep:
        raise CompatibilityError("every row of the prompt is dead: there is nothing to transfer.")
    return tensor[:, keep]


def bridge(source: int, target: int, generator: torch.Generator) -> Tensor:
    """The start of a linear map (target, source) between widths, as a linear layer's weight; the papers leave it open.

    Equal widths start at the identity, so that training starts from the source's own rows; others at Xavier's.
    """
    return torch.eye(target) if source == target else xavier((target, source), generator)
