"""Rows of a prompt made of all tokens of all inputs, in one pass that holds few of them."""

from typing import Literal

import torch
from torch import Tensor

from promptgraft.errors import InputError
from promptgraft.initialization.entering import CHUNK, Blocks, Entering
from promptgraft.initialization.kmeans import StreamingKMeans
from promptgraft.initialization.pooling import StreamingPool


def cluster_rows(source: Entering, pool: Tensor, blocks: Blocks, length: int, seed: int) -> Tensor:
    """K-means centres (L, P, D) of the tokens at each block.

    Args:
        source: of the tokens.
        pool: inputs to take, (n,), in random order.
        blocks: L of them, or None for the embedded tokens, L = 1.
        length: P.
        seed: of the seeding.

    Raises:
        InputError: fewer tokens than P.
    """
    streams = [StreamingKMeans(length, seed) for _ in blocks or [None]]
    _feed(source, pool, blocks, streams)
    _check_enough(streams[0].seen, length)
    return torch.stack([stream.result() for stream in streams]).cpu()


def pool_rows(source: Entering, pool: Tensor, blocks: Blocks, length: int, kind: Literal["mean", "max"]) -> Tensor:
    """Pooled windows (L, P, D) of the tokens at each block, arguments and errors as above."""
    total = _count_tokens(source, pool)
    _check_enough(total, length)
    streams = [StreamingPool(kind, length, total) for _ in blocks or [None]]
    _feed(source, pool, blocks, streams)
    return torch.stack([stream.result() for stream in streams]).cpu()


def _feed(
    source: Entering, pool: Tensor, blocks: Blocks, streams: list[StreamingKMeans] | list[StreamingPool]
) -> None:
    for index in torch.split(pool, CHUNK):
        for i, rows in enumerate(source.rows(index, blocks)):
            streams[i].add(rows.float())


def _count_tokens(source: Entering, pool: Tensor) -> int:
    """Patches or words of the inputs in `pool`; all images have as many, texts are embedded to count them."""
    if source.backbone.info.modality == "vision":
        return len(pool) * sum(map(len, source.rows(pool[:1], None)))
    return sum(len(rows) for index in torch.split(pool, CHUNK) for rows in source.rows(index, None))


def _check_enough(tokens: int, length: int) -> None:
    if tokens < length:
        raise InputError(
            f"{tokens} tokens do not give a prompt of {length} rows. Take a shorter prompt, a larger share of the "
            "inputs, or kind='sample', which may draw a token twice."
        )
