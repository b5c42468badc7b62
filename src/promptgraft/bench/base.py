"""What a bench is: two ways to the same numbers, timed in turns, and how far the numbers differ."""

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
    baseline_seconds: of the round whose ratio is the median. ratio: baseline_seconds / seconds. error: the largest
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
        "ensemble": "promptgraft.bench.ensemble_weights:ensemble_weights",
        "linear-grid": "promptgraft.bench.linear_grid:linear_grid",
        "modality-gap": "promptgraft.bench.modality_gap:modality_gap",
        "neuron-overlap": "promptgraft.bench.neuron_overlap:neuron_overlap",
        "task-gap": "promptgraft.bench.task_gap:task_gap",
        "prototypes": "promptgraft.bench.prototypes:prototypes",
        "relative-search": "promptgraft.bench.relative_search:relative_search",
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
        rounds: runs of each, an odd number; who goes first changes every round.
        share: the part of the work of `ours` that `theirs` does; its seconds are divided by it.
        note: for the reader.
    """
    pairs = []
    for turn in range(rounds):
        if turn % 2 == 0:
            mine, other = _seconds(ours), _seconds(theirs)
        else:
            other, mine = _seconds(theirs), _seconds(ours)
        pairs.append((other / share / mine, mine, other / share))
    ratio, seconds, baseline_seconds = sorted(pairs)[rounds // 2]
    return Row(name, baseline, seconds, baseline_seconds, ratio, error, note)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def relative_error(ours: "Tensor", theirs: "Tensor") -> float:
    """Largest absolute difference of two tensors, relative to the largest absolute value of the second."""
    return float((ours - theirs).abs().max() / theirs.abs().max())
