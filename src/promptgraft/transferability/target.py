"""The target's own prompt, which source prompts are compared with: a short run of shallow visual prompt tuning.

Zhang et al., "Release the Powers of Prompt Tuning", tune it for 100 epochs with the learning rate searched for each
task, which costs what ranking is to save. Estimators read its mean row or direction only.
"""

import numpy as np
from numpy.typing import NDArray

from promptgraft.backbones.base import Backbone
from promptgraft.tasks.base import Task
from promptgraft.tasks.embedded import EmbeddedTask

LENGTH, EPOCHS = 20, 5


def target_prompt(backbone: Backbone, task: Task | EmbeddedTask, *, seed: int = 0) -> NDArray[np.float32]:
    """Tune a shallow prompt on the training split, (20, embed_dim): recipe `short`, 5 epochs.

    The validation split, where there is one, decides which epoch is kept.

    Args:
        backbone: the frozen model that a prompt would be grafted onto.
        task: the target.
        seed: of the start and of the order of the examples.
    """
    from promptgraft.tuning.tune import tune  # loads scikit-learn, which nothing else here needs

    tuned = tune(
        backbone, task, method="vpt", layers="shallow", prompt_length=LENGTH, recipe="short", epochs=EPOCHS, seed=seed
    )
    assert tuned.prompt is not None
    rows: NDArray[np.float32] = tuned.prompt.tensor[0].numpy()
    return rows
