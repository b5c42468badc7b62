"""HGPrompt's ensemble weights: one Cholesky factor per step against covariances and inverses anew, by autograd."""

import time
from dataclasses import replace

import torch
from torch import Tensor

from promptgraft.backbones.base import Tokens
from promptgraft.bench.base import Row, Size, compare, relative_error
from promptgraft.bench.training_step import random_vit
from promptgraft.transfer import ensemble

LAMBDA = 1.0


def ensemble_weights(size: Size) -> list[Row]:
    """12 sources, 1,000 examples 768 wide of 10 classes, 4 starts of 50 steps (smoke: 3 sources, 60 examples 8 wide).

    The first baselines are Algorithm 1 on the same cached features, with the same Adam and shrinkage, each step from
    the features: once as written, by an inverse, once by class means and a Cholesky solve; passes of the model are not
    counted, on either side. `ensemble-whole` counts them: one forward, and one forward and back, of all examples under
    each source, once here and in every epoch of the algorithm as written (ViT-S of random weights, 26 tokens, P = 20).
    """
    M, N, D, C, P, steps, few, rounds = (
        (12, 1000, 768, 10, 50 * 768, 50, 1, 1) if size != "smoke" else (3, 60, 8, 4, 20, 8, 8, 1)
    )
    starts, checked = 4, 4 if size != "smoke" else 8
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(N) % C
    centres = torch.randn(C, D, generator=generator)
    signal = torch.linspace(0.3, 0.1, M)[:, None, None]
    shared = torch.randn(N, D, generator=generator)  # an example looks alike under all prompts
    features = (signal * centres[labels] + shared + torch.randn(M, N, D, generator=generator)).double()
    gradients = torch.randn(P, generator=generator) + torch.randn(M, P, generator=generator)
    unit = torch.nn.functional.normalize(gradients.double(), dim=1)

    def ours(steps: int) -> Tensor:
        weights = ensemble.ensemble_weights(features, labels, gradients, lam=LAMBDA, steps=steps, restarts=1)
        return torch.from_numpy(weights)

    def row(name: str, baseline: str, invert: bool) -> Row:
        return compare(
            name,
            baseline,
            lambda: ensemble.ensemble_weights(features, labels, gradients, lam=LAMBDA, steps=steps, restarts=starts),
            lambda: _algorithm(features, labels, unit, few, invert),
            error=relative_error(ours(checked), _algorithm(features, labels, unit, checked, invert)),
            rounds=rounds,
            share=(few + 1) / (starts * (steps + 1)),
            note=f"{M} sources, {N} x {D}, {starts} x {steps} steps; baseline on {few} steps of one, scaled up",
        )

    rows = [
        row("ensemble-inverse", "Algorithm 1, inverse", True),
        row("ensemble-solve", "Algorithm 1, Cholesky", False),
    ]
    return [*rows, _whole(rows[0], _pass_seconds(size) * M * N, starts * (steps + 1))]


def _whole(weights: Row, passes: float, epochs: int) -> Row:
    """The row of the weights with the passes of the model, of so many seconds, that they rest on."""
    ours, theirs = weights.seconds + passes, weights.baseline_seconds + epochs * passes
    note = f"weights: {100 * weights.seconds / passes:.0f} % on top of the passes they rest on; composed of parts"
    row = replace(weights, name="ensemble-whole", baseline="Algorithm 1, passes anew", note=note)
    return replace(row, seconds=ours, baseline_seconds=theirs, ratio=theirs / ours, floor=None)


def _pass_seconds(size: Size) -> float:
    """Of an example under one source: a forward pass for its features, one forward and back for the gradient."""
    dim, depth, heads, tokens, length, count = (384, 12, 6, 26, 20, 32) if size != "smoke" else (16, 2, 2, 6, 3, 4)
    backbone = random_vit(dim, depth, heads)
    generator = torch.Generator().manual_seed(0)
    inputs = Tokens(torch.randn(count, tokens, dim, generator=generator))
    rows = torch.randn(1, length, dim, generator=generator).requires_grad_()

    def both() -> None:
        with torch.no_grad():
            backbone.run(inputs, rows)
        torch.autograd.grad(backbone.run(inputs, rows).sum(), rows)

    both()
    start = time.perf_counter()
    both()
    return (time.perf_counter() - start) / count


def _algorithm(features: Tensor, labels: Tensor, gradients: Tensor, steps: int, invert: bool) -> Tensor:
    """The best weights (M,) on the way from equal ones; eq. 4, 5, 8 to 10 and 12, H-score shrunk (Ledoit and Wolf)."""
    M, N, D = features.shape
    logits = torch.zeros(M, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=ensemble.LR)
    member = torch.nn.functional.one_hot(labels).double()
    best, lowest = torch.empty(0), float("inf")
    for _ in range(steps + 1):
        alpha = torch.softmax(logits, 0)
        fused = torch.tensordot(alpha, features, 1)
        x = fused - fused.mean(0)
        covariance = x.T @ x / N
        mean, square = covariance.trace() / D, covariance.square().sum()
        spread = square - D * mean.square()
        delta = torch.minimum((x.square().sum(1).square().mean() - square) / N, spread) / spread
        S = (1 - delta) * covariance + delta * mean * torch.eye(D, dtype=torch.float64)
        means = (member.T @ x) / member.sum(0)[:, None]
        if invert:
            per_example = means[labels]
            score = torch.trace(torch.linalg.inv(S) @ (per_example.T @ per_example / N))
        else:
            root = means * (member.mean(0)[:, None]).sqrt()
            score = (torch.cholesky_solve(root.T, torch.linalg.cholesky(S)) * root.T).sum()
        consensus = alpha @ gradients
        alignment = (1 - gradients @ (consensus / consensus.norm())).mean()
        loss = LAMBDA * alignment - (1 - delta) * score
        if loss.item() < lowest:
            lowest, best = loss.item(), alpha.detach()
        logits.grad = torch.autograd.grad(loss, logits)[0]
        optimizer.step()
    return best
