"""Self-Prompt Tuning: a prompt that starts as the target's own tokens (Wang et al. 2024, section 3.3-3.4)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from promptgraft.backbones.base import Backbone
from promptgraft.errors import InputError
from promptgraft.initialization.entering import Entering, choose_blocks
from promptgraft.initialization.sampling import sample_rows
from promptgraft.initialization.streaming import cluster_rows, pool_rows
from promptgraft.tasks.embedded import EmbeddedSplit


def prototypes(
    backbone: Backbone,
    inputs: Sequence[Any] | EmbeddedSplit,
    *,
    kind: str = "sample",
    length: int,
    layers: str = "shallow",
    tokens_of: str = "own",
    share: float = 1.0,
    seed: int = 0,
) -> Tensor:
    """Tokens of the target's own inputs as a prompt (L, P, D).

    Layer i's rows are made of tokens at the input of block i; those of a shallow prompt of embedded tokens, position
    embeddings included (E_0 of eq. 1). CLS, registers and padding are never taken.

    - `sample`: tokens drawn at random. Every row comes from an input drawn for it alone, independently per layer, so
      only L x P inputs are forwarded.
    - `k-means`: centres of all tokens (eqs. 9-10), by mini-batch k-means while the inputs are forwarded once.
    - `mean`, `max`: the tokens of all inputs, one input after another in random order, are cut into P windows of
      floor(tokens / P), each pooled to a row (section 3.4). The paper pools "one randomly selected batch"; as in its
      table 1, that is `share` of the data. Its code pools within images instead, and draws P of the pooled rows.

    Args:
        backbone: the frozen model.
        inputs: raw inputs, or a split that is already embedded.
        kind: `sample`, `k-means`, `mean` or `max`.
        length: P.
        layers: `shallow` (L = 1) or `deep` (L = depth).
        tokens_of: `own`; or `first` or `last`, where all layers get the same rows, made of tokens at the input of the
            first or the last block (appendix B.2).
        share: part of the inputs that is used, drawn at random, in (0, 1].
        seed: of all draws.

    Raises:
        InputError: unknown kind, layers or tokens_of, no inputs, a share out of range, or, other than for `sample`,
            fewer tokens than rows.
        CompatibilityError: a shallow prompt of the last block's tokens, where these are wider than embeddings.
    """
    if kind not in ("sample", "k-means", "mean", "max"):
        raise InputError(f"there is no kind of prototype named {kind!r}. Known: k-means, max, mean, sample.")
    if layers not in ("shallow", "deep"):
        raise InputError(f"layers must be 'shallow' or 'deep', got {layers!r}.")
    if tokens_of not in ("own", "first", "last"):
        raise InputError(f"tokens_of must be 'own', 'first' or 'last', got {tokens_of!r}.")
    if not 0 < share <= 1:
        raise InputError(f"share must be in (0, 1], got {share}.")
    if length < 1:
        raise InputError(f"a prompt has at least one row, got length {length}.")
    if len(inputs) == 0:
        raise InputError("prototypes need at least one input, got none.")
    blocks = choose_blocks(backbone, layers, tokens_of)
    source = Entering(backbone, inputs)
    generator = torch.Generator().manual_seed(seed)
    pool = torch.randperm(len(inputs), generator=generator)[: max(1, round(share * len(inputs)))]
    with torch.no_grad():
        if kind == "sample":
            rows = sample_rows(source, pool, blocks, length, generator)
        elif kind == "k-means":
            rows = cluster_rows(source, pool, blocks, length, seed)
        else:
            rows = pool_rows(source, pool, blocks, length, "mean" if kind == "mean" else "max")
    return rows.repeat(backbone.info.depth, 1, 1) if layers == "deep" and tokens_of != "own" else rows
