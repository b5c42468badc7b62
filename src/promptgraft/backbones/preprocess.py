"""Raw inputs to prepared batches; what is done is recorded in every artefact."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from promptgraft.backbones.base import Batch
from promptgraft.errors import InputError

RESAMPLING = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}


def image_preparation(
    size: int, mean: Sequence[float], std: Sequence[float], interpolation: str
) -> tuple[Callable[[Sequence[Any]], Batch], dict[str, Any]]:
    """Preparation of images, and its description for the card.

    Images are squashed to size x size (VTAB's way: nothing is cropped away), scaled to [0, 1], and normalised per
    channel.

    Args:
        size: side length in pixels.
        mean: per channel, subtracted after scaling to [0, 1].
        std: per channel, divided by.
        interpolation: a key of `RESAMPLING`.
    """
    shift = torch.tensor(mean, dtype=torch.float32).view(3, 1, 1)
    scale = torch.tensor(std, dtype=torch.float32).view(3, 1, 1)
    resample = Image.Resampling(RESAMPLING[interpolation])

    def prepare(inputs: Sequence[Any]) -> Batch:
        pixels = torch.empty(len(inputs), 3, size, size)
        for row, item in zip(pixels, inputs, strict=True):
            image = item if isinstance(item, Image.Image) else _from_array(item)
            resized = image.convert("RGB").resize((size, size), resample)
            row.copy_(torch.from_numpy(np.array(resized)).permute(2, 0, 1))
        return pixels.div_(255).sub_(shift).div_(scale)

    description = {
        "resize": "squash",
        "size": size,
        "interpolation": interpolation,
        "mean": list(mean),
        "std": list(std),
    }
    return prepare, description


def text_preparation(tokenizer: Any, max_length: int) -> tuple[Callable[[Sequence[Any]], Batch], dict[str, Any]]:
    """Preparation of strings or pairs of strings, and its description for the card.

    Padding goes to the right and to the longest of the batch; a pair is cut at its longer member first.

    Args:
        tokenizer: a `transformers` tokenizer.
        max_length: tokens kept, special tokens included.
    """
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token

    def prepare(inputs: Sequence[Any]) -> Batch:
        pairs = bool(inputs) and not isinstance(inputs[0], str)
        texts = ([a for a, _ in inputs], [b for _, b in inputs]) if pairs else (list(inputs),)
        batch = tokenizer(
            *texts,
            truncation="longest_first",
            max_length=max_length,
            padding="longest",
            return_tensors="pt",
            return_attention_mask=True,
        )
        return {key: value for key, value in batch.items() if key in ("input_ids", "attention_mask", "token_type_ids")}

    return prepare, {"max_length": max_length, "truncation": "longest_first", "tokenizer": type(tokenizer).__name__}


def _from_array(item: Any) -> Image.Image:
    array = np.asarray(item)
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise InputError(
            f"an image must be a PIL image or a uint8 array (H, W) or (H, W, 3), got {type(item).__name__} of "
            f"shape {array.shape} and dtype {array.dtype}."
        )
    return Image.fromarray(array)
