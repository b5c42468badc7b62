"""How a prompt relates to the tokens that it stands among, and what source prompts make of a target."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptgraft.analysis.cka import linear_cka as linear_cka
    from promptgraft.analysis.cka import prompt_cka as prompt_cka
    from promptgraft.analysis.nmi import normalized_mutual_information as normalized_mutual_information
    from promptgraft.analysis.sample import TokenSample as TokenSample
    from promptgraft.analysis.sources import SourceWatch as SourceWatch
    from promptgraft.analysis.watch import PromptWatch as PromptWatch

_HOMES = {
    "PromptWatch": "watch",
    "SourceWatch": "sources",
    "TokenSample": "sample",
    "linear_cka": "cka",
    "normalized_mutual_information": "nmi",
    "prompt_cka": "cka",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
