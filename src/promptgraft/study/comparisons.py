"""What a source prompt is worth: every pair of source and target against another method on the same target.

The relative performance is that of figure 3 of the cross-modality paper (Zhang et al., "Release the Powers of Prompt
Tuning"): (accuracy - B) / B. Its counts of pairs that are above B are kept; its one-sided test of them is not: that
takes the pairs of one target, which share the data and B, for independent ones. Here targets and sources are drawn
anew for the interval, and the test flips the sign of whole targets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptgraft.errors import InputError
from promptgraft.study.grouping import grouped, mean_of
from promptgraft.transferability.resampling import agreement_interval, paired_test

_Row = Mapping[str, Any]
_EQUAL = 1e-9
_RESAMPLES = 2_000
_FEWEST = 3  # targets below which nothing is said of other targets
_FEWEST_DOTS = 5  # targets below which a correlation says nothing


@dataclass(frozen=True)
class _Method:
    """A method on one backbone.

    together: whether it takes several sources at once. cells: accuracy by seed, by target and source (None for a
    method without, and for one that takes them together).
    """

    name: str
    together: bool
    cells: Mapping[tuple[str, str | None], Mapping[int, float]]

    @property
    def sourced(self) -> bool:
        return any(source is not None for _, source in self.cells)


def comparisons(rows: Sequence[_Row], trials: Sequence[_Row]) -> list[dict[str, Any]]:
    """Every method against every other, where the study has a method with sources.

    A method without sources stands for itself, as does one that takes several together; where both take sources, each
    source is compared with the same one.

    Args:
        rows: the `rows` of a summary.
        trials: its `trials`.

    Returns:
        rows `backbone`, `method`, `against` (B), `sourced` (whether the method takes sources one by one), `together`
        (whether it takes several at once), `same_source` (whether B takes them one by one too); `cells` of `target`,
        `source`, `accuracy` and `reference` over the seeds that both have, and `value` = (accuracy - reference) /
        reference; `pairs`, of which `above` are better than B, as `share` with a 95 % bootstrap interval `low`, `high`
        over targets and sources; `gain`, the mean over targets of the mean over sources, and `p` of the one-sided
        sign-flip test over targets of "no better than B". Interval and p are None below three targets, the interval
        also where every draw gives the same share.
    """
    measured = {trial["key"]: trial for trial in trials if trial["test_accuracy"] is not None}
    found = []
    for backbone, here in grouped(rows, lambda row: row["backbone"]).items():
        methods = [
            _Method(
                name,
                any(row.get("together") for row in own),
                {
                    (row["target"], None if row.get("together") else row["source"]): _by_seed(row, measured)
                    for row in own
                },
            )
            for name, own in grouped(here, lambda row: row["method"]).items()
        ]
        if not any(method.sourced or method.together for method in methods):
            continue
        for ours in methods:
            for theirs in methods:
                if ours is theirs or (theirs.sourced and not ours.sourced):
                    continue
                cells = _cells(ours, theirs)
                if cells:
                    row = {"backbone": backbone, "method": ours.name, "against": theirs.name}
                    row |= {"sourced": ours.sourced, "together": ours.together, "same_source": theirs.sourced}
                    found.append(row | _told(cells) | {"cells": cells})
    return found


def gains(compared: Sequence[_Row], baseline: str | None) -> list[dict[str, Any]]:
    """Whether targets on which B gains over the baseline gain more from transfer (figure 4 of the same paper).

    Chance in B's own accuracy moves a target right and down, so without any relation the correlation is below zero.

    Args:
        compared: what `comparisons` returned.
        baseline: the study's first method.

    Returns:
        rows `backbone`, `method`, `against` (B, which takes no sources), `baseline`; `targets` of `target`, `x` (B's
        gain over the baseline), `y` (the method's mean gain over B), `low` and `high` (those of its sources);
        Spearman's `correlation` x 100 with a 95 % bootstrap interval `low`, `high` over targets, None below five.
    """
    steps = {
        (row["backbone"], row["method"]): {cell["target"]: cell["value"] for cell in row["cells"]}
        for row in compared
        if row["against"] == baseline and not row["sourced"]
    }
    found = []
    for row in compared:
        step = steps.get((row["backbone"], row["against"]))
        if step is None or not row["sourced"]:
            continue
        targets = []
        for target, cells in grouped(row["cells"], lambda cell: cell["target"]).items():
            values = [cell["value"] for cell in cells]
            if target in step:
                place = {"target": target, "x": step[target], "y": mean_of(values)}
                targets.append(place | {"low": min(values), "high": max(values)})
        told = {name: row[name] for name in ("backbone", "method", "against")} | {"baseline": baseline}
        correlation = _correlation([(place["x"], place["y"]) for place in targets])
        told |= dict(zip(("correlation", "low", "high"), correlation, strict=True))
        found.append(told | {"targets": targets})
    return [row for row in found if len(row["targets"]) > 1]


def _by_seed(row: _Row, measured: Mapping[str, _Row]) -> dict[int, float]:
    trials = [measured[key] for key in row["trials"] if key in measured]
    return {trial["seed"]: float(trial["test_accuracy"]) for trial in trials}


def _cells(ours: _Method, theirs: _Method) -> list[dict[str, Any]]:
    cells = []
    for (target, source), own in ours.cells.items():
        other = theirs.cells.get((target, source if theirs.sourced else None), {})
        seeds = [seed for seed in own if seed in other]
        if not seeds:
            continue
        accuracy, reference = (fmean(side[seed] for seed in seeds) for side in (own, other))
        if reference > 0:
            cell = {"target": target, "source": source, "accuracy": accuracy, "reference": reference}
            cells.append(cell | {"value": mean_of([accuracy / reference - 1])})
    return cells


def _told(cells: Sequence[_Row]) -> dict[str, Any]:
    """Counts of pairs, and what they say of other targets and sources."""
    of_target = grouped(cells, lambda cell: cell["target"])
    sources = list(dict.fromkeys(cell["source"] for cell in cells))
    values = np.full((len(of_target), len(sources)), np.nan)
    for line, own in zip(values, of_target.values(), strict=True):
        for cell in own:
            line[sources.index(cell["source"])] = cell["value"]
    above = int((values > _EQUAL).sum())
    low, high = _share_interval(values)
    means = np.nanmean(values, axis=1)
    enough = len(means) >= _FEWEST
    return {
        "targets": len(means),
        "pairs": len(cells),
        "above": above,
        "share": above / len(cells),
        "low": low,
        "high": high,
        "gain": mean_of(means.tolist()),
        "p": paired_test(means, np.zeros(len(means))).p if enough else None,
    }


def _share_interval(values: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """95 % percentile interval of the share above zero, of values (T, M) by target and source, NaN where unknown."""
    targets, sources = values.shape
    if targets < _FEWEST:
        return None, None
    generator = np.random.default_rng(0)
    by_target = generator.multinomial(targets, np.full(targets, 1 / targets), _RESAMPLES)
    by_source = generator.multinomial(sources, np.full(sources, 1 / sources), _RESAMPLES)
    above, there = (
        np.einsum("rt,tm,rm->r", by_target, which.astype(float), by_source)
        for which in (values > _EQUAL, ~np.isnan(values))
    )
    return _wide(*np.quantile(above[there > 0] / there[there > 0], [0.025, 0.975]).tolist())


def _correlation(places: Sequence[tuple[float, float]]) -> tuple[float | None, float | None, float | None]:
    if len(places) < _FEWEST_DOTS:
        return None, None, None
    x, y = ([place[side] for place in places] for side in (0, 1))
    try:
        value, low, high = agreement_interval([x], [y], measure="spearman")
    except InputError:  # all alike
        return None, None, None
    return value, *_wide(low, high)


def _wide(low: float, high: float) -> tuple[float | None, float | None]:
    """An interval; none where all draws were alike, which says nothing of the next one."""
    return (low, high) if high - low > _EQUAL else (None, None)
