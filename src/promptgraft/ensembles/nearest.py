"""How near sources are to the target: cosine to a prompt that was tuned briefly on it (SPoT, section 4).

Vu et al., "SPoT: Better Frozen Model Adaptation through Soft Prompt Transfer", ACL 2022
(https://arxiv.org/abs/2110.07904): a task's embedding is its prompt after few steps, similarity the cosine of the mean
rows.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from promptgraft.ensembles.aligned import kept, tuned_rows
from promptgraft.transferability import target
from promptgraft.transferability.cosine import mean_cosine
from promptgraft.tuning.method import Setting
from promptgraft.tuning.recipes import resolve_recipe


def similarities(setting: Setting, prompts: Sequence[Tensor]) -> NDArray[np.float64]:
    """Cosine (M,) of each prompt's mean row to that of the target's own prompt, in [-1, 1].

    Args:
        setting: of the target.
        prompts: M sources (1, P_i, D) in the target's space.

    Raises:
        InputError: the rows of a prompt cancel out.
    """
    return mean_cosine([prompt[0] for prompt in prompts], target_rows(setting)[0])


def chosen_one(setting: Setting, near: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    """What a card keeps of the choice of the nearest source: all similarities, and the weights 1 and 0.

    Args:
        setting: with the M sources.
        near: their similarities (M,); of equals the first is chosen.
    """
    names = [source.id for source in setting.sources]
    weights = {name: float(place == near.argmax()) for place, name in enumerate(names)}
    return {"weights": weights, "similarities": dict(zip(names, near.tolist(), strict=True))}


def target_rows(setting: Setting) -> Tensor:
    """The target's own prompt (1, 20, D), as `transferability.target.target_prompt` tunes it for estimators."""
    recipe = resolve_recipe("short", method="vpt", epochs=target.EPOCHS)
    own = replace(setting, sources=(), prompt_length=target.LENGTH, layers="shallow", recipe=recipe)
    return kept(own, f"vpt of {target.LENGTH} rows", lambda: tuned_rows("vpt", own))
