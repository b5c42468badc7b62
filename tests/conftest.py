"""Factories that many tests share."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from promptgraft.card import BackboneInfo, PromptCard, PromptInfo, Score, TaskInfo, TrainingInfo
from promptgraft.prompt import SoftPrompt


def build_prompt(
    layers: int = 1,
    length: int = 4,
    dim: int = 16,
    modality: Any = "text",
    name: str = "text/example",
    seed: int = 0,
    head: bool = False,
    **card: Any,
) -> SoftPrompt:
    generator = torch.Generator().manual_seed(seed)
    made = PromptCard(
        name=name,
        task=TaskInfo(name="example", modality=modality, classes=("no", "yes"), n_train=32, fingerprint="f" * 64),
        backbone=BackboneInfo(
            name="tiny",
            source="test",
            family="bert",
            modality=modality,
            weights_sha256="0" * 64,
            dim=dim,
            embed_dim=dim,
            depth=max(layers, 2),
            heads=2,
            pool="cls",
            position="after_cls",
        ),
        prompt=PromptInfo(
            length=length,
            layers=layers,
            dim=dim,
            position="after_cls",
            pool="cls",
            init="random",
            init_args={"std": 0.5},
        ),
        training=TrainingInfo(
            recipe={"lr": 0.1},
            seed=seed,
            epochs=3,
            scores={"val": Score(value=0.75, low=0.5, high=0.9, n=16)},
            seconds=1.5,
            device="cpu",
        ),
        method="vpt",
        versions={"promptgraft": "0"},
        licence="CC0-1.0",
    ).model_copy(update=card)
    tensor = torch.randn(layers, length, dim, generator=generator)
    return SoftPrompt(tensor, made, head=(torch.ones(2, dim), torch.zeros(2)) if head else None)


@pytest.fixture(scope="session")
def make_prompt() -> Callable[..., SoftPrompt]:
    """`make_prompt(layers=1, length=4, dim=16, modality="text", name=..., seed=0, head=False, **card_fields)`."""
    return build_prompt
