"""What a study of facts has found: rows of means over seeds."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from promptgraft.study.grouping import grouped, mean_of, seeds_interval, spread
from promptgraft.study.store import Record


def told_facts(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row for each way to prompt a model with a set of facts.

    Args:
        records: of a study, in the order of the plan.

    Returns:
        rows `set`, `length` (rows of a prompt), `main` (whether it is the study's own length), `method`, `source`
        (None where the method has none, `A + B` for several), `sources` (a list), `target`, `own` (the target is among
        its sources), `n` (seeds); `mean` of the accuracy of all facts, `sd`, and its
        95 % interval `low`, `high`: over seeds, each of which divides a built-in set anew, or over facts where there
        is one seed; `by_relation`, the mean of the relations' accuracies; `matching_loss`; `facts` asked in a seed;
        `relations` of `accuracy` and `matching_loss`, by name; `note`; `trials`.
    """
    cells = [
        (record, row, _place(record, row)) for record in records if record.kind == "facts" for row in _rows(record)
    ]
    found = []
    for place, members in grouped(cells, lambda cell: cell[2]).items():
        rows = [row for _, row, _ in members if row["accuracy"] is not None]
        values = [float(row["accuracy"]) for row in rows]
        of_facts = (rows[0]["low"], rows[0]["high"]) if len(rows) == 1 else (None, None)
        low, high = seeds_interval(values) if len(values) > 1 else of_facts
        keys = ("set", "length", "main", "method", "source", "target")
        losses = [row["matching_loss"] for row in rows if row["matching_loss"] is not None]
        found.append(
            dict(zip(keys, place, strict=True))
            | _sources(members)
            | {"n": len(rows), "mean": mean_of(values), "sd": spread(values)}
            | {"low": low, "high": high, "by_relation": mean_of([float(row["mean"]) for row in rows])}
            | {"matching_loss": mean_of(losses), "facts": rows[0]["n"] if rows else None}
            | {"relations": _relations(rows), "trials": [record.key for record, _, _ in members]}
            | {"note": next((row["note"] for _, row, _ in members if row["note"]), None)}
        )
    return found


def _rows(record: Record) -> Sequence[Mapping[str, Any]]:
    rows: Sequence[Mapping[str, Any]] = [] if record.result is None else record.result["rows"]
    return rows


def _place(record: Record, row: Mapping[str, Any]) -> tuple[Any, ...]:
    labels = record.labels
    source = labels["backbone"] if row["carried"] else None
    where = (labels["target"], labels["prompt_length"], labels["main"])
    return (*where, row["way"], source, labels["models"][row["target"]])


def _sources(members: Sequence[tuple[Record, Mapping[str, Any], tuple[Any, ...]]]) -> dict[str, Any]:
    record, row, place = members[0]
    sources = list(record.labels["sources"]) if row["carried"] else []
    return {"sources": sources, "own": place[-1] in sources}


def _relations(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Means over the seeds in which a relation was asked for."""
    names = dict.fromkeys(name for row in rows for name in row["relations"])
    found = {}
    for name in names:
        own = [row["relations"][name] for row in rows if name in row["relations"]]
        losses = [each["matching_loss"] for each in own if each["matching_loss"] is not None]
        found[name] = {
            "accuracy": fmean(each["value"] for each in own),
            "matching_loss": fmean(losses) if losses else None,
        }
    return found
