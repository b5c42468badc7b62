"""What a study has found, as one JSON-able value: rows of means over seeds, averages over targets, agreement, cost.

It depends on the trials' results alone, in the order of the plan, so equal results give equal tables byte for byte;
what was measured along the way (seconds, memory, hosts) stands in fields of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from scipy.stats import rankdata, ttest_1samp

from promptgraft.errors import InputError
from promptgraft.files import path_text
from promptgraft.study.agreement import agreement, overall
from promptgraft.study.comparisons import comparisons, gains
from promptgraft.study.grouping import grouped, mean_of, seeds_interval, spread
from promptgraft.study.repeatability import repeatability
from promptgraft.study.store import Record, Store
from promptgraft.study.told import told_facts
from promptgraft.study.tuned import tuned_sources
from promptgraft.study.weights import source_weights
from promptgraft.version import __version__

STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
_ROUNDING = 1e-9  # differences of accuracies closer than this are equal
CHOSEN = "chosen on val"
"""The source of an average over targets where each target has its own best source by validation accuracy."""


def summarize(store: Store) -> dict[str, Any]:
    """Everything that tables and the report show of a study.

    Raises:
        InputError: the study has not been started.
    """
    spec = store.spec()
    if spec is None:
        raise InputError(f"study {store.study} has not been started. `promptgraft study run {store.folder}` does.")
    records = store.records()
    tested = [record for record in records if record.kind in ("train", "final")]
    baseline = next((record.labels["method"] for record in tested), None)
    rows = _rows(tested, baseline)
    trials = [trial_row(record) for record in records]
    compared = comparisons(rows, trials)
    estimates = _estimates(records, rows)
    return {
        "name": store.study,
        "description": spec["description"],
        "folder": path_text(store.folder),
        "promptgraft": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "spec": spec,
        "baseline": baseline,
        "counts": store.counts(),
        "rows": rows,
        "averages": _averages(rows, baseline),
        "comparisons": compared,
        "gains": gains(compared, baseline),
        "tuned": tuned_sources(records),
        "facts": told_facts(records),
        "weights": source_weights(tested),
        "trials": trials,
        "estimates": estimates,
        "agreement": agreement(estimates),
        "estimators": overall(estimates),
        "repeatability": repeatability(tested),
        "cost": _cost(records),
    }


def trial_row(record: Record) -> dict[str, Any]:
    """One trial, flat."""
    result, measured, labels = record.result or {}, record.measured or {}, record.labels
    return {
        "key": record.key,
        "kind": record.kind,
        "state": record.state,
        **{name: labels.get(name) for name in ("backbone", "target", "method")},
        "source": result.get("source") or labels.get("source"),
        **{name: labels.get(name) for name in ("estimator", "seed")},
        **{name: result.get(name) for name in ("val_accuracy", "test_accuracy", "test_n", "parameters", "epochs")},
        "setting": result.get("setting"),
        "notes": list(result.get("notes", ())),
        "error": record.error,
        "traceback": record.traceback,
        "curve": result.get("curve"),
        **{name: measured.get(name) for name in ("seconds", "peak_memory", "device", "host", "started", "versions")},
    }


def _rows(tested: Sequence[Record], baseline: str | None) -> list[dict[str, Any]]:
    groups = grouped(tested, lambda record: _place(record.labels))
    several = {record.labels["method"] for record in tested if record.result and "sources" in record.result}
    rows = []
    for (backbone, target, method, source), members in groups.items():
        done = [record for record in members if record.result is not None]
        values = [float(_result(record)["test_accuracy"]) for record in done]
        val = [_result(r)["val_accuracy"] for r in done if _result(r)["val_accuracy"] is not None]
        low, high = seeds_interval(values)
        row = {"backbone": backbone, "target": target, "method": method, "source": source, "n": len(done)}
        row["together"] = method in several
        row |= {"mean": mean_of(values), "sd": spread(values), "low": low, "high": high, "val_mean": mean_of(val)}
        row |= {
            "parameters": next((_result(record)["parameters"] for record in done), None),
            "seconds": mean_of([(record.measured or {})["seconds"] for record in done]),
            "peak_memory": mean_of([m for r in done if (m := (r.measured or {}).get("peak_memory")) is not None]),
            "trials": [record.key for record in members],
            "rank": None,
        }
        rows.append(row)
    everywhere = _everywhere(rows)
    for on_target in grouped(rows, lambda row: (row["backbone"], row["target"])).values():
        chosen = [row for row in _chosen(on_target) if row["mean"] is not None]
        reference = [record for row in chosen if row["method"] == baseline for record in groups[_place(row)]]
        for row in on_target:
            own = groups[_place(row)] if row["method"] != baseline else []
            row |= _compared(_differences(own, reference))
        ranked = [row for row in chosen if (row["backbone"], row["method"]) in everywhere]
        for row, rank in zip(ranked, rankdata([-row["mean"] for row in ranked]).tolist(), strict=True):
            row["rank"] = rank
    return rows


def _everywhere(rows: Sequence[dict[str, Any]]) -> set[tuple[str, str]]:
    """Backbones and methods that the study takes to all targets: these alone are ranked, so that ranks compare."""
    targets = {
        backbone: {row["target"] for row in own} for backbone, own in grouped(rows, lambda r: r["backbone"]).items()
    }
    by_method = grouped(rows, lambda row: (row["backbone"], row["method"]))
    return {place for place, own in by_method.items() if {row["target"] for row in own} == targets[place[0]]}


def _chosen(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row of each method: of a method with several sources the one that validation, not test, prefers."""
    by_method = grouped(rows, lambda row: row["method"])
    return [
        max(same, key=lambda row: -1.0 if row["val_mean"] is None else row["val_mean"]) for same in by_method.values()
    ]


def _averages(rows: Sequence[dict[str, Any]], baseline: str | None) -> list[dict[str, Any]]:
    """Each method over all targets, where every target is measured."""
    averages = []
    for backbone, own in grouped(rows, lambda row: row["backbone"]).items():
        targets = list(grouped(own, lambda row: row["target"]))
        chosen = [row for same in grouped(own, lambda row: row["target"]).values() for row in _chosen(same)]
        best = {
            target: max((r["mean"] for r in chosen if r["target"] == target and r["mean"] is not None), default=0)
            for target in targets
        }
        reference = {row["target"]: row["mean"] for row in chosen if row["method"] == baseline}
        for method, members in grouped(chosen, lambda row: row["method"]).items():
            means = {row["target"]: row["mean"] for row in members if row["mean"] is not None}
            if len(means) < len(targets):
                continue
            differences = [
                means[target] - reference[target] for target in targets if reference.get(target) is not None
            ]
            sources = {row["source"] for row in own if row["method"] == method}
            averages.append(
                {"backbone": backbone, "method": method}
                | {"source": CHOSEN if len(sources) > 1 else next(iter(sources))}
                | {"targets": len(targets), "mean": mean_of(list(means.values()))}
                | {"rank": mean_of([row["rank"] for row in members])}
                | {"wins": sum(means[target] == best[target] for target in targets)}
                | _compared(differences if method != baseline else [])
            )
    return averages


def _estimates(records: Sequence[Record], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each estimator's score of each source, beside what transferring that source reached."""
    measured = grouped([row for row in rows if row["source"]], lambda r: (r["backbone"], r["target"], r["source"]))
    found = []
    for record in records:
        if record.kind != "estimate" or record.result is None:
            continue
        where = {name: record.labels[name] for name in ("backbone", "target", "estimator", "seed")}
        for source, score in zip(record.labels["sources"], record.result["scores"], strict=True):
            reached = measured.get((where["backbone"], where["target"], source)) or [{"mean": None, "method": None}]
            for row in reached:
                found.append(
                    {**where, "source": source, "score": score, "measured": row["mean"], "method": row["method"]}
                    | {"trial": record.key}
                )
    return found


def _cost(records: Sequence[Record]) -> list[dict[str, Any]]:
    rows = []
    done = [record for record in records if record.measured is not None]
    for (kind, what), members in grouped(
        done, lambda r: (r.kind, r.labels.get("method") or r.labels["estimator"])
    ).items():
        measured = [record.measured or {} for record in members]
        peaks = [m["peak_memory"] for m in measured if m.get("peak_memory") is not None]
        trained = [r.result["parameters"] for r in members if r.result is not None and "parameters" in r.result]
        rows.append(
            {"kind": kind, "method": what, "trials": len(members), "seconds": sum(m["seconds"] for m in measured)}
            | {"seconds_each": float(np.median([m["seconds"] for m in measured]))}
            | {"parameters": mean_of(trained) if trained else None, "peak_memory": max(peaks, default=None)}
        )
    return rows


def _differences(ours: Sequence[Record], theirs: Sequence[Record]) -> list[float]:
    """Test accuracy minus the baseline's with the same seed."""
    reference = {
        record.labels["seed"]: record.result["test_accuracy"] for record in theirs if record.result is not None
    }
    return [
        _result(record)["test_accuracy"] - reference[record.labels["seed"]]
        for record in ours
        if record.result is not None and record.labels["seed"] in reference
    ]


def _compared(differences: Sequence[float]) -> dict[str, Any]:
    """Mean difference, the p-value of a two-sided paired t-test (None below 3 pairs or without spread), stars."""
    p = None
    if len(differences) > 2 and float(np.ptp(differences)) > _ROUNDING:
        p = float(ttest_1samp(differences, 0.0).pvalue)
    stars = next((sign for limit, sign in STARS if p is not None and p < limit), "")
    return {"difference": mean_of(differences), "p": p, "stars": stars}


def _result(record: Record) -> Mapping[str, Any]:
    assert record.result is not None
    return record.result


def _place(labels: Mapping[str, Any]) -> tuple[Any, ...]:
    """The row that a trial belongs to."""
    return tuple(labels.get(name) for name in ("backbone", "target", "method", "source"))
