"""The task gap of 13 prompts: the projector meets 13 mean rows at every step, not 1,300 rows."""

import numpy as np
import torch
from torch import Tensor, nn

from promptgraft import transferability
from promptgraft.bench.base import Row, Size, compare, relative_error

LR, WEIGHT_DECAY = 1e-4, 0.1


def task_gap(size: Size) -> list[Row]:
    """13 prompts of 100 x 768 to a target prompt 768 wide, 100 epochs (smoke: 3 prompts of 4 x 8, 20 epochs).

    The baseline projects all rows and takes means afterwards, by autograd, with the same fused Adam.
    """
    M, P, D, epochs, few, rounds = (13, 100, 768, 100, 10, 3) if size != "smoke" else (3, 4, 8, 20, 20, 1)
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randn(M, P, D, generator=generator) * torch.linspace(0.5, 2, M)[:, None, None]
    target = torch.randn(P, D, generator=generator)
    literal = _all_rows(prompts, target, few)
    ours = torch.from_numpy(transferability.task_gap(prompts, target, epochs=few))
    row = compare(
        "task-gap",
        "all rows, autograd",
        lambda: transferability.task_gap(prompts, target, epochs=epochs),
        lambda: _all_rows(prompts, target, few),
        error=relative_error(ours, literal),
        rounds=rounds,
        share=few / epochs,
        note=f"{M} prompts {P} x {D} to {D}, {epochs} epochs; baseline on {few} of them, scaled up",
    )
    return [row]


def _all_rows(prompts: Tensor, target: Tensor, epochs: int) -> Tensor:
    """Task gaps (M,) after appendix C.4.2 of Zhang et al., "Release the Powers of Prompt Tuning"."""
    M, P, D = prompts.shape
    bound = D**-0.5
    projector = nn.Linear(D, target.shape[1])
    generator = torch.Generator().manual_seed(0)
    for parameter in (projector.weight, projector.bias):
        start = torch.empty(parameter.shape, dtype=torch.float64).uniform_(-bound, bound, generator=generator)
        parameter.data.copy_(start)
    optimizer = torch.optim.Adam(projector.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, fused=True)
    shuffles = np.random.default_rng(0)
    rows, goal = prompts.flatten(0, 1), target.mean(0)
    for _ in range(epochs):
        mixed = rows[torch.from_numpy(shuffles.permutation(M * P))].view(M, P, D)
        optimizer.zero_grad()
        torch.linalg.vector_norm(projector(mixed).mean(1) - goal, dim=1).mean().backward()
        optimizer.step()
    with torch.no_grad():
        return -torch.cosine_similarity(projector(prompts).mean(1), goal[None], dim=1).double()
