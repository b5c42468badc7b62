"""How far to trust an estimator: how well it ranked sources whose transfer was measured afterwards."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from promptgraft.card import Modality
from promptgraft.errors import InputError
from promptgraft.measured import Transfer
from promptgraft.transferability.evaluate import check_pair, kendall
from promptgraft.transferability.resampling import agreement_interval, paired_test

TRIVIAL = "norm"
"""The estimator that a better one must beat: it looks at nothing but the length of the prompt's rows."""
NONE = "no measured transfer in this library"
_ROUNDING = 1e-9  # means closer than this are equal

Grid = NDArray[np.float64]


class TrackRecord(TypedDict):
    """An estimator's agreement with measured transfer.

    backbone, modality: of the targets. same_backbone: whether that has the weights that were asked about. targets: on
    which it ranked two sources or more. kendall: tau-a x 100, mean over them, with its 95 % interval `low` to `high`.
    compared: targets that `norm` ranked too; on `beats_norm` of them the estimator agrees better, sources alike; p:
    of the one-sided paired test. None where there is nothing to compare.
    """

    backbone: str
    modality: str
    same_backbone: bool
    targets: int
    kendall: float
    low: float
    high: float
    compared: int
    beats_norm: int | None
    p: float | None


def track_records(
    transfers: Iterable[Transfer], estimators: Sequence[str], weights_sha256: str, modality: Modality
) -> dict[str, TrackRecord | None]:
    """What measured transfers say of estimators; None of one that they say nothing of.

    Only transfers to one backbone count: to the one that is asked about, else, where nothing is known of it, to the
    other one with most targets, those of the same modality first. A target that was measured by several methods or
    studies counts once, with its mean agreement.

    Args:
        transfers: of prompts that are to be ranked.
        estimators: their names.
        weights_sha256: of the backbone that prompts are ranked for.
        modality: of the target that they are ranked for.
    """

    def place(transfer: Transfer) -> tuple[str, str]:
        return transfer.weights_sha256, transfer.modality

    pools = [(key, list(members)) for key, members in groupby(sorted(transfers, key=place), place)]

    def nearness(pool: tuple[tuple[str, str], list[Transfer]]) -> tuple[bool, bool, int]:
        (weights, kind), members = pool
        return weights != weights_sha256, kind != modality, -len({transfer.target for transfer in members})

    for (weights, kind), members in sorted(pools, key=nearness):
        rows = _Rows(members)
        found = {
            name: rows.record(
                name,
                backbone=", ".join(sorted({transfer.backbone for transfer in members})),
                modality=kind,
                same_backbone=weights == weights_sha256,
            )
            for name in estimators
        }
        if any(found.values()):
            return found
    return dict.fromkeys(estimators)


def long_form(estimator: str, record: TrackRecord | None) -> str:
    """A line: "gap: Kendall 41 (12 to 63) on 7 measured targets of this library; beats norm on 5 of 7 (p 0.11)"."""
    if record is None:
        return f"{estimator}: {NONE}"
    span = f"{round(record['low'])} to {round(record['high'])}"
    where = _targets(record["targets"], record) + (" of this library" if record["same_backbone"] else "")
    line = f"{estimator}: Kendall {round(record['kendall'])} ({span}) on {where}"
    if not record["compared"]:
        return line
    p = record["p"] or 0.0
    chance = f"p {p:.2g}" if p >= 0.001 else "p < 0.001"
    return f"{line}; beats {TRIVIAL} on {record['beats_norm']} of {record['compared']} ({chance})"


def short_form(estimator: str, record: TrackRecord) -> str:
    """Half a line such as "gap beats norm on 3 of 6 measured targets"."""
    if not record["compared"]:
        return f"{estimator} has Kendall {round(record['kendall'])} on {_targets(record['targets'], record)}"
    return f"{estimator} beats {TRIVIAL} on {record['beats_norm']} of {_targets(record['compared'], record)}"


def _targets(count: int, record: TrackRecord) -> str:
    targets = f"{count} measured target{'s' * (count != 1)}"
    return targets if record["same_backbone"] else f"{targets} of another backbone, {record['backbone']}"


class _Rows:
    """Transfers as one row for each target, method and study, one column for each source."""

    def __init__(self, transfers: Sequence[Transfer]) -> None:
        self._transfers = transfers
        keys = [(t.target, t.study, t.backbone, t.method) for t in transfers]
        rows, columns = list(dict.fromkeys(keys)), list(dict.fromkeys(t.source_id for t in transfers))
        row_of, column_of = ({key: number for number, key in enumerate(axis)} for axis in (rows, columns))
        self._places = [(row_of[key], column_of[t.source_id]) for key, t in zip(keys, transfers, strict=True)]
        self._shape = len(rows), len(columns)
        self._targets = [target for target, *_ in rows]
        self._reached = self._grid([t.accuracy for t in transfers])

    def record(self, name: str, *, backbone: str, modality: str, same_backbone: bool) -> TrackRecord | None:
        """An estimator's record; None where it ranked nothing."""
        scores, trivial = self._scores(name), self._scores(TRIVIAL)
        usable = [row for row in range(len(scores)) if _ranks(scores[row], self._reached[row])]
        if not usable:
            return None
        targets = [self._targets[row] for row in usable]
        agreement = agreement_interval(scores[usable], self._reached[usable], targets=targets)
        shared = np.where(np.isnan(scores) | np.isnan(trivial), np.nan, self._reached)
        both = [row for row in usable if _ranks(scores[row], shared[row]) and _ranks(trivial[row], shared[row])]
        ours, theirs = (self._by_target(both, grid, shared) for grid in (scores, trivial))
        compared = len(ours) if name != TRIVIAL else 0
        return TrackRecord(
            backbone=backbone,
            modality=modality,
            same_backbone=same_backbone,
            targets=len(set(targets)),
            kendall=agreement.value,
            low=agreement.low,
            high=agreement.high,
            compared=compared,
            beats_norm=sum(ours[target] > theirs[target] + _ROUNDING for target in ours) if compared else None,
            p=paired_test([*ours.values()], [*theirs.values()]).p if compared else None,
        )

    def _by_target(self, rows: Sequence[int], scores: Grid, reached: Grid) -> Mapping[str, float]:
        found: dict[str, list[float]] = {}
        for row in rows:
            there = ~np.isnan(scores[row]) & ~np.isnan(reached[row])
            found.setdefault(self._targets[row], []).append(kendall(scores[row][there], reached[row][there]))
        return {target: float(np.mean(values)) for target, values in found.items()}

    def _scores(self, estimator: str) -> Grid:
        return self._grid([transfer.scores.get(estimator, np.nan) for transfer in self._transfers])

    def _grid(self, values: Sequence[float]) -> Grid:
        grid = np.full(self._shape, np.nan)
        for place, value in zip(self._places, values, strict=True):
            grid[place] = value
        return grid


def _ranks(scores: Grid, reached: Grid) -> bool:
    """Whether there are two sources or more that differ on both sides."""
    there = ~np.isnan(scores) & ~np.isnan(reached)
    try:
        check_pair(scores[there], reached[there])
    except InputError:
        return False
    return True
