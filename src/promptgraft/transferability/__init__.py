"""Transferability estimators: pure functions of float arrays, and the registry that `rank` picks from."""

# No file here bears the name of a function: importing the file would put the module in the function's place.

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptgraft.transferability.base import ESTIMATORS as ESTIMATORS
    from promptgraft.transferability.base import Estimator as Estimator
    from promptgraft.transferability.base import Evidence as Evidence
    from promptgraft.transferability.evaluate import kendall as kendall
    from promptgraft.transferability.evaluate import spearman as spearman
    from promptgraft.transferability.mmd import modality_gap as modality_gap
    from promptgraft.transferability.norm import prompt_norm as prompt_norm
    from promptgraft.transferability.ranking import rank as rank
    from promptgraft.transferability.volume import data_volume as data_volume

_HOMES = {
    "ESTIMATORS": "base",
    "Estimator": "base",
    "Evidence": "base",
    "data_volume": "volume",
    "kendall": "evaluate",
    "modality_gap": "mmd",
    "prompt_norm": "norm",
    "rank": "ranking",
    "spearman": "evaluate",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
