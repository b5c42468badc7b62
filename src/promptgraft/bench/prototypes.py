"""Deep k-means prototypes: tokens of all layers clustered on the way through, against one plain forward pass."""

from dataclasses import replace

import torch
from torch import Tensor

from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.bench.base import Row, Size, compare, relative_error
from promptgraft.bench.training_step import random_vit
from promptgraft.initialization import prototypes as initialization
from promptgraft.initialization.entering import CHUNK
from promptgraft.initialization.kmeans import BLOCK, StreamingKMeans


def prototypes(size: Size) -> list[Row]:
    """P = 20 and 100 for 12 layers, from 48 images of 197 tokens, ViT-S of random weights (smoke: P = 3, 2 layers).

    The baseline only runs the model, which k-means cannot do without, so the ratio is 1 at best. The error is that
    of holding all tokens of all layers and clustering them afterwards.
    """
    if size == "smoke":
        return [against_forward("prototypes-3", random_vit(16, 2, 2), 5, 3)]
    backbone = random_vit(384, 12, 6)
    return [against_forward(f"prototypes-{length}", backbone, 48, length) for length in (20, 100)]


def against_forward(name: str, backbone: TransformerBackbone, images: int, length: int, side: int = 224) -> Row:
    """P prototypes in each layer, of so many images of this side, against the forward pass alone.

    The error is that of the first 48 images.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(3, side, side, generator=generator) for _ in range(images)]

    def ours(some: list[Tensor]) -> Tensor:
        return initialization.prototypes(backbone, some, kind="k-means", length=length, layers="deep")

    few = inputs[:48]
    timed = compare(
        name,
        "a plain forward pass",
        lambda: ours(inputs),
        lambda: _forward(backbone, inputs),
        error=relative_error(ours(few), _by_holding(backbone, few, length)),
        rounds=1,
    )
    depth, dim, patches = backbone.info.depth, backbone.info.dim, backbone.embed(inputs[:1]).values.shape[1] - 1
    waiting, every = (depth * rows * dim * 4 / 2**20 for rows in (BLOCK, images * patches))
    note = (
        f"{images} images, {depth} layers; {1 / timed.ratio:.2f} forward passes; "
        f"at most {waiting:.0f} MiB of tokens wait, of {every:.0f}"
    )
    return replace(timed, note=note)


def _forward(backbone: TransformerBackbone, inputs: list[Tensor]) -> None:
    with torch.no_grad():
        for start in range(0, len(inputs), CHUNK):
            backbone.run(backbone.embed(inputs[start : start + CHUNK]))


def _by_holding(backbone: TransformerBackbone, inputs: list[Tensor], length: int) -> Tensor:
    """Centres (L, P, D) from one pass that keeps every token, then k-means layer by layer."""
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0)).tolist()
    held: list[list[Tensor]] = [[] for _ in range(backbone.info.depth)]
    with torch.no_grad():
        for start in range(0, len(order), CHUNK):
            tokens = backbone.embed([inputs[i] for i in order[start : start + CHUNK]])
            for kept, values in zip(held, backbone.layer_inputs(tokens), strict=True):
                kept.append(values[:, 1:].flatten(0, 1))
    centres = []
    for kept in held:
        clusters = StreamingKMeans(length)
        clusters.add(torch.cat(kept))
        centres.append(clusters.result())
    return torch.stack(centres)
