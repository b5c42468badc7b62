"""The contract of a transferability estimator: evidence about M prompts in, M scores out, larger = better."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from promptgraft.card import PromptCard
from promptgraft.registry import Registry

Need = Literal["card", "prompt", "patches", "features", "target prompt", "activations"]
"""From cheap to dear. "features" take a pass of the target under each prompt. "activations" come on top of the target
prompt, which takes training."""

Sketches = Mapping[str, NDArray[Any]]
"""Sketches of M prompts of one width, by field: each an array with one entry per prompt (`sketch.FIELDS`)."""


@dataclass(frozen=True)
class Grafted:
    """The target as the frozen model sees it under one source prompt.

    features: (N, D) of N training examples. labels: (N,). source_classes: (N, Z), the probabilities that the prompt's
    own head gives its source's classes; None where it has no head for this model.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    source_classes: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Evidence:
    """What estimators may look at; what is costly is made when it is first needed, and then kept.

    prompts: M arrays (P_i, D_i): the rows that enter with the embeddings (a deep prompt's first layer), without dead
        rows.
    cards: the M cards of these prompts.
    embed_patches: makes the target's embedded input tokens (n, D), prefix tokens such as CLS left out.
    tune_prompt: makes a shallow prompt (P, D) that is tuned on the target.
    activate: values of the target model's neurons (M, K) under each of M prompts (P_i, D).
    graft: place of a prompt -> the target under it; None where it does not fit.
    seed: seeds every random draw of an estimator.
    """

    prompts: Sequence[NDArray[np.float32]]
    cards: Sequence[PromptCard]
    embed_patches: Callable[[], NDArray[np.float32]]
    tune_prompt: Callable[[], NDArray[np.float32]]
    activate: Callable[[Sequence[NDArray[np.float32]]], NDArray[np.float32]]
    seed: int = 0
    graft: Callable[[int], Grafted | None] = lambda index: None

    @cached_property
    def patches(self) -> NDArray[np.float32]:
        """The target's embedded input tokens, (n, D)."""
        return self.embed_patches()

    @cached_property
    def target_prompt(self) -> NDArray[np.float32]:
        """A shallow prompt that was tuned on the target, (P, D)."""
        return self.tune_prompt()


@dataclass(frozen=True)
class Estimator:
    """One way to tell beforehand which prompt transfers.

    summary: what it measures, in one line.
    paper: where it comes from.
    needs: the dearest evidence that it looks at.
    cost: what it computes, in terms of M prompts of P rows and n patches.
    applies: which prompts it has a score for; the others get NaN.
    score: evidence -> (M,) float64, larger = transfers better.
    by_sketch: evidence about a target -> what scores prompts by their sketches alone, near enough to `score` to find
        those worth reading; NaN where `score` gives NaN. None where the rows must be seen, or where a prompt's score
        depends on the others.
    version: raised whenever its scores change.
    """

    name: str
    summary: str
    paper: str
    needs: Need
    cost: str
    applies: str
    score: Callable[[Evidence], NDArray[np.float64]]
    by_sketch: Callable[[Evidence], Callable[[Sketches], NDArray[np.float64]]] | None = None
    version: int = 1


ESTIMATORS: Registry[Estimator] = Registry(
    "estimator",
    {
        "diffused-cosine": "promptgraft.transferability.diffusion:DIFFUSED_COSINE",
        "gap": "promptgraft.transferability.mmd:GAP",
        "gap-rbf": "promptgraft.transferability.mmd:GAP_RBF",
        "gap-linear": "promptgraft.transferability.mmd:GAP_LINEAR",
        "h-score": "promptgraft.transferability.hscore:H_SCORE",
        "leave-one-out": "promptgraft.transferability.leaving_out:LEAVE_ONE_OUT",
        "leep": "promptgraft.transferability.expected_prediction:LEEP",
        "log-me": "promptgraft.transferability.logme:LOG_ME",
        "mean-cosine": "promptgraft.transferability.cosine:MEAN_COSINE",
        "n-leep": "promptgraft.transferability.expected_prediction:N_LEEP",
        "norm": "promptgraft.transferability.norm:NORM",
        "overlap": "promptgraft.transferability.neurons:OVERLAP",
        "task-gap": "promptgraft.transferability.projector:TASK_GAP",
        "token-cosine": "promptgraft.transferability.cosine:TOKEN_COSINE",
        "transferability": "promptgraft.transferability.combined:TRANSFERABILITY",
        "volume": "promptgraft.transferability.volume:VOLUME",
    },
)
