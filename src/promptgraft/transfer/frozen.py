"""A source prompt is used as it is; only the head is trained (cross-modality prompt transfer, eq. 2)."""

from promptgraft.transfer.sources import fitting_source
from promptgraft.tuning.method import Method
from promptgraft.tuning.prompted import FrozenPrompt

frozen = Method(
    name="frozen",
    summary="the source prompt as it is, a linear head on the constant features",
    paper="https://openreview.net/forum?id=SYnIf4LxAG",
    sources="one",
    start="source",
    build=lambda setting: FrozenPrompt(fitting_source(setting)),
    head_only=True,
)
