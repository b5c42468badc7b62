"""What estimators look at, for given prompts, backbone and task; what is costly is made when it is asked for."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from promptgraft.backbones.base import Backbone
from promptgraft.prompt import SoftPrompt
from promptgraft.tasks.base import Task
from promptgraft.tasks.embedded import EmbeddedTask
from promptgraft.transferability.base import Evidence
from promptgraft.transferability.grafted import grafting
from promptgraft.transferability.neurons import neuron_activations
from promptgraft.transferability.patches import LIMIT, embedded_patches
from promptgraft.transferability.target import target_prompt


def gather_evidence(
    prompts: Sequence[SoftPrompt], backbone: Backbone, task: Task | EmbeddedTask, *, seed: int = 0, limit: int = LIMIT
) -> Evidence:
    """Evidence about how prompts would transfer to a task on a backbone.

    Args:
        prompts: the M prompts.
        backbone: the frozen model that a prompt would be grafted onto.
        task: the target, embedded already or not; its test split is not looked at.
        seed: seeds all random draws.
        limit: labelled examples at most that the model sees under each prompt.
    """
    inputs = task.train if isinstance(task, EmbeddedTask) else task.train.inputs
    return Evidence(
        prompts=[entry_rows(prompt) for prompt in prompts],
        cards=[prompt.card for prompt in prompts],
        embed_patches=lambda: embedded_patches(backbone, inputs, seed=seed),
        tune_prompt=lambda: target_prompt(backbone, task, seed=seed),
        activate=lambda rows: neuron_activations(backbone, rows),
        graft=grafting(prompts, backbone, task, seed=seed, limit=limit),
        seed=seed,
    )


def entry_rows(prompt: SoftPrompt) -> NDArray[np.float32]:
    """The rows (P', D) that enter with the embeddings: those of the first layer, without dead ones."""
    rows: NDArray[np.float32] = prompt.tensor[0].numpy()
    return np.delete(rows, list(prompt.card.prompt.dead_rows), axis=0)
