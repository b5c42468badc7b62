"""Rows of a prompt drawn from tokens, forwarding no input that no row was drawn from."""

import torch
from torch import Tensor

from promptgraft.initialization.entering import CHUNK, Blocks, Entering


def sample_rows(source: Entering, pool: Tensor, blocks: Blocks, length: int, generator: torch.Generator) -> Tensor:
    """Rows (L, P, D), each a token of an input of its own as long as there are enough of them.

    Args:
        source: of the tokens.
        pool: inputs to draw from, (n,).
        blocks: L of them, or None for the embedded tokens, L = 1.
        length: P.
        generator: of all draws.
    """
    each = [None] if blocks is None else [range(i, i + 1) for i in blocks]
    count = len(each) * length
    rounds = -(-count // len(pool))
    chosen = torch.cat([pool[torch.randperm(len(pool), generator=generator)] for _ in range(rounds)])
    chosen = chosen[:count].view(len(each), length)
    where = torch.rand(len(each), length, generator=generator)
    return torch.stack([_rows(source, block, chosen[i], where[i]) for i, block in enumerate(each)])


def _rows(source: Entering, block: Blocks, chosen: Tensor, where: Tensor) -> Tensor:
    """Rows (P, D) of one layer: from input `chosen[j]` the token at fraction `where[j]` of its patches or words."""
    rows = []
    for index, place in zip(torch.split(chosen, CHUNK), torch.split(where, CHUNK), strict=True):
        tokens = source.tokens(index)
        values = next(source.at(tokens, block))
        whole = torch.full((len(index),), values.shape[1])
        last = whole if tokens.mask is None else tokens.mask.sum(1).cpu()
        position = source.first + (place * (last - source.first)).long()
        position = torch.minimum(position, last - 1)  # rounding up, and texts that are nothing but CLS
        rows.append(values[torch.arange(len(index)), position].float().cpu())
    return torch.cat(rows)
