"""What the frozen model sees of the target under each source prompt: labelled features, one prompt at a time."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from promptgraft.backbones.base import Backbone
from promptgraft.errors import CompatibilityError
from promptgraft.prompt import SoftPrompt
from promptgraft.tasks.base import Task
from promptgraft.tasks.embedded import EmbeddedSplit, EmbeddedTask, at_most, embed_task
from promptgraft.transfer.sources import live_rows
from promptgraft.transferability.base import Evidence, Grafted
from promptgraft.transferability.patches import LIMIT
from promptgraft.tuning.features import frozen_features
from promptgraft.tuning.prompted import FrozenPrompt


def grafting(
    prompts: Sequence[SoftPrompt], backbone: Backbone, task: Task | EmbeddedTask, *, seed: int = 0, limit: int = LIMIT
) -> Callable[[int], Grafted | None]:
    """Makes the labelled features under each of M prompts; None for a prompt that the backbone does not take.

    One forward pass of at most `limit` training examples, drawn at random, for each prompt, all its layers grafted on,
    dead rows left out. Features are kept on disk.

    Args:
        prompts: the M prompts.
        backbone: the frozen model.
        task: the target, embedded already or not.
        seed: of the draw.
        limit: examples at most.
    """

    @cache
    def examples() -> EmbeddedSplit:
        data = task if isinstance(task, EmbeddedTask) else embed_task(backbone, task)
        return at_most(data.train, limit, seed=seed)

    def graft(index: int) -> Grafted | None:
        prompt = prompts[index]
        rows = live_rows(prompt.tensor, prompt.card.prompt.dead_rows)
        try:
            backbone.check(rows.shape[0], rows.shape[2])
        except CompatibilityError:
            return None
        features = frozen_features(backbone, examples(), FrozenPrompt(rows).to(backbone.device))
        own = prompt.card.backbone
        probabilities = None
        if prompt.head is not None and (own.weights_sha256, own.pool) == (
            backbone.info.weights_sha256,
            backbone.info.pool,
        ):
            weight, bias = prompt.head
            probabilities = torch.addmm(bias.double(), features.double(), weight.double().T).softmax(1).numpy()
        return Grafted(features.numpy(), examples().labels.numpy(), probabilities)

    return graft


def score_each(evidence: Evidence, score: Callable[[Grafted], float | None]) -> NDArray[np.float64]:
    """Scores (M,) of the prompts one at a time; NaN where a prompt cannot be grafted on, or `score` gives None."""
    scores = np.full(len(evidence.prompts), np.nan)
    for index in range(len(evidence.prompts)):
        grafted = evidence.graft(index)
        found = None if grafted is None else score(grafted)
        if found is not None:
            scores[index] = found
    return scores
