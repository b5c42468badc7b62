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
    dim, depth, heads, images, lengths, rounds = (
        (384, 12, 6, 48, (20, 100), 1) if size != "smoke" else (16, 2, 2, 5, (3,), 1)
    )
    backbone = random_vit(dim, depth, heads)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(3, 224, 224, generator=generator) for _ in range(images)]

    def row(length: int) -> Row:
        def ours() -> Tensor:
            return initialization.prototypes(backbone, inputs, kind="k-means", length=length, layers="deep")

        timed = compare(
            f"prototypes-{length}",
            "a plain forward pass",
            ours,
            lambda: _forward(backbone, inputs),
            error=relative_error(ours(), _by_holding(backbone, inputs, length)),
            rounds=rounds,
        )
        waiting, all_tokens = (depth * rows * dim * 4 / 2**20 for rows in (BLOCK, images * 196))
        note = (
            f"{images} images, {depth} layers; {1 / timed.ratio:.2f} forward passes; "
            f"at most {waiting:.0f} MiB of tokens wait, of {all_tokens:.0f}"
        )
        return replace(timed, note=note)

    return [row(length) for length in lengths]


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
