"""Linear probing: the whole learning-rate x weight-decay grid at once against one setting after the other."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from promptgraft.bench.base import Row, Size, compare, relative_error
from promptgraft.tuning.head import (
    LEARNING_RATES,
    MOMENTUM,
    WEIGHT_DECAYS,
    LinearGrid,
    fit_linear_grid,
    standardization,
)

CLASSES, BATCH = 10, 64
Split = tuple[Tensor, Tensor]


def linear_grid(size: Size) -> list[Row]:
    """800 features of 384 numbers, 10 classes, 20 settings, 40 epochs (smoke: 150 of 8, 3 epochs).

    The error is that of the selection losses of all settings, every step of which they depend on.
    The second row's baseline is the first row's own code, called once per setting: what the grid itself saves. The
    third one's is scikit-learn: as many strengths of its penalty, each solved to the end; `error` is how far the best
    selection accuracies differ.
    """
    examples, dim, epochs, rounds = (800, 384, 40, 3) if size != "smoke" else (150, 8, 3, 1)
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, dim, generator=generator)

    def draw(count: int) -> Split:
        labels = torch.randint(CLASSES, (count,), generator=generator)
        return centres[labels] + 4 * torch.randn(count, dim, generator=generator), labels

    train, selection = draw(examples), draw(examples // 4)
    settings = list(product(LEARNING_RATES, WEIGHT_DECAYS))

    def at_once() -> LinearGrid:
        return _grid(train, selection, LEARNING_RATES, WEIGHT_DECAYS, epochs)

    def in_turn() -> Tensor:
        return torch.stack(
            [_grid(train, selection, (rate,), (decay,), epochs).loss[0, 0, 0] for rate, decay in settings]
        )

    def by_optimizer() -> Tensor:
        return torch.stack([_loss_by_optimizer(train, selection, *setting, epochs) for setting in settings])

    ours, count = at_once().loss.flatten(), len(settings)
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
    return [literal, replace(own, note=note), _against_sklearn(train, selection, at_once)]


def _against_sklearn(train: Split, selection: Split, at_once: Callable[[], LinearGrid]) -> Row:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    strengths = np.logspace(-4, 3, len(LEARNING_RATES) * len(WEIGHT_DECAYS))

    def theirs() -> float:
        scaler = StandardScaler().fit(train[0].numpy())
        x, selected = (scaler.transform(split[0].numpy()) for split in (train, selection))
        fitted = (LogisticRegression(C=strength, max_iter=1000).fit(x, train[1].numpy()) for strength in strengths)
        return max(float(model.score(selected, selection[1].numpy())) for model in fitted)

    best, other = float(at_once().accuracy.max()), theirs()
    return compare(
        "linear-grid-sklearn",
        "LogisticRegression grid",
        at_once,
        theirs,
        error=abs(best - other) / other,
        rounds=1,
        note=f"{len(strengths)} strengths, each by L-BFGS; best selection accuracy {best:.3f}, theirs {other:.3f}",
        exact=False,
    )


def _grid(
    train: Split, selection: Split, rates: tuple[float, ...], decays: tuple[float, ...], epochs: int
) -> LinearGrid:
    return fit_linear_grid(
        *train, selection, CLASSES, learning_rates=rates, weight_decays=decays, epochs=epochs, batch_size=BATCH
    )


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
