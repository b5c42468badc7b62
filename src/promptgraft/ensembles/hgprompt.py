"""HGPrompt: weights of the sources from what they do on the target, then one prompt (Zhang et al. 2025).

"Learning Optimal Prompt Ensemble for Multi-source Visual Prompt Transfer" (https://arxiv.org/abs/2504.12311), eq. 2 to
12 and Algorithm 1. The weights themselves: `transfer/ensemble.py`.

What the paper leaves open, and what is done here:

- The head of L(f_Pi(X), Y) in eq. 8: the linear probe that tuning from P_i would start with, fitted on the features
  under P_i, with the recipe's label smoothing: without it the gradient dies where the probe separates the examples.
- The batch of eq. 8 and the examples of eq. 5: the training split, at most 2,000 examples of it, drawn at random (the
  paper says 2,000 of tasks that have 1,000).
- Covariance: shrunk by Ledoit and Wolf. The plain H-score of 768 features says the same of any labels up to 769
  examples.
- Simplex, start, step and end of the search for α: see `ensemble_weights`. λ is the recipe's `alignment`, 1 unless
  another is asked for.
- Eq. 4 fuses features; what is deployed is the prompt of eq. 2, P_T = Σ α_i P_i, which is then tuned.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from promptgraft.backbones.base import Backbone
from promptgraft.ensembles.aligned import aligned_alike
from promptgraft.ensembles.probe import probe
from promptgraft.errors import InputError, TrainingError
from promptgraft.tasks.embedded import EmbeddedSplit, at_most
from promptgraft.transfer.ensemble import ensemble_weights, gradient_cosines
from promptgraft.transfer.sources import fits_shallow
from promptgraft.tuning.head import class_weights
from promptgraft.tuning.method import Method, Setting
from promptgraft.tuning.prompted import Head, LearnedPrompt, PromptModule
from promptgraft.tuning.recipes import Recipe

LIMIT = 2000
"""Examples that features and gradients are taken of, at most (section 5.1)."""


def loss_gradient(backbone: Backbone, split: EmbeddedSplit, prompt: Tensor, head: Head, recipe: Recipe) -> Tensor:
    """∇_P L(f_P(X), Y) of eq. 8 before it is scaled: mean loss of a split under the recipe, flat (P D,) float64.

    One pass forward and back in batches. Neither model nor head changes.

    Args:
        backbone: the frozen model.
        split: N examples.
        prompt: (1, P, D).
        head: on the features under the prompt.
        recipe: its label smoothing, and whether classes weigh the same.
    """
    head = head.to(backbone.device)
    rows = prompt.to(backbone.device).requires_grad_()
    weights = class_weights(split.labels, len(head.bias)) if recipe.class_balanced else torch.ones(len(head.bias))
    total = torch.zeros(prompt.numel(), dtype=torch.float64)
    start = 0
    for tokens in split.batches():
        labels = split.labels[start : start + len(tokens)]
        start += len(tokens)
        logits = head(backbone.run(tokens, rows))
        losses = F.cross_entropy(
            logits, labels.to(logits.device), reduction="none", label_smoothing=recipe.label_smoothing
        )
        loss = (losses * weights[labels].to(losses)).sum()
        total += torch.autograd.grad(loss, rows)[0].flatten().cpu().double()
    return total / len(split)


def _build(setting: Setting) -> PromptModule:
    prompts = aligned_alike(setting, "hgprompt")
    backbone, recipe = setting.backbone, setting.recipe
    some = at_most(setting.train, LIMIT, seed=setting.seed)
    probes = [probe(replace(setting, train=some), prompt[None]) for prompt in prompts]
    gradients = torch.stack(
        [
            loss_gradient(backbone, some, prompt[None], each.head, recipe)
            for prompt, each in zip(prompts, probes, strict=True)
        ]
    )
    features = torch.stack([each.features for each in probes])
    try:
        alpha = ensemble_weights(features, some.labels, gradients, lam=recipe.alignment, seed=setting.seed)
    except InputError as error:
        raise TrainingError(f"hgprompt: {error}") from error
    weights = {source.id: float(weight) for source, weight in zip(setting.sources, alpha, strict=True)}
    start = torch.einsum("m,mpd->pd", torch.from_numpy(alpha), prompts.double())[None].float()
    return LearnedPrompt(start, {"weights": weights, "gradient_cosines": gradient_cosines(gradients).tolist()})


hgprompt = Method(
    name="hgprompt",
    summary="source prompts, weighed by how they tell the target's classes apart and agree in gradient, start it",
    paper="https://arxiv.org/abs/2504.12311",
    sources="several",
    start="weighted mean of the sources",
    build=_build,
    fits=fits_shallow("hgprompt"),
)
