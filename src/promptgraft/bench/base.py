"""What a bench is: two ways to the same numbers, timed in turns, and how far the numbers differ."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from promptgraft.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

Size = Literal["pocket", "smoke"]
"""pocket: sizes of real use, seconds to a minute per bench on two cores. smoke: tiny, only shows that it runs."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    name: the bench's name, with what distinguishes the row. baseline: what promptgraft is compared with. seconds,
    baseline_seconds: medians over the rounds. ratio: the median over the rounds of baseline / ours. error: the largest
    difference of the two results, relative to the largest baseline value. note: what else a reader must know.
    """

    name: str
    baseline: str
    seconds: float
    baseline_seconds: float
    ratio: float
    error: float
    note: str


Bench = Callable[[Size], list[Row]]

BENCHES: Registry[Bench] = Registry(
    "bench",
    {
        "deep-prompt": "promptgraft.bench.deep_prompt:deep_prompt",
        "shallow-prompt": "promptgraft.bench.shallow_prompt:shallow_prompt",
        "linear-grid": "promptgraft.bench.linear_grid:linear_grid",
        "modality-gap": "promptgraft.bench.modality_gap:modality_gap",
    },
)


def compare(
    name: str,
    baseline: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    error: float,
    rounds: int,
    share: float = 1.0,
    note: str = "",
) -> Row:
    """Time two ways in turns, so that whatever else the machine does meets both alike.

    Args:
        name: of the row.
        baseline: what `theirs` is, in a few words.
        ours: one run of promptgraft's way.
        theirs: one run of the baseline.
        error: the relative difference of the two results, see `relative_error`.
        rounds: runs of each; who goes first changes every round.
        share: the part of the work of `ours` that `theirs` does; its seconds are divided by it.
        note: for the reader.
    """
    seconds: list[float] = []
    baseline_seconds: list[float] = []
    for turn in range(rounds):
        sides = [(ours, seconds, 1.0), (theirs, baseline_seconds, share)]
        for work, times, part in sides if turn % 2 == 0 else reversed(sides):
            start = time.perf_counter()
            work()
            times.append((time.perf_counter() - start) / part)
    ratio = statistics.median(b / a for a, b in zip(seconds, baseline_seconds, strict=True))
    return Row(name, baseline, statistics.median(seconds), statistics.median(baseline_seconds), ratio, error, note)


def relative_error(ours: "Tensor", theirs: "Tensor") -> float:
    """Largest absolute difference of two tensors, relative to the largest absolute value of the second."""
    return float((ours - theirs).abs().max() / theirs.abs().max())
