"""What stopping settings of a search early saves and loses: rules replayed on full grids that a study trained.

A rule changes nothing of what a setting does, only how long, so the learning curves of whole grids hold every search
by a rule. `median` is what `sampler: tpe` stops by: settings come one after another, here in 50 random orders, and one
whose best accuracy so far is below the median at that epoch of those trained to the end is stopped; the first
five never, and none before an epoch. `halving` trains all settings side by side, and at its rungs keeps those of
the highest accuracy so far, of equals those of the lower loss.

    python benchmarks/stopping.py studies/search
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from promptgraft.study.folder import open_started
from promptgraft.study.grouping import grouped
from promptgraft.study.kinds import best_setting
from promptgraft.study.tpe import STARTUP

ORDERS = 50
Result = Mapping[str, Any]


Rule = Callable[[Sequence[Result]], list[int]]
"""Settings in an order, each with its result when trained to the end -> epochs that each is trained."""


def median(grid: Sequence[Result], stop_from: int) -> list[int]:
    """Epochs of each setting where those behind the median are stopped, after this many at the earliest."""
    whole: list[list[float]] = []
    taken = []
    for result in grid:
        values = [line[3] for line in result["curve"][1:]]
        stopped = None
        for epoch in range(1, len(values) + 1):
            earlier = [curve[epoch - 1] for curve in whole if len(curve) >= epoch]
            if epoch >= stop_from and len(whole) >= STARTUP and max(values[:epoch]) < np.median(earlier):
                stopped = epoch
                break
        taken.append(stopped or len(values))
        if stopped is None:
            whole.append(values)
    return taken


def halving(grid: Sequence[Result], rungs: Mapping[int, int]) -> list[int]:
    """Epochs of each setting where at each rung, an epoch, so many go on."""
    running, taken = list(range(len(grid))), [len(result["curve"]) - 1 for result in grid]
    for rung, kept in rungs.items():
        order = sorted(running, key=lambda place: _so_far(grid[place]["curve"][1 : rung + 1]))
        for place in order[kept:]:
            taken[place] = min(rung, taken[place])
        running = order[:kept]
    return taken


def _so_far(curve: Sequence[Sequence[float | None]]) -> tuple[float, float]:
    """Minus the best accuracy, and the lowest loss."""
    losses = [line[2] for line in curve if line[2] is not None]
    return -max((line[3] or 0.0 for line in curve), default=0.0), min(losses, default=np.inf)


RULES: dict[str, Rule] = {
    "median, from the first epoch": partial(median, stop_from=1),
    "median, from half of the epochs": partial(median, stop_from=5),
    "halving: 4 of 18 after 1 epoch, 1 after 3": partial(halving, rungs={1: 4, 3: 1}),
    "halving: 2 of 18 after 2 epochs": partial(halving, rungs={2: 2}),
    "halving: 4 of 18 after 5 epochs": partial(halving, rungs={5: 4}),
}


@dataclass(frozen=True)
class Search:
    """One search: whether it finds the grid's setting, the validation accuracy lost in points, the share of epochs."""

    same: bool
    validation: float
    share: float


def replay(grid: Sequence[Result], rule: Rule) -> Search:
    """A search by a rule against the whole grid; what was stopped is not chosen."""
    epochs = [len(result["curve"]) - 1 for result in grid]
    taken = rule(grid)
    ours = best_setting([result for result, own, all_ in zip(grid, taken, epochs, strict=True) if own == all_])
    best = best_setting(grid)
    return Search(ours["setting"] == best["setting"], 100 * (ours["value"] - best["value"]), sum(taken) / sum(epochs))


def searches(folder: Path) -> list[list[Result]]:
    """Results of all settings of each search that is done; what diverged at once is left out."""
    store = open_started(folder)
    records = [record for record in store.records() if record.kind == "search"]
    store.close()
    found = grouped(records, lambda record: tuple(record.labels[name] for name in ("target", "method", "seed")))
    return [
        [record.result for record in own if record.result and record.result["curve"]]
        for own in found.values()
        if len(own) > 1 and all(record.state == "done" for record in own)
    ]


def table(folder: Path) -> list[str]:
    """Lines of a Markdown table, one for each rule; means over searches, and over orders where they matter."""
    rng, grids = np.random.default_rng(0), searches(folder)
    lines = ["| rule | searches | epochs | same setting | validation |", "|---|---:|---:|---:|---:|"]
    for name, rule in RULES.items():
        orders = ORDERS if name.startswith("median") else 1
        found = [
            replay([grid[place] for place in rng.permutation(len(grid))], rule)
            for grid in grids
            for _ in range(orders)
        ]
        share, same, validation = (np.mean([getattr(one, what) for one in found]) for what in _MEANS)
        lines.append(f"| {name} | {len(found)} | {share:.0%} | {same:.0%} | {validation:+.1f} |")
    return lines


_MEANS = ("share", "same", "validation")


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a study with `sampler: grid`")
    print("\n".join(table(parser.parse_args().study)))


if __name__ == "__main__":
    main()
