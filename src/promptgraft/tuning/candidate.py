"""One method on one task, trained as far as asked: the unit that `tune`, `transfer` and `adapt` work with."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promptgraft.card import Score
from promptgraft.errors import TrainingError
from promptgraft.intervals import accuracy
from promptgraft.tasks.embedded import EmbeddedSplit
from promptgraft.tuning.features import frozen_features
from promptgraft.tuning.fit import Epoch, Trainer, predict_logits
from promptgraft.tuning.head import LEARNING_RATES, WEIGHT_DECAYS, fit_linear_grid, verbalizer_head
from promptgraft.tuning.method import Layers, Method, Setting
from promptgraft.tuning.prompted import Head, PromptedModel
from promptgraft.tuning.recipes import Recipe


class Candidate:
    """A method in a setting: its model, its learning curve, and its answers on the selection split.

    The head starts at the linear probe's solution on the features of the starting prompt (the recipe's `head_start`).
    A head of label words (the recipe's `verbalizer`) stays as it starts. A module without anything to train is
    finished there: its features are constant.

    Args:
        method: what to build.
        setting: with what.
        val: the selection split; None trains as far as asked and keeps the last epoch (the final fit).
        classes: C.
        recipe: how to train.
        checkpoint: a file to resume from and to write after each epoch.
        probe: (learning rate, weight decay) of the linear probe, not a grid of them, where nothing can select.

    Raises:
        InputError: not one label word for each class.
        CompatibilityError: a source is missing or does not fit, or the backbone is not read by label words.
        TrainingError: the linear probe diverged.
    """

    def __init__(
        self,
        method: Method,
        setting: Setting,
        val: EmbeddedSplit | None,
        classes: int,
        recipe: Recipe,
        *,
        checkpoint: Path | None = None,
        probe: tuple[float, float] | None = None,
    ) -> None:
        method.check(setting.sources, setting.layers)
        setting = replace(setting, recipe=recipe, val=val)
        started = time.perf_counter()
        self.method, self.setting, self.recipe, self.val = method, setting, recipe, val
        self.status = "running"
        self.reason: str | None = None
        module = method.build(setting).to(setting.backbone.device)
        self.probe = probe
        head = self._start_head(module, classes)
        self.model = PromptedModel(setting.backbone, module, head).to(setting.backbone.device)
        self.parameters = self.model.parameter_count()
        self._start_seconds = time.perf_counter() - started
        self.trainer: Trainer | None = None
        if module.trainable:
            sources = [source.id for source in setting.sources]
            self.trainer = Trainer(
                self.model,
                setting.train,
                val,
                recipe,
                seed=setting.seed,
                checkpoint=checkpoint,
                key=f"{method.name}/{setting.layers}/{setting.prompt_length}/{sources}",
            )
        else:
            self._finish()

    @property
    def shown_layers(self) -> Layers | None:
        """Depth of a new prompt; None where the source decides it, or there is no prompt."""
        return self.setting.layers if self.method.layers else None

    @property
    def label(self) -> str:
        """Method and depth, such as `spt deep`."""
        return self.method.name if self.shown_layers is None else f"{self.method.name} {self.shown_layers}"

    @property
    def source(self) -> str | None:
        """Name of the source prompt, or of all."""
        if not self.setting.sources:
            return None
        return self.setting.source_name or " + ".join(source.card.name for source in self.setting.sources)

    @property
    def history(self) -> list[Epoch]:
        """The learning curve."""
        return self.trainer.history if self.trainer else []

    @property
    def best_epoch(self) -> int:
        """The epoch that is kept."""
        if self.trainer is None:
            return 0
        return self.trainer.kept_epoch

    @property
    def seconds(self) -> float:
        """Time spent on this candidate."""
        return self._start_seconds + (self.trainer.seconds if self.trainer else 0.0)

    @property
    def epoch(self) -> int:
        """Epochs trained."""
        return self.trainer.epoch if self.trainer else 0

    @property
    def epoch_seconds(self) -> float:
        """Mean seconds of an epoch so far; 0 before the first."""
        return self.trainer.seconds / self.epoch if self.trainer and self.epoch else 0.0

    def standing(self) -> tuple[float, float]:
        """Selection accuracy and minus its loss, of the kept epoch."""
        if self.trainer is None:
            return self._rank
        ranks = [(line.val_accuracy or 0.0, -loss) for line, loss in self._losses()]
        if not ranks:
            return (-math.inf, -math.inf)
        return max(ranks) if self.recipe.keep == "best" else ranks[-1]

    def loss(self, until: int) -> float:
        """Selection loss in nats after `until` epochs, or the lowest until then where the best epoch is kept."""
        losses = [loss for line, loss in self._losses() if line.epoch <= until] or [math.inf]
        return min(losses) if self.recipe.keep == "best" else losses[-1]

    def _losses(self) -> list[tuple[Epoch, float]]:
        """Epochs of a finite selection loss, each with it."""
        lines = [(line, line.val_loss) for line in self.history]
        return [(line, loss) for line, loss in lines if loss is not None and math.isfinite(loss)]

    def advance(self, until: int | None = None, on_epoch: Callable[[Epoch], None] | None = None) -> None:
        """Train until epoch `until`, or to the end; finishing keeps the recipe's epoch.

        Raises:
            TrainingError: the loss is not finite.
        """
        if self.trainer is None or self.status != "running":
            return
        self.trainer.run(until, on_epoch)
        if self.trainer.finished:
            self._finish()

    def stop(self, status: str, reason: str | None = None) -> None:
        """Leave it where it stands: `stopped early`, or `failed` with a reason."""
        if status != "failed":
            self._finish()
        self.status, self.reason = status, reason

    def _finish(self) -> None:
        if self.trainer is not None:
            self.trainer.keep()
        self.status = "finished"
        if self.val is not None:
            logits = self.logits(self.val)
            labels = self.val.labels
            loss = torch.nn.functional.cross_entropy(logits, labels).item()
            self.val_correct: NDArray[np.bool_] = (logits.argmax(1) == labels).numpy()
            self._rank = (float(self.val_correct.mean()), -loss)

    def val_score(self) -> Score | None:
        """Selection accuracy with its interval, None where there is no selection split or nothing was kept."""
        correct = getattr(self, "val_correct", None)
        return None if correct is None else accuracy(correct)

    def logits(self, split: EmbeddedSplit) -> Tensor:
        """Logits (N, C) of a split as the model stands, on the CPU; constant features come from the cache."""
        if self.trainer is not None:
            return predict_logits(self.model, split)
        with torch.no_grad():
            logits: Tensor = self.model.head(frozen_features(self.setting.backbone, split, self.model.prompt))
        return logits.cpu()

    def _start_head(self, module: Any, classes: int) -> Head:
        backbone, train = self.setting.backbone, self.setting.train
        if self.recipe.verbalizer is not None:
            return verbalizer_head(backbone, self.recipe.verbalizer, classes)
        if self.recipe.head_start == "random" and module.trainable:
            generator = torch.Generator().manual_seed(self.setting.seed)
            with torch.no_grad():
                width = module.features(backbone, train.tokens(torch.zeros(1, dtype=torch.long))).shape[1]
            weight = torch.randn(classes, width, generator=generator) * 0.02
            return Head(torch.zeros(width), torch.ones(width), weight, torch.zeros(classes))
        features = frozen_features(backbone, train, module)
        if self.val is not None:
            selection = (frozen_features(backbone, self.val, module), self.val.labels)
        else:
            selection = (features, train.labels)
        rates, decays = (LEARNING_RATES, WEIGHT_DECAYS) if self.probe is None else ((self.probe[0],), (self.probe[1],))
        try:
            grid = fit_linear_grid(
                features,
                train.labels,
                selection,
                classes,
                learning_rates=rates,
                weight_decays=decays,
                seeds=(self.setting.seed,),
                class_balanced=self.recipe.class_balanced,
                label_smoothing=self.recipe.label_smoothing,
            )
        except ValueError as error:
            raise TrainingError(f"{self.method.name}: {error}; are the features finite?") from error
        self.probe = grid.best[0]
        return grid.heads[0]
