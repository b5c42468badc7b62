"""Linear probing: the whole learning-rate x weight-decay grid at once against one setting after the other."""

import math
from dataclasses import replace
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from promptgraft.bench.base import Row, Size, compare, relative_error
from promptgraft.tuning.head import LEARNING_RATES, MOMENTUM, WEIGHT_DECAYS, fit_linear_grid, standardization

CLASSES, BATCH = 10, 64
Split = tuple[Tensor, Tensor]


def linear_grid(size: Size) -> list[Row]:
    """800 features of 384 numbers, 10 classes, 20 settings, 40 epochs (smoke: 150 of 8, 3 epochs).

    The error is that of the selection losses of all settings, every step of which they depend on.
    The second row's baseline is the first row's own code, called once per setting: what the grid itself saves.
    """
    examples, dim, epochs, rounds = (800, 384, 40, 3) if size != "smoke" else (150, 8, 3, 1)
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, dim, generator=generator)

    def draw(count: int) -> Split:
        labels = torch.randint(CLASSES, (count,), generator=generator)
        return centres[labels] + 4 * torch.randn(count, dim, generator=generator), labels

    train, selection = draw(examples), draw(examples // 4)
    settings = list(product(LEARNING_RATES, WEIGHT_DECAYS))

    def at_once() -> Tensor:
        return _losses(train, selection, LEARNING_RATES, WEIGHT_DECAYS, epochs)

    def in_turn() -> Tensor:
        return torch.cat([_losses(train, selection, (rate,), (decay,), epochs) for rate, decay in settings])

    def by_optimizer() -> Tensor:
        return torch.stack([_loss_by_optimizer(train, selection, *setting, epochs) for setting in settings])

    ours, count = at_once(), len(settings)
    work = f"{count} settings, {epochs} epochs of {examples} x {dim}, {CLASSES} classes"
    literal = compare(
        "linear-grid",
        "SGD, one by one",
        at_once,
        by_optimizer,
        error=relative_error(ours, by_optimizer()),
        rounds=rounds,
        note=work,
    )
    own = compare(
        "linear-grid-own",
        "same code, one by one",
        at_once,
        in_turn,
        error=relative_error(ours, in_turn()),
        rounds=rounds,
    )
    note = f"the grid of {count} costs as much as {count / own.ratio:.1f} of its settings one by one"
    return [literal, replace(own, note=note)]


def _losses(
    train: Split, selection: Split, rates: tuple[float, ...], decays: tuple[float, ...], epochs: int
) -> Tensor:
    """Selection losses of all settings, flat."""
    grid = fit_linear_grid(
        *train, selection, CLASSES, learning_rates=rates, weight_decays=decays, epochs=epochs, batch_size=BATCH
    )
    return grid.loss.flatten()


def _loss_by_optimizer(train: Split, selection: Split, rate: float, decay: float, epochs: int) -> Tensor:
    """Selection loss of one setting, trained by autograd and torch.optim.SGD on the same batches."""
    mean, scale = standardization(train[0])
    x, labels = (train[0] - mean) / scale, train[1]
    weight = torch.zeros(CLASSES, x.shape[1], requires_grad=True)
    bias = torch.zeros(CLASSES, requires_grad=True)
    groups: list[dict[str, Any]] = [{"params": [weight], "weight_decay": decay}, {"params": [bias]}]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM)
    order = torch.Generator().manual_seed(0)
    batches = [rows for _ in range(epochs) for rows in torch.split(torch.randperm(len(x), generator=order), BATCH)]
    for step, rows in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / len(batches)))
        loss = F.cross_entropy(F.linear(x[rows], weight, bias), labels[rows])
        weight.grad, bias.grad = torch.autograd.grad(loss, (weight, bias))
        optimizer.step()
    with torch.no_grad():
        return F.cross_entropy(F.linear((selection[0] - mean) / scale, weight, bias), selection[1])
