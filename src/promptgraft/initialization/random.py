"""Random starts of a prompt."""

import math

import torch
from torch import Tensor

from promptgraft.card import BackboneInfo
from promptgraft.files import content_key

TEXT_STD = 0.02
"""Standard deviation of a text prompt's random start: the initialiser range of BERT and of published text prompts."""


def own_stream(name: str, seed: int) -> torch.Generator:
    """Random numbers for one use: a source prompt that was made with the same seed started at others."""
    return torch.Generator().manual_seed(int(content_key(name, seed)[:15], 16))


def xavier(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Matrices (..., rows, columns) from Xavier's uniform distribution (Glorot & Bengio 2010)."""
    bound = math.sqrt(3) * math.sqrt(2 / (shape[-2] + shape[-1]))  # in the order of torch.nn.init, for the same bits
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def random_prompt(info: BackboneInfo, length: int, layers: str, seed: int = 0) -> Tensor:
    """A random prompt (L, P, D).

    Vision: uniform in (-v, v), v = sqrt(6 / (3 p^2 + D)) for patches of p pixels (VPT, Jia et al. 2022). Text: normal,
    sd 0.02.

    Args:
        info: of the backbone that the prompt is for.
        length: P.
        layers: `shallow` (L = 1) or `deep` (L = depth).
        seed: of the draw.
    """
    shape = (1, length, info.embed_dim) if layers == "shallow" else (info.depth, length, info.dim)
    generator = torch.Generator().manual_seed(seed)
    if info.patch_size is None:
        return torch.randn(shape, generator=generator) * TEXT_STD
    bound = math.sqrt(6 / (3 * info.patch_size**2 + shape[2]))
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound
