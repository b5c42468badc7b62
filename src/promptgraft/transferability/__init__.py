"""Transferability estimators: pure functions of float arrays, and the registry that `rank` picks from."""

# No file here bears the name of a function: importing the file would put the module in the function's place.

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from promptgraft.transferability.base import ESTIMATORS as ESTIMATORS
    from promptgraft.transferability.base import Estimator as Estimator
    from promptgraft.transferability.base import Evidence as Evidence
    from promptgraft.transferability.combined import transferability as transferability
    from promptgraft.transferability.cosine import mean_cosine as mean_cosine
    from promptgraft.transferability.cosine import token_cosine as token_cosine
    from promptgraft.transferability.diffusion import diffused_cosine as diffused_cosine
    from promptgraft.transferability.evaluate import kendall as kendall
    from promptgraft.transferability.evaluate import regret as regret
    from promptgraft.transferability.evaluate import spearman as spearman
    from promptgraft.transferability.expected_prediction import leep as leep
    from promptgraft.transferability.expected_prediction import n_leep as n_leep
    from promptgraft.transferability.gather import gather_evidence as gather_evidence
    from promptgraft.transferability.hscore import h_score as h_score
    from promptgraft.transferability.leaving_out import leave_one_out as leave_one_out
    from promptgraft.transferability.logme import log_me as log_me
    from promptgraft.transferability.mmd import modality_gap as modality_gap
    from promptgraft.transferability.neurons import neuron_activations as neuron_activations
    from promptgraft.transferability.neurons import neuron_overlap as neuron_overlap
    from promptgraft.transferability.norm import prompt_norm as prompt_norm
    from promptgraft.transferability.projector import task_gap as task_gap
    from promptgraft.transferability.ranking import rank as rank
    from promptgraft.transferability.resampling import agreement_interval as agreement_interval
    from promptgraft.transferability.resampling import paired_test as paired_test
    from promptgraft.transferability.volume import data_volume as data_volume

_HOMES = {
    "ESTIMATORS": "base",
    "Estimator": "base",
    "Evidence": "base",
    "agreement_interval": "resampling",
    "data_volume": "volume",
    "diffused_cosine": "diffusion",
    "gather_evidence": "gather",
    "h_score": "hscore",
    "kendall": "evaluate",
    "leave_one_out": "leaving_out",
    "leep": "expected_prediction",
    "log_me": "logme",
    "mean_cosine": "cosine",
    "modality_gap": "mmd",
    "n_leep": "expected_prediction",
    "neuron_activations": "neurons",
    "neuron_overlap": "neurons",
    "paired_test": "resampling",
    "prompt_norm": "norm",
    "rank": "ranking",
    "regret": "evaluate",
    "spearman": "evaluate",
    "task_gap": "projector",
    "token_cosine": "cosine",
    "transferability": "combined",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
