"""A frozen backbone with a prompt and a head: the one thing that every method trains."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from promptgraft.backbones.base import Backbone, Tokens
from promptgraft.tasks.embedded import EmbeddedSplit


class PromptModule(nn.Module):
    """Produces a prompt: a transfer method is a module of this kind.

    `forward(tokens)` returns (L, P, D), or (B, L, P, D) where the prompt depends on the input, or None for no prompt
    at all. `facts` are what a card keeps of how the prompt started, as JSON, such as the weights of its sources.
    """

    facts: Mapping[str, Any] = {}

    def forward(self, tokens: Tokens) -> Tensor | None:
        """The prompt for these tokens."""
        raise NotImplementedError

    def features(self, backbone: Backbone, tokens: Tokens) -> Tensor:
        """What the head sees, (B, F): the features (B, dim) of the backbone with the prompt grafted on."""
        return backbone.run(tokens, self(tokens))

    def penalty(self, backbone: Backbone, tokens: Tokens, features: Tensor) -> Tensor | None:
        """What is added to the loss of a batch, a scalar; None for nothing.

        Args:
            backbone: the frozen model.
            tokens: the batch.
            features: (B, F), what `features` made of it.
        """
        return None

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Called before each epoch, counted from 0, for what does not follow from gradients."""

    def source_weights(self, inputs: EmbeddedSplit) -> list[float] | None:
        """How much of each source prompt there is, in the sources' order, a mean over inputs; None if none is weighed.

        Args:
            inputs: what the mean is over, where weights depend on the input.
        """
        weights = self.facts.get("weights")
        return None if weights is None else list(weights.values())

    @property
    def trainable(self) -> bool:
        """Whether anything of it is learned; features under a prompt that is not are constant."""
        return any(parameter.requires_grad for parameter in self.parameters())


class NoPrompt(PromptModule):
    """The backbone as it is: linear probing."""

    def forward(self, tokens: Tokens) -> None:
        """No prompt."""
        return


class LearnedPrompt(PromptModule):
    """A prompt that is a parameter, started at `start` (L, P, D): VPT, Self-Prompt Tuning, SPoT."""

    def __init__(self, start: Tensor, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.facts = facts or {}
        self.prompt = nn.Parameter(start.detach().clone())

    def forward(self, tokens: Tokens) -> Tensor:
        """The parameter, (L, P, D)."""
        return self.prompt


class FrozenPrompt(PromptModule):
    """A prompt that is not trained, (L, P, D)."""

    prompt: Tensor

    def __init__(self, prompt: Tensor) -> None:
        super().__init__()
        self.register_buffer("prompt", prompt.detach().clone())

    def forward(self, tokens: Tokens) -> Tensor:
        """The buffer, (L, P, D)."""
        return self.prompt


class Head(nn.Module):
    """A linear classifier on standardised features: (B, F) -> (B, C).

    The mean and scale are fixed when the head is made, so one learning rate suits every backbone; `folded` gives the
    same map as one plain linear layer.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("scale", scale.clone())
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(bias.clone())

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, C)."""
        features = features.to(self.weight)
        return torch.addmm(self.bias, (features - self.mean) / self.scale, self.weight.T)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight (C, F) and bias (C,) of the plain linear layer that is the same map."""
        with torch.no_grad():
            weight = self.weight.double() / self.scale
            bias = self.bias - weight @ self.mean.double()
            return weight.to(self.weight.dtype), bias.to(self.bias.dtype)


class PromptedModel(nn.Module):
    """Backbone (frozen, outside the module's parameters), prompt module and head."""

    def __init__(self, backbone: Backbone, prompt: PromptModule, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.prompt = prompt
        self.head = head

    def forward(self, tokens: Tokens) -> Tensor:
        """Logits (B, C)."""
        logits: Tensor = self.head(self.prompt.features(self.backbone, tokens))
        return logits

    def parameter_count(self) -> int:
        """Numbers that are trained, head included."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)
