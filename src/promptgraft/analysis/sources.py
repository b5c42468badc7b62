"""What several source prompts make of a target: its features under each, and under the prompt that came of them."""

import datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promptgraft.ensembles.aligned import aligned
from promptgraft.errors import InputError
from promptgraft.tasks.embedded import EmbeddedSplit, at_most
from promptgraft.tuning.adapted import Adapted, versions
from promptgraft.tuning.candidate import Candidate
from promptgraft.tuning.features import frozen_features
from promptgraft.tuning.method import Method
from promptgraft.tuning.prompted import FrozenPrompt, PromptModule

ENOUGH, MOST = 30, 500
"""Validation examples below which the training ones are looked at, and examples at most."""
PERPLEXITY = 30.0


class SourceWatch:
    """Looks at a transfer from several prompts before and after it is trained; given to `transfer` as `on_epoch`."""

    def __init__(self) -> None:
        self._seen: tuple[Candidate, EmbeddedSplit, str] | None = None
        self._features: dict[str, Tensor] = {}

    def __call__(self, candidate: Candidate) -> None:
        """Take the features under each source and under the start; later calls do nothing.

        Raises:
            InputError: the method does not take several sources.
        """
        if self._seen is not None:
            return
        check_takes_several(candidate.method)
        setting, method = candidate.setting, candidate.method
        split, name = setting.train, "training"
        if setting.val is not None and len(setting.val) >= ENOUGH:  # no prompt has learned of them
            split, name = setting.val, "validation"
        self._seen = candidate, at_most(split, MOST, seed=setting.seed), name
        for source, rows in zip(setting.sources, aligned(setting, method.name), strict=True):
            self._look(source.card.name, FrozenPrompt(rows))
        # where it goes on from a checkpoint, the start has to be made again
        self._look(f"{method.name}, start", method.build(setting) if candidate.epoch else candidate.model.prompt)

    def analysis(self, adapted: Adapted, *, command: str | None = None) -> dict[str, Any]:
        """The contents of `analysis.json`, once the training is over.

        Args:
            adapted: what it ended in.
            command: that makes it again.

        Returns:
            `sources`, their names; `weights` of them, None where the method weighs none; `cosines` of the gradients of
            every two, None where it looks at none; `labels` (N,) of the examples of `split`; `maps`, for each source,
            the start and the tuned prompt: `name`, `neighbours` (`neighbour_share`) and `points` (`feature_map`); and
            what made it.
        """
        assert self._seen is not None
        candidate, split, name = self._seen
        prompt, setting = candidate.model.prompt, candidate.setting
        self._look(f"{candidate.method.name}, tuned", prompt)
        return {
            "format_version": 1,
            "promptgraft": versions()["promptgraft"],
            "adapted": adapted.info.model_dump(mode="json"),
            "sources": [source.card.name for source in setting.sources],
            "weights": prompt.source_weights(setting.train),
            "cosines": prompt.facts.get("gradient_cosines"),
            "split": name,
            "labels": split.labels.tolist(),
            "maps": [
                {
                    "name": title,
                    "neighbours": neighbour_share(features, split.labels),
                    "points": feature_map(features, seed=setting.seed).tolist(),
                }
                for title, features in self._features.items()
            ],
            "command": command,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }

    def _look(self, title: str, prompt: PromptModule) -> None:
        assert self._seen is not None
        candidate, split, _ = self._seen
        backbone = candidate.setting.backbone
        while title in self._features:  # two sources may have one name
            title += " (again)"
        self._features[title] = frozen_features(backbone, split, prompt.to(backbone.device))


def feature_map(features: Tensor, *, seed: int = 0) -> NDArray[np.float64]:
    """Places (N, 2) in the unit square by t-SNE (van der Maaten & Hinton 2008) of features (N, D), N >= 3.

    Perplexity 30, less for fewer than 91 examples; starts at the first two principal components.
    """
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    found = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features.double().numpy())
    low, high = found.min(0), found.max(0)
    places: NDArray[np.float64] = np.round((found - low).astype(float) / np.maximum(high - low, 1e-12), 4)
    return places


def neighbour_share(features: Tensor, labels: Tensor) -> float:
    """The share of examples (N, D) whose nearest other example, by Euclidean distance, is of their class."""
    distances = torch.cdist(features.double(), features.double())
    nearest = distances.fill_diagonal_(torch.inf).argmin(1)
    return float((labels[nearest] == labels).double().mean())


def check_takes_several(method: Method) -> None:
    """Refuse a method that does not take several sources, before anything is trained.

    Raises:
        InputError: names methods to take.
    """
    if method.sources != "several":
        raise InputError(
            f"an analysis of a transfer compares several source prompts, and method {method.name!r} takes "
            f"{'one' if method.sources == 'one' else 'none'}. Choose one that takes several, such as 'hgprompt' or "
            "'average', or leave the analysis out."
        )
