"""Whether `torch.compile` pays: a deep prompt's training step, compiled and not, in turns, in seconds of one core.

OMP_NUM_THREADS=1 python benchmarks/compiled.py
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from promptgraft.backbones.base import Tokens
from promptgraft.bench.training_step import random_vit

DIM, DEPTH, HEADS, BATCH, ROUNDS = 384, 12, 6, 8, 7
SHAPES = ((26, 100), (197, 10))
"""Tokens and prompt rows."""


def main() -> None:
    """Measure and print."""
    for tokens, rows in SHAPES:
        backbone = random_vit(DIM, DEPTH, HEADS)
        values, prompt = torch.randn(BATCH, tokens, DIM), torch.randn(DEPTH, rows, DIM).requires_grad_()

        def run(values: Tensor, prompt: Tensor) -> Tensor:
            return backbone.run(Tokens(values), prompt)  # noqa: B023 - called within the loop only

        def seconds(features: Callable[[Tensor, Tensor], Tensor]) -> float:
            started = time.process_time()
            torch.autograd.grad(features(values, prompt).sum(), prompt)  # noqa: B023
            return time.process_time() - started

        compiled = torch.compile(run)
        first = seconds(compiled)
        seconds(run)
        pairs = [(seconds(run), seconds(compiled)) for _ in range(ROUNDS)]
        plain, fast = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        shape = f"{tokens} tokens, P = {rows}"
        print(f"{shape}: {plain:.2f} s, compiled {fast:.2f} s, ratio {ratio:.2f}; the first call {first:.0f} s")


if __name__ == "__main__":
    main()
