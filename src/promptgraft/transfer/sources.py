"""What a transfer takes from a source prompt."""

from torch import Tensor

from promptgraft.errors import CompatibilityError
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


def live_rows(tensor: Tensor, dead: tuple[int, ...]) -> Tensor:
    """A prompt (L, P, D) without the rows that its card calls dead."""
    keep = [row for row in range(tensor.shape[1]) if row not in dead]
    if not keep:
        raise CompatibilityError("every row of the prompt is dead: there is nothing to transfer.")
    return tensor[:, keep]
