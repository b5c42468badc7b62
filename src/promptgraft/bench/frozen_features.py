"""Training heads on a frozen prompt: features once and the whole grid on them, against a forward pass per epoch."""

import math
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from promptgraft.backbones.base import Tokens
from promptgraft.bench.base import Row, Size, compare, relative_error
from promptgraft.bench.training_step import random_vit
from promptgraft.tuning.head import LEARNING_RATES, MOMENTUM, WEIGHT_DECAYS, fit_linear_grid, standardization

CLASSES, BATCH = 10, 64


def frozen_features(size: Size) -> list[Row]:
    """200 images of 26 tokens under a prompt of 20 rows, ViT-S, 20 settings, 100 epochs (smoke: 12 images, a toy, 2).

    The baseline runs the model in every epoch of every setting, as the papers' code does. The error is that of the
    training loss of one setting after two epochs, in float64.
    """
    images, dim, depth, heads, epochs, rounds = (200, 384, 12, 6, 100, 3) if size != "smoke" else (12, 16, 2, 2, 2, 1)
    backbone = random_vit(dim, depth, heads)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(images, 26, dim, generator=generator)
    prompt = torch.randn(1, 20, dim, generator=generator)
    labels = torch.arange(images) % CLASSES
    settings = list(product(LEARNING_RATES, WEIGHT_DECAYS))

    def features(rows: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([backbone.run(Tokens(tokens[some]), prompt) for some in torch.split(rows, BATCH)])

    def ours(rates: tuple[float, ...], decays: tuple[float, ...], epochs: int) -> Tensor:
        seen = features(torch.arange(images))
        grid = fit_linear_grid(
            seen,
            labels,
            (seen, labels),
            CLASSES,
            learning_rates=rates,
            weight_decays=decays,
            epochs=epochs,
            batch_size=BATCH,
        )
        return grid.loss.flatten()

    def theirs(rate: float, decay: float, epochs: int) -> Tensor:
        mean, scale = standardization(features(torch.arange(images)))
        weight = torch.zeros(CLASSES, dim, requires_grad=True)
        bias = torch.zeros(CLASSES, requires_grad=True)
        groups: list[dict[str, Any]] = [{"params": [weight], "weight_decay": decay}, {"params": [bias]}]
        optimizer = torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM)
        order = torch.Generator().manual_seed(0)
        shuffled = [torch.randperm(images, generator=order) for _ in range(epochs)]
        batches = [rows for examples in shuffled for rows in torch.split(examples, BATCH)]
        for step, rows in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / len(batches)))
            logits = F.linear((features(rows) - mean) / scale, weight, bias)
            weight.grad, bias.grad = torch.autograd.grad(F.cross_entropy(logits, labels[rows]), (weight, bias))
            optimizer.step()
        with torch.no_grad():
            logits = F.linear((features(torch.arange(images)) - mean) / scale, weight, bias)
            return F.cross_entropy(logits, labels)[None]

    rate, decay = LEARNING_RATES[0], WEIGHT_DECAYS[0]
    row = compare(
        "frozen-features",
        "a forward per epoch",
        lambda: ours(LEARNING_RATES, WEIGHT_DECAYS, epochs),
        lambda: theirs(rate, decay, 1),
        error=relative_error(ours((rate,), (decay,), 2), theirs(rate, decay, 2)),
        rounds=rounds,
        share=3 / (2 + epochs) / len(settings),  # one epoch, and the features before and after
        note=f"{images} images, {len(settings)} settings, {epochs} epochs; baseline on 1 of 1, scaled up",
    )
    return [row]
