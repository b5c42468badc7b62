"""PANDA: a new prompt learns the target and what the model does under the nearest source (Zhong et al. 2022).

"PANDA: Prompt Transfer Meets Knowledge Distillation for Efficient Model Adaptation"
(https://arxiv.org/abs/2208.10160): loss = L_CE + λ L_KD, λ the predicted transferability of the source to the target.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from promptgraft.backbones.base import Backbone, Tokens
from promptgraft.ensembles.aligned import aligned
from promptgraft.ensembles.nearest import chosen_one, similarities
from promptgraft.initialization.random import random_prompt
from promptgraft.transfer.sources import fits_shallow
from promptgraft.tuning.features import frozen_features
from promptgraft.tuning.head import standardization
from promptgraft.tuning.method import Method, Setting
from promptgraft.tuning.prompted import FrozenPrompt, LearnedPrompt, PromptModule


class DistilledPrompt(LearnedPrompt):
    """A prompt whose features are held near those under a frozen teacher prompt.

    penalty = λ · mean((f(x) - f_teacher(x))² / σ²) over a batch and the F features, with λ = max(similarity, 0).

    What is distilled: the features that the head sees. The paper distils outputs, but a head of the source's own
    classes says nothing about the target's, and one trained under the teacher would be one more prompt tuning. σ² is
    each feature's variance under the teacher, so that λ means the same for every backbone.

    Args:
        start: of the new prompt, (1, P, D).
        teacher: the frozen source prompt, (1, P', D).
        scale: σ (F,).
        similarity: of the teacher to the target, in [-1, 1].
        facts: for the card.
    """

    teacher: Tensor
    scale: Tensor

    def __init__(
        self, start: Tensor, teacher: Tensor, scale: Tensor, similarity: float, facts: Mapping[str, Any]
    ) -> None:
        super().__init__(start, facts)
        self.register_buffer("teacher", teacher.detach().clone())
        self.register_buffer("scale", scale.detach().clone())
        self.similarity = max(similarity, 0.0)

    def penalty(self, backbone: Backbone, tokens: Tokens, features: Tensor) -> Tensor | None:
        """λ times the mean squared distance to the teacher's features, in units of their variance."""
        with torch.no_grad():
            wanted = backbone.run(tokens, self.teacher)
        return self.similarity * ((features - wanted) / self.scale.to(features)).square().mean()


def _build(setting: Setting) -> PromptModule:
    """The teacher is the source nearest to the target, by SPoT's cosine: the paper's own metric is not released.

    The new prompt is as long as the teacher and starts at VPT's random numbers, as the paper's student does. The
    released code takes a constant for λ and leaves the similarity that it computes unused; here it is used.
    """
    prompts = aligned(setting, "panda")
    near = similarities(setting, prompts)
    nearest = int(near.argmax())
    teacher = prompts[nearest]
    features = frozen_features(setting.backbone, setting.train, FrozenPrompt(teacher).to(setting.backbone.device))
    start = random_prompt(setting.backbone.info, teacher.shape[1], "shallow", setting.seed)
    scale = standardization(features)[1]
    return DistilledPrompt(start, teacher, scale, float(near[nearest]), chosen_one(setting, near))


panda = Method(
    name="panda",
    summary="a new prompt, held near what the model sees under the nearest source prompt",
    paper="https://arxiv.org/abs/2208.10160",
    sources="several",
    start="random",
    build=_build,
    fits=fits_shallow("panda"),
)
