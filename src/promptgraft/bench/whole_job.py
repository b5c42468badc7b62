"""What whole commands need: a model of random weights as a folder, a task that needs no download, a new cache."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from promptgraft.tasks.base import Task
from promptgraft.tasks.load import load_task

TASK = "builtin/dsprites-loc"
"""Drawn by the package itself."""


@dataclass(frozen=True)
class Shape:
    """A ViT: width, blocks, heads, pixels of an image's side, pixels of a patch's."""

    dim: int
    depth: int
    heads: int
    pixels: int
    patch: int


def vit_folder(folder: Path, shape: Shape) -> Path:
    """Save a ViT of random weights as `load_backbone("dir:...")` reads it."""
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=shape.dim,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.dim,
        image_size=shape.pixels,
        patch_size=shape.patch,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def images(train: int, val: int, test: int) -> Task:
    """Images of `TASK`."""
    return load_task(TASK, n_train=train, n_val=val, n_test=test)


@contextmanager
def new_cache() -> Iterator[Path]:
    """An empty cache for as long as it lasts, so that nothing is found that an earlier run left."""
    before = os.environ.get("PROMPTGRAFT_CACHE")
    with TemporaryDirectory() as name:
        os.environ["PROMPTGRAFT_CACHE"] = name
        try:
            yield Path(name)
        finally:
            if before is None:
                del os.environ["PROMPTGRAFT_CACHE"]
            else:
                os.environ["PROMPTGRAFT_CACHE"] = before
