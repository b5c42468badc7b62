"""The zero-shot search of a prompt for another model: its closed form against 2,000 steps of Adam."""

import torch
import torch.nn.functional as F
from torch import Tensor

from promptgraft.bench.base import Row, Size, compare, relative_error
from promptgraft.transfer import relative

STEPS, LEARNING_RATE = 2000, 5e-3


def relative_search(size: Size) -> list[Row]:
    """41 prompts of 5 rows, 12,000 shared words, 8,192 of which count, 384-d (smoke: 1 of 5, 60 words, 40, 12-d).

    Paper: 768-d to 1,024-d, 17,230 words.

    The rows of all prompts are searched at once, also by the baseline, whose anchors are brought to unit length once.
    The error is that of the matching cosines of the first prompt, after all 2,000 steps.
    """
    prompts, dim, wide, count, top_k, steps, rounds = {
        "pocket": (41, 384, 384, 12_000, 8192, 10, 3),
        "paper": (41, 768, 1024, 17_230, 8192, 5, 1),
        "smoke": (1, 12, 12, 60, 40, 20, 1),
    }[size]
    generator = torch.Generator().manual_seed(0)
    meaning = torch.randn(count, dim, generator=generator)
    noise = torch.randn(count, dim, generator=generator), torch.randn(count, wide, generator=generator)
    source = meaning + noise[0]
    target = meaning @ torch.randn(dim, wide, generator=generator) / dim**0.5 + noise[1]
    rows = torch.randn(5 * prompts, dim, generator=generator)

    ours = relative.relative_match(rows[:5], source, target, top_k=top_k).cosines.float()
    theirs = _by_adam(rows[:5], source, target, top_k, STEPS)
    row = compare(
        "relative-search",
        "2,000 steps of Adam",
        lambda: relative.relative_match(rows, source, target, top_k=top_k),
        lambda: _by_adam(rows, source, target, top_k, steps),
        error=relative_error(ours, theirs),
        rounds=rounds,
        share=steps / STEPS,
        note=f"{len(rows)} rows, {count} words, {dim}-d to {wide}-d; baseline on {steps} of {STEPS} steps, scaled up",
    )
    return [row]


def _by_adam(rows: Tensor, source: Tensor, target: Tensor, top_k: int, steps: int) -> Tensor:
    """Cosines (P,) that gradient steps reach: Wu, Wu & Mou 2024, with the settings of its authors' code."""
    anchors = F.normalize(target, dim=1)
    relations = F.normalize(rows, dim=1) @ F.normalize(source, dim=1).T
    mask = torch.zeros_like(relations).scatter_(1, relations.topk(top_k, dim=1).indices, 1)
    wanted = F.normalize(relations * mask, dim=1)
    generator = torch.Generator().manual_seed(0)
    found = torch.nn.init.xavier_normal_(torch.empty(len(rows), target.shape[1]), generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([found], lr=LEARNING_RATE)

    def cosines() -> Tensor:
        return (F.normalize((found @ anchors.T) * mask, dim=1) * wanted).sum(1)

    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward((1 - cosines()).mean())
        optimizer.step()
    return cosines().detach()
