"""Linear heads: fitted on constant features, or made of label words.

The whole learning-rate x weight-decay x seed grid is trained at once: every setting is one block of columns of the
same weight matrix, so a step of all settings is two matrix products.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from promptgraft.backbones.base import Backbone
from promptgraft.errors import InputError
from promptgraft.tuning.prompted import Head

LEARNING_RATES = (0.1, 0.03, 0.01, 0.003, 0.001)
WEIGHT_DECAYS = (0.1, 0.01, 0.001, 0.0)
MOMENTUM = 0.9


@dataclass(frozen=True)
class LinearGrid:
    """What the grid found.

    heads: the best head of each seed. accuracy, loss: (S, R, W) on the selection split, for S seeds, R learning rates,
    W weight decays; a setting that diverged has accuracy -1. best: per seed, the (learning rate, weight decay) chosen.
    """

    heads: tuple[Head, ...]
    accuracy: Tensor
    loss: Tensor
    best: tuple[tuple[float, float], ...]


def standardization(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale (D,) of features (N, D); columns that are constant, but for rounding, get scale 1."""
    wide = features.double()  # in float32 the rounding of a large mean looks like spread
    mean, scale = wide.mean(0), wide.std(0, correction=0)
    constant = scale <= 1e-6 * mean.abs().clamp(min=1)
    return mean.to(features), scale.masked_fill(constant, 1.0).to(features)


def fit_linear_grid(
    features: Tensor,
    labels: Tensor,
    selection: tuple[Tensor, Tensor],
    classes: int,
    *,
    learning_rates: Sequence[float] = LEARNING_RATES,
    weight_decays: Sequence[float] = WEIGHT_DECAYS,
    seeds: Sequence[int] = (0,),
    epochs: int = 100,
    batch_size: int = 64,
    class_balanced: bool = False,
    label_smoothing: float = 0.0,
) -> LinearGrid:
    """Train softmax regression by SGD (momentum 0.9, cosine) for every setting at once; choose on a selection split.

    Args:
        features: (N, D).
        labels: (N,) int64.
        selection: features (V, D) and labels (V,) that choose the setting: best accuracy, then lowest loss.
        classes: C.
        learning_rates: R values.
        weight_decays: W values, on weights only.
        seeds: S values, of the order of the examples.
        epochs: passes over the data.
        batch_size: examples per step.
        class_balanced: every class weighs the same in the loss.
        label_smoothing: share of the target spread evenly over the classes.

    Raises:
        ValueError: every setting diverged.
    """
    mean, scale = standardization(features)
    x, y = (features - mean) / scale, labels
    seeds_n, settings = len(seeds), len(learning_rates) * len(weight_decays)
    rate = x.new_tensor(learning_rates).repeat_interleave(len(weight_decays) * classes)
    decay = x.new_tensor(weight_decays).repeat(len(learning_rates)).repeat_interleave(classes)
    target = F.one_hot(y, classes).to(x) * (1 - label_smoothing) + label_smoothing / classes
    importance = class_weights(y, classes)[y].to(x) if class_balanced else torch.ones(len(y)).to(x)
    weight = x.new_zeros(seeds_n, x.shape[1], settings * classes)
    bias = x.new_zeros(seeds_n, 1, settings * classes)
    weight_speed, bias_speed = torch.zeros_like(weight), torch.zeros_like(bias)
    orders = [torch.Generator().manual_seed(seed) for seed in seeds]
    steps = -(-len(y) // batch_size)
    for epoch in range(epochs):
        order = torch.stack([torch.randperm(len(y), generator=generator) for generator in orders])
        for step in range(steps):
            now = 0.5 * (1 + math.cos(math.pi * (epoch * steps + step) / (epochs * steps)))
            rows = order[:, step * batch_size : (step + 1) * batch_size]
            batch = x[rows]
            logits = torch.baddbmm(bias, batch, weight).view(seeds_n, -1, settings, classes)
            error = logits.softmax(3).sub_(target[rows][:, :, None]).mul_(importance[rows][..., None, None])
            gradient = error.flatten(2) / rows.shape[1]
            weight_speed.mul_(MOMENTUM).add_(batch.transpose(1, 2) @ gradient).addcmul_(weight, decay)
            bias_speed.mul_(MOMENTUM).add_(gradient.sum(1, keepdim=True))
            weight.addcmul_(weight_speed, -rate * now)
            bias.addcmul_(bias_speed, -rate * now)
    return _choose(weight, bias, mean, scale, selection, learning_rates, weight_decays, classes)


def verbalizer_head(backbone: Backbone, words: Sequence[str], classes: int) -> Head:
    """The frozen head that reads classes as words: the backbone's masked-language head, cut down to C of them.

    Args:
        backbone: with pool `mask`.
        words: a word for each class, in their order.
        classes: C.

    Raises:
        InputError: not one word for each class, or a word that is not one token.
        CompatibilityError: the backbone has another pool.
    """
    if len(words) != classes:
        raise InputError(
            f"the verbalizer has {len(words)} words and the task {classes} classes. Give one word for each class, in "
            "their order."
        )
    weight, bias = backbone.score_words(words)
    return Head(torch.zeros(weight.shape[1]), torch.ones(weight.shape[1]), weight, bias).requires_grad_(False)


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Weights (C,) that make every class weigh the same, with mean 1 over the examples."""
    counts = torch.bincount(labels, minlength=classes).clamp(min=1)
    return len(labels) / (int((torch.bincount(labels, minlength=classes) > 0).sum()) * counts)


def _choose(
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    scale: Tensor,
    selection: tuple[Tensor, Tensor],
    learning_rates: Sequence[float],
    weight_decays: Sequence[float],
    classes: int,
) -> LinearGrid:
    """Score every setting on the selection split; ties in accuracy go to the lower loss."""
    features, labels = selection
    grid = (len(learning_rates), len(weight_decays))
    logits = torch.baddbmm(bias, ((features - mean) / scale).expand(len(weight), -1, -1), weight)
    logits = logits.view(len(weight), len(labels), -1, classes)
    loss = -logits.log_softmax(3).gather(3, labels[None, :, None, None].expand(*logits.shape[:3], 1)).mean((1, 3))
    accuracy = (logits.argmax(3) == labels[None, :, None]).double().mean(1)
    accuracy = torch.where(loss.isfinite(), accuracy, -1.0)
    if bool((accuracy.max(1).values < 0).any()):
        raise ValueError("every setting of the linear grid diverged")
    heads, best = [], []
    for s in range(len(weight)):
        tied = accuracy[s] == accuracy[s].max()
        chosen = int(torch.where(tied, loss[s], torch.inf).argmin())
        columns = slice(chosen * classes, (chosen + 1) * classes)
        heads.append(Head(mean, scale, weight[s, :, columns].T.contiguous(), bias[s, 0, columns]))
        best.append((learning_rates[chosen // grid[1]], weight_decays[chosen % grid[1]]))
    return LinearGrid(tuple(heads), accuracy.view(-1, *grid), loss.view(-1, *grid), tuple(best))
