"""The one training loop: any prompt module, any head, repeatable to the bit, resumable after any epoch."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field, TypeAdapter
from torch import Tensor

from promptgraft.errors import InputError, TrainingError
from promptgraft.files import content_key
from promptgraft.tasks.embedded import EmbeddedSplit
from promptgraft.tuning.checkpoint import (
    damaged,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from promptgraft.tuning.head import class_weights
from promptgraft.tuning.prompted import PromptedModel
from promptgraft.tuning.recipes import Recipe


@dataclass(frozen=True)
class Epoch:
    """One line of the learning curve; epoch 0 is the start, before any step. Losses in nats, accuracy in [0, 1]."""

    epoch: Annotated[int, Field(ge=0)]
    train_loss: float | None
    val_loss: float | None
    val_accuracy: float | None
    seconds: Annotated[float, Field(ge=0)]


def storable(history: Iterable[Epoch]) -> tuple[Epoch, ...]:
    """A learning curve as JSON can hold it: a validation loss that is not finite is None."""
    return tuple(
        replace(line, val_loss=None) if line.val_loss is not None and not math.isfinite(line.val_loss) else line
        for line in history
    )


_HISTORY = TypeAdapter(Annotated[list[Epoch], Field(min_length=1)])


class Trainer:
    """Trains a prompted model epoch by epoch.

    Everything random is drawn from (seed, epoch), so a run that was stopped goes on to the same result.

    Args:
        model: backbone, prompt and head.
        train: what is learned from.
        val: the selection split, or None to train for all epochs and keep the last.
        recipe: how.
        seed: of the order of the examples.
        checkpoint: a file that is written after each epoch and read at the start if it exists.
        key: what this run is, refused if the checkpoint is of another.

    Raises:
        InputError: the checkpoint belongs to another run, or is damaged.
    """

    def __init__(
        self,
        model: PromptedModel,
        train: EmbeddedSplit,
        val: EmbeddedSplit | None,
        recipe: Recipe,
        *,
        seed: int = 0,
        checkpoint: Path | None = None,
        key: str = "",
    ) -> None:
        self.model, self.train, self.val, self.recipe, self.seed = model, train, val, recipe, seed
        self.history: list[Epoch] = []
        self._checkpoint = checkpoint
        data = [[part.key, part.labels.tolist()] for part in (train, val) if part is not None]
        self._key = content_key(key, data, model.backbone.info.pool, recipe.model_dump(), seed)
        self._optimizer = _optimizer(model, recipe)
        self._importance = (
            class_weights(train.labels, len(model.head.bias))[train.labels].to(model.head.bias)
            if recipe.class_balanced
            else torch.ones(len(train)).to(model.head.bias)
        )
        self._best: dict[str, Tensor] = {}
        self._best_rank: tuple[float, float] = (-math.inf, -math.inf)
        self.best_epoch = 0
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)
        else:
            self._record(None, 0.0)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.history[-1].epoch

    @property
    def kept_epoch(self) -> int:
        """The epoch that the recipe keeps: the best on the selection split, or the last."""
        return self.best_epoch if self.recipe.keep == "best" and self._best else self.epoch

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or patience has run out."""
        patience = self.recipe.patience
        worn_out = self.val is not None and patience is not None and self.epoch - self.best_epoch >= patience
        return self.epoch >= self.recipe.epochs or worn_out

    @property
    def seconds(self) -> float:
        """Training time so far, evaluation included, over all sittings."""
        return sum(line.seconds for line in self.history)

    def run(self, until: int | None = None, on_epoch: Callable[[Epoch], None] | None = None) -> None:
        """Train until the recipe's end, or until epoch `until`.

        Raises:
            TrainingError: the loss is not finite; names the epoch and the learning rates.
        """
        while not self.finished and (until is None or self.epoch < until):
            started = time.perf_counter()
            loss = self._epoch()
            self._record(loss, started)
            if on_epoch is not None:
                on_epoch(self.history[-1])

    def keep(self) -> None:
        """Leave the model in the state that the recipe keeps: the best epoch on the selection split, or the last."""
        if self.recipe.keep == "best" and self._best:
            self.model.load_state_dict(self._best)
        self.model.eval()

    def _epoch(self) -> float:
        generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch))
        order = torch.randperm(len(self.train), generator=generator)
        steps = -(-len(order) // self.recipe.batch_size)
        total = 0.0
        self.model.train()
        self.model.prompt.start_epoch(self.epoch, self.recipe.epochs)
        with torch.random.fork_rng():
            torch.manual_seed(_mix(self.seed, self.epoch))
            for step in range(steps):
                self._schedule(self.epoch + step / steps)
                rows = order[step * self.recipe.batch_size : (step + 1) * self.recipe.batch_size]
                tokens = self.train.tokens(rows)
                features = self.model.prompt.features(self.model.backbone, tokens)
                logits = self.model.head(features)
                labels = self.train.labels[rows].to(logits.device)
                losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.recipe.label_smoothing)
                loss = (losses * self._importance[rows]).mean()
                penalty = self.model.prompt.penalty(self.model.backbone, tokens, features)
                loss = loss if penalty is None else loss + penalty
                self._check_finite(loss, f"the loss became {loss.item()}")
                self._optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                self._optimizer.step()
                total += loss.item() * len(rows)
        for parameter in self.model.parameters():  # the last step's loss is never seen
            self._check_finite(parameter, "the weights became infinite")
        return total / len(order)

    def _check_finite(self, value: Tensor, what: str) -> None:
        if not bool(torch.isfinite(value).all()):
            raise TrainingError(
                f"{what} in epoch {self.epoch + 1} with lr={self.recipe.lr:g}, head_lr={self.recipe.head_rate:g} "
                f"({self.recipe.optimizer}). Lower the learning rate."
            )

    def _schedule(self, epoch: float) -> None:
        """Set the learning rates: linear warm-up, then cosine to zero, by step."""
        warmup = min(self.recipe.warmup, self.recipe.epochs / 2)
        factor = 1.0
        if epoch < warmup:
            factor = (epoch + 1e-2) / (warmup + 1e-2)
        elif self.recipe.schedule == "cosine":
            factor = 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / max(self.recipe.epochs - warmup, 1e-9)))
        for group in self._optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

    def _record(self, loss: float | None, started: float) -> None:
        val_loss = val_accuracy = None
        if self.val is not None:
            logits = predict_logits(self.model, self.val)
            val_loss = F.cross_entropy(logits, self.val.labels).item()
            val_accuracy = (logits.argmax(1) == self.val.labels).double().mean().item()
        epoch = 0 if loss is None else self.epoch + 1
        seconds = time.perf_counter() - started if started else 0.0
        self.history.append(Epoch(epoch, loss, val_loss, val_accuracy, seconds))
        if val_accuracy is not None and val_loss is not None and math.isfinite(val_loss):
            rank = (val_accuracy, -val_loss)
            if rank > self._best_rank:
                self._best_rank, self.best_epoch = rank, epoch
                self._best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        if self._checkpoint is not None and loss is not None:
            self._save(self._checkpoint)

    def _save(self, path: Path) -> None:
        tensors = {
            "model": dict(self.model.state_dict()),
            "best": self._best,
            "optimizer": optimizer_tensors(self._optimizer),
        }
        state = {
            "key": self._key,
            "history": [asdict(line) for line in self.history],
            "best_rank": list(self._best_rank) if self._best else None,
            "best_epoch": self.best_epoch,
        }
        save_checkpoint(path, tensors, state)

    def _resume(self, path: Path) -> None:
        tensors, state = load_checkpoint(path)
        if state.get("key") != self._key:
            raise InputError(
                f"checkpoint {path} belongs to another run. Remove it, or resume with the data, settings and versions "
                "it was made with."
            )
        try:
            self.model.load_state_dict(tensors["model"])
            restore_optimizer(self._optimizer, tensors["optimizer"])
            self.history = _HISTORY.validate_python(state["history"])
            self._best, self.best_epoch = tensors.get("best", {}), int(state["best_epoch"])
            if not 0 <= self.best_epoch <= self.epoch:
                raise ValueError(f"its best epoch is {self.best_epoch} of {self.epoch}")
            if self._best:
                self._best_rank = (float(state["best_rank"][0]), float(state["best_rank"][1]))
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise damaged(path, error) from error


def predict_logits(model: PromptedModel, split: EmbeddedSplit) -> Tensor:
    """Logits (N, C) of a split, on the CPU."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(tokens).cpu() for tokens in split.batches()])


def _optimizer(model: PromptedModel, recipe: Recipe) -> torch.optim.Optimizer:
    """Weight decay on the prompt module and the head's weight, none on biases; what is frozen stays out."""
    prompt = [p for p in model.prompt.parameters() if p.requires_grad]
    weight, bias = ([p] if p.requires_grad else [] for p in (model.head.weight, model.head.bias))
    groups: list[dict[str, Any]] = [
        {"params": [p for p in prompt if p.dim() > 1], "base_lr": recipe.lr, "weight_decay": recipe.weight_decay},
        {"params": [p for p in prompt if p.dim() <= 1], "base_lr": recipe.lr, "weight_decay": 0.0},
        {"params": weight, "base_lr": recipe.head_rate, "weight_decay": recipe.weight_decay},
        {"params": bias, "base_lr": recipe.head_rate, "weight_decay": 0.0},
    ]
    groups = [{**group, "lr": group["base_lr"]} for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9)
    return (torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW)(groups, lr=recipe.lr)


def _mix(seed: int, epoch: int) -> int:
    return int(content_key(seed, epoch)[:15], 16)
