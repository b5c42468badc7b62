"""Patches of the same images as several vision models embed them: anchors of a relative space, in place of words.

Zero-shot continuous prompt transfer (Wu et al. 2024, https://arxiv.org/abs/2310.01691) compares language models by the
words that they share. Relative representations (Moschella et al. 2023, https://arxiv.org/abs/2209.15430), which it
rests on, take any data that both models see.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.errors import CompatibilityError, InputError
from promptgraft.progress import progress_bar
from promptgraft.transfer.anchors import Anchors

_CHUNK = 32


def shared_patches(*backbones: TransformerBackbone, images: Sequence[Any]) -> Anchors:
    """Regions of images as each model embeds them, with its positions: (K, D) for each.

    Where models divide an image more or less finely, a region is a patch of the coarsest division, and the mean of the
    patches that a finer one has there.

    Args:
        backbones: vision models.
        images: raw ones, without labels.

    Raises:
        CompatibilityError: a model is not for images.
        InputError: there are no images.
    """
    for backbone in backbones:
        if backbone.info.modality != "vision":
            raise CompatibilityError(
                f"backbone {backbone.info.name} is a {backbone.info.modality} model: it sees no images. Language "
                "models are compared by their words, without `anchors`."
            )
    if not len(images):
        raise InputError("there are no images to take anchors from. Give some, a few dozen are enough.")
    grids = [_grids(backbone, images) for backbone in backbones]
    side = min(grid.shape[2] for grid in grids)
    regions = [F.adaptive_avg_pool2d(grid, side).flatten(2).transpose(1, 2).flatten(0, 1) for grid in grids]
    names = tuple(f"image {image}, patch {patch}" for image in range(len(images)) for patch in range(side * side))
    return Anchors(names, tuple(regions))


def _grids(backbone: TransformerBackbone, images: Sequence[Any]) -> Tensor:
    """Patches as they are embedded, (N, D, side, side)."""
    found = []
    with progress_bar("anchors", len(images), "img") as bar:
        for start in range(0, len(images), _CHUNK):
            some = [images[i] for i in range(start, min(start + _CHUNK, len(images)))]
            values = backbone.embed(some).values[:, backbone.prefix_length :].float().cpu()
            side = math.isqrt(values.shape[1])
            found.append(values.transpose(1, 2).reshape(len(values), -1, side, side))
            bar.advance(len(some))
    return torch.cat(found)
