"""Training heads on a frozen prompt: features once and the whole grid on them, against a forward pass per epoch."""

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from promptgraft.backbones.base import Tokens
from promptgraft.bench.base import Row, Size, compare, relative_error
from promptgraft.bench.training_step import random_vit
from promptgraft.tuning.head import LEARNING_RATES, MOMENTUM, WEIGHT_DECAYS, fit_linear_grid, standardization

CLASSES, BATCH = 10, 64
RATES = tuple(0.3 / 2**i for i in range(9))
"""Nine learning rates; with four weight decays the 36 settings of the papers' grids."""


def frozen_features(size: Size) -> list[Row]:
    """100 images of 26 tokens under a prompt of 20 rows, ViT-S, 20 settings, 100 epochs (smoke: 12 images, a toy, 2).

    The baseline runs the model in every epoch of every setting, as the papers' code does. The error is that of the
    training loss of one setting after two epochs. The second row asks what 36 settings cost beside one, features
    included; its error is that of the first setting's loss in both.
    """
    images, shape, epochs, rounds = (100, (384, 12, 6), 100, 3) if size != "smoke" else (12, (16, 2, 2), 2, 1)
    frozen = Frozen(images, *shape)
    one = (RATES[0],), (WEIGHT_DECAYS[0],)
    whole = compare(
        "frozen-features-36",
        "one setting alone",
        lambda: frozen.grid(RATES, WEIGHT_DECAYS, epochs),
        lambda: frozen.grid(*one, epochs),
        error=relative_error(frozen.grid(RATES, WEIGHT_DECAYS, 2)[:1], frozen.grid(*one, 2)),
        rounds=rounds,
    )
    count = len(RATES) * len(WEIGHT_DECAYS)
    note = f"features, then {count} settings x {epochs} epochs in {1 / whole.ratio:.2f} times what one takes"
    return [against_recomputing("frozen-features", frozen, epochs, rounds), replace(whole, note=note)]


class Frozen:
    """Images of 26 random tokens, a ViT of random weights and a prompt of 20 rows, none of which changes."""

    def __init__(self, images: int, dim: int, depth: int, heads: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images, self.dim = images, dim
        self.labels = torch.arange(images) % CLASSES
        self._backbone = random_vit(dim, depth, heads)
        self._tokens = torch.randn(images, 26, dim, generator=generator)
        self._prompt = torch.randn(1, 20, dim, generator=generator)

    def features(self, rows: Tensor) -> Tensor:
        """Of some images, by a forward pass."""
        parts = torch.split(rows, BATCH)
        with torch.no_grad():
            return torch.cat([self._backbone.run(Tokens(self._tokens[part]), self._prompt) for part in parts])

    def all_features(self) -> Tensor:
        """Of all images."""
        return self.features(torch.arange(self.images))

    def grid(self, rates: tuple[float, ...], decays: tuple[float, ...], epochs: int) -> Tensor:
        """Training losses of all settings, flat, from features that are computed once."""
        seen = self.all_features()
        selection = (seen, self.labels)
        grid = fit_linear_grid(
            seen,
            self.labels,
            selection,
            CLASSES,
            learning_rates=rates,
            weight_decays=decays,
            epochs=epochs,
            batch_size=BATCH,
        )
        return grid.loss.flatten()

    def one_by_one(self, rate: float, decay: float, epochs: int) -> Tensor:
        """Training loss of one setting, the model run in every step."""
        mean, scale = standardization(self.all_features())
        weight = torch.zeros(CLASSES, self.dim, requires_grad=True)
        bias = torch.zeros(CLASSES, requires_grad=True)
        groups: list[dict[str, Any]] = [{"params": [weight], "weight_decay": decay}, {"params": [bias]}]
        optimizer = torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM)
        order = torch.Generator().manual_seed(0)
        shuffled = [torch.randperm(self.images, generator=order) for _ in range(epochs)]
        batches = [rows for examples in shuffled for rows in torch.split(examples, BATCH)]
        for step, rows in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / len(batches)))
            logits = F.linear((self.features(rows) - mean) / scale, weight, bias)
            weight.grad, bias.grad = torch.autograd.grad(F.cross_entropy(logits, self.labels[rows]), (weight, bias))
            optimizer.step()
        with torch.no_grad():
            logits = F.linear((self.all_features() - mean) / scale, weight, bias)
            return F.cross_entropy(logits, self.labels)[None]


def against_recomputing(name: str, frozen: Frozen, epochs: int, rounds: int) -> Row:
    """Time the whole grid on features computed once against one epoch of one setting, scaled up."""
    rate, decay, settings = LEARNING_RATES[0], WEIGHT_DECAYS[0], len(LEARNING_RATES) * len(WEIGHT_DECAYS)
    return compare(
        name,
        "a forward per epoch",
        lambda: frozen.grid(LEARNING_RATES, WEIGHT_DECAYS, epochs),
        lambda: frozen.one_by_one(rate, decay, 1),
        error=relative_error(frozen.grid((rate,), (decay,), 2), frozen.one_by_one(rate, decay, 2)),
        rounds=rounds,
        share=3 / (2 + epochs) / settings,  # one epoch, and the features before and after
        note=f"{frozen.images} images, {settings} settings, {epochs} epochs; baseline on 1 of 1, scaled up",
    )
