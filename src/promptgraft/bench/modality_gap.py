"""The modality gap of 13 prompts: shared Gram blocks against Algorithm 1 as it is written."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from promptgraft import transferability
from promptgraft.bench.base import Row, Size, compare, relative_error

Distances = Callable[[Tensor], Tensor]


def modality_gap(size: Size) -> list[Row]:
    """13 prompts of 100 x 768 against 10,000 patches, 5 epochs (paper: 196,000; smoke: 2 of 5 x 8, 40, 2 epochs).

    The baselines differ in how they get squared distances: as most public MMD code does, by one broadcast per pair of
    prompt and draw, or by `torch.cdist` for all prompts of a draw together.
    """
    n, rounds = {"pocket": (10_000, 3), "paper": (196_000, 1), "smoke": (40, 1)}[size]
    M, P, D, epochs = (13, 100, 768, 5) if size != "smoke" else (2, 5, 8, 2)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randn(M, P, D, generator=generator) * torch.linspace(0.5, 2, M)[:, None, None]
    patches = torch.randn(n, D, generator=generator)

    def row(name: str, baseline: str, distances: Distances, draws: int) -> Row:
        return gap_row(name, baseline, distances, draws, prompts, patches, epochs, rounds)

    return [
        row("modality-gap", "Algorithm 1, broadcast", by_broadcast, draws=2),
        row("modality-gap-cdist", "Algorithm 1, cdist", by_cdist, draws=min(20, n // P)),
    ]


def gap_row(
    name: str,
    baseline: str,
    distances: Distances,
    draws: int,
    prompts: Tensor,
    patches: Tensor,
    epochs: int,
    rounds: int,
) -> Row:
    """Time the gaps of prompts (M, P, D) to patches (n, D) against Algorithm 1 on so many draws, scaled up."""
    (M, P, D), n = prompts.shape, len(patches)
    few, total = patches[: draws * P], epochs * (n // P)
    literal = _algorithm_1(prompts, few, distances)
    exact = torch.from_numpy(transferability.modality_gap(prompts, few, epochs=1))
    return compare(
        name,
        baseline,
        lambda: transferability.modality_gap(prompts, patches, epochs=epochs),
        lambda: _algorithm_1(prompts, few, distances),
        error=relative_error(exact, literal),
        rounds=rounds,
        share=draws / total,
        operations=2 * M * P * n * D * epochs,
        note=f"{M} prompts {P} x {D}, {n} patches; baseline on {draws} of {total} draws, scaled up",
    )


def _algorithm_1(prompts: Tensor, patches: Tensor, distances: Distances) -> Tensor:
    """Gaps (M,) by Algorithm 1 of Zhang et al., "Release the Powers of Prompt Tuning", one epoch.

    Args:
        prompts: (M, P, D).
        patches: (n, D).
        distances: rows (M, 2P, D) to squared distances (M, 2P, 2P).
    """
    M, P, _ = prompts.shape
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(patches)))
    draws = order[: len(order) - len(order) % P].view(-1, P)
    total = torch.zeros(M)
    for rows in draws:
        squared = distances(torch.cat([prompts, patches[rows].expand(M, -1, -1)], 1))
        bandwidth = squared.sum((1, 2), keepdim=True) / (2 * P * (2 * P - 1)) / 4
        kernel = torch.stack([(-squared / (bandwidth * 2**i)).exp() for i in range(5)]).sum(0)
        total += kernel[:, :P, :P].mean((1, 2)) + kernel[:, P:, P:].mean((1, 2)) - 2 * kernel[:, :P, P:].mean((1, 2))
    return total / len(draws)


def by_broadcast(samples: Tensor) -> Tensor:
    """Squared distances as most public code has them."""
    return torch.stack([(rows[None] - rows[:, None]).square().sum(2) for rows in samples])


def by_cdist(samples: Tensor) -> Tensor:
    """Squared distances by torch's own function."""
    return torch.cdist(samples, samples).square()
