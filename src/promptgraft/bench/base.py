"""What a bench is: two ways to the same numbers, timed in turns, and how far the numbers differ."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from promptgraft.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Size = Literal["pocket", "paper", "smoke"]
"""pocket: sizes of real use, seconds to a minute per bench on two cores. paper: training steps of a ViT-B/16 at 224
pixels, on a GPU where there is one, the papers' numbers of patches and words, a million prompts; all else as pocket.
smoke: tiny, only shows that it runs."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    name: the bench's name, with what distinguishes the row. baseline: what promptgraft is compared with. seconds,
    baseline_seconds: of the round whose ratio is the median. ratio: baseline_seconds / seconds. error: the largest
    difference of the two results, relative to the largest baseline value. note: what else a reader must know. floor:
    seconds that the operations of ours take at the machine's own rate, or its bytes at the bandwidth, whichever is
    more; None where they were not counted. memory, baseline_memory: bytes that a run takes at its peak beyond what
    was held before; None where it cannot be told. exact: whether the two compute the same; else the note says what
    `error` is.
    """

    name: str
    baseline: str
    seconds: float
    baseline_seconds: float
    ratio: float
    error: float
    note: str
    floor: float | None = None
    memory: int | None = None
    baseline_memory: int | None = None
    exact: bool = True


Bench = Callable[[Size], list[Row]]

BENCHES: Registry[Bench] = Registry(
    "bench",
    {
        "deep-prompt": "promptgraft.bench.deep_prompt:deep_prompt",
        "shallow-prompt": "promptgraft.bench.shallow_prompt:shallow_prompt",
        "ensemble": "promptgraft.bench.ensemble_weights:ensemble_weights",
        "text-prompt": "promptgraft.bench.text_prompt:text_prompt",
        "frozen-features": "promptgraft.bench.frozen_features:frozen_features",
        "linear-grid": "promptgraft.bench.linear_grid:linear_grid",
        "modality-gap": "promptgraft.bench.modality_gap:modality_gap",
        "neuron-overlap": "promptgraft.bench.neuron_overlap:neuron_overlap",
        "task-gap": "promptgraft.bench.task_gap:task_gap",
        "labelled": "promptgraft.bench.labelled_scores:labelled_scores",
        "prototypes": "promptgraft.bench.prototypes:prototypes",
        "relative-search": "promptgraft.bench.relative_search:relative_search",
        "library": "promptgraft.bench.library:library",
        "adapt": "promptgraft.bench.adapting:adapting",
        "start-up": "promptgraft.bench.start_up:start_up",
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
    operations: int | None = None,
    bytes_read: int = 0,
    device: str = "cpu",
    dtype: "torch.dtype | None" = None,
    exact: bool = True,
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
        operations: of matrix products in one run of `ours`; None counts those that torch runs.
        bytes_read: that one run of `ours` cannot do without reading.
        device: where both run.
        dtype: of the products, float32 by default.
        exact: whether both compute the same.
    """
    from promptgraft.bench import limits

    pairs = []
    for turn in range(rounds):
        if turn % 2 == 0:
            mine, other = _run(ours, device), _run(theirs, device)
        else:
            other, mine = _run(theirs, device), _run(ours, device)
        pairs.append((mine, other))
    memory, baseline_memory = (_most(runs) for runs in zip(*pairs, strict=True))
    ratios = [(other.seconds / share / mine.seconds, mine.seconds, other.seconds / share) for mine, other in pairs]
    ratio, seconds, baseline_seconds = sorted(ratios)[rounds // 2]
    floor = _floor(limits.operations(ours) if operations is None else operations, bytes_read, device, dtype)
    return Row(name, baseline, seconds, baseline_seconds, ratio, error, note, floor, memory, baseline_memory, exact)


@dataclass(frozen=True)
class _Run:
    """Seconds of one run, and bytes at its peak beyond what was held before."""

    seconds: float
    memory: int | None


def _run(work: Callable[[], object], device: str) -> _Run:
    from promptgraft.bench import limits
    from promptgraft.study.memory import held_memory, peak_memory, reset_peak_memory

    held = held_memory(device)
    reset_peak_memory(device)
    limits.synchronize()
    start = time.perf_counter()
    work()
    limits.synchronize()
    seconds = time.perf_counter() - start
    peak = peak_memory(device)
    return _Run(seconds, None if held is None or peak is None else max(peak - held, 0))


def _most(runs: Iterable[_Run]) -> int | None:
    """Of the run that took most: later ones may get back what the first one had."""
    found = [run.memory for run in runs]
    return None if None in found else max(memory for memory in found if memory is not None)


def _floor(operations: int, bytes_read: int, device: str, dtype: "torch.dtype | None") -> float | None:
    import torch

    from promptgraft.bench import limits

    computing = operations / limits.matrix_rate(device, dtype or torch.float32) if operations else 0.0
    reading = bytes_read / limits.bandwidth(device) if bytes_read else 0.0
    return max(computing, reading) or None


def relative_error(ours: "Tensor", theirs: "Tensor") -> float:
    """Largest absolute difference of two tensors, relative to the largest absolute value of the second."""
    return float((ours - theirs).abs().max() / theirs.abs().max())
