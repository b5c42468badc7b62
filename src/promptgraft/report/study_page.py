"""The report of a study: summary -> jinja -> one self-contained HTML file, and the tables beside it."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from promptgraft.files import write_atomic
from promptgraft.report import study_figures as figures
from promptgraft.report import study_panels as panels
from promptgraft.report import wording
from promptgraft.report.standalone import standalone
from promptgraft.report.study_agreement import beaten
from promptgraft.report.study_facts import facts_panels
from promptgraft.report.study_grid import Grid, averages, distinct, grids, listed, marked
from promptgraft.report.study_source_tables import tuned_table
from promptgraft.report.study_sources import alone, source_panels
from promptgraft.report.study_tables import STARS, latex, markdown
from promptgraft.report.study_verdict import leader, verdict
from promptgraft.report.study_weights import together_panels
from promptgraft.report.templating import render

_ROWS = 1000  # of the long table; `study report --json` has them all
_TRIALS = 300  # of the table of trials; `study export` has them all
_KEY = 12  # first digits of a trial's key, as `study run --trial` takes them
_STATES = ("done", "failed", "running", "pending")
_URGENCY = {"failed": 0, "running": 1, "done": 2, "pending": 3}  # the first trials of the table, if not all are there


def write_study_report(study: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `report.html`, `tables.md`, `tables.tex`, and the heat maps of `figures/` into a folder.

    Args:
        study: summary of a study, as `render_study` takes it.
        folder: where to write; made if it is not there.

    Returns:
        the files that were written.

    Raises:
        InputError: the folder cannot be written.
    """
    pages = {"report.html": render_study, "tables.md": markdown, "tables.tex": latex}
    contents = {folder / name: write(study) for name, write in pages.items()}
    contents |= {folder / "figures" / name: standalone(figure) for name, figure in _heat_maps(study).items()}
    for path, content in contents.items():
        write_atomic(path, content)
    return list(contents)


def _heat_maps(study: Mapping[str, Any]) -> dict[str, Markup]:
    """File name -> each method with sources against each without, weights and gradients of several sources."""
    found: dict[str, Markup] = {}
    for title, figure in _titled(study):
        name = _plain(title)
        while f"{name}.svg" in found:  # names may be alike
            name += "-again"
        found[f"{name}.svg"] = figure
    return found


def _titled(study: Mapping[str, Any]) -> Iterator[tuple[str, Markup]]:
    for backbone, group in source_panels(study).items():
        for panel in group:
            for map_ in () if panel.get("same_source") else panel["maps"]:
                yield f"{map_['method']} against {panel['against']} on {backbone}", map_["figure"]
    for backbone, together in together_panels(study).items():
        for map_ in together["maps"]:
            yield f"weights by {map_['method']} on {backbone}", map_["figure"]
        for map_ in together["gradients"]:
            yield f"gradients on {map_['target']} by {map_['method']} on {backbone}", map_["figure"]


def _plain(name: str) -> str:
    """A name that any file system takes."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:100] or "figure"


def render_study(study: Mapping[str, Any]) -> str:
    """Render the summary of a study as one HTML page that needs no network and no other file.

    Args:
        study: a dict as JSON has it: `name`, `description`, `folder`, `spec`, `baseline`, `counts` of trials by kind
            and state, and the lists `rows`, `averages`, `comparisons`, `gains`, `tuned`, `weights`, `facts`, `trials`,
            `estimates`, `agreement`, `estimators` and `cost`. Accuracies are in [0, 1], times in seconds, memory in
            bytes; any list may be empty and any number None.
    """
    return render("study.html.j2", _view(study))


def _view(study: Mapping[str, Any]) -> dict[str, Any]:
    main = grids(study)
    rows, trials = listed(study, "rows"), listed(study, "trials")
    folder = str(study.get("folder") or "FOLDER")
    ordered = sorted(trials, key=lambda trial: _URGENCY.get(str(trial.get("state")), len(_URGENCY)))
    # trials of facts are named by their sources, which may be several together; each model is a target
    backbones = distinct(listed(study, "facts"), "target") or distinct([*rows, *trials], "backbone")
    shown = [_cell(row, study) for row in rows[:_ROWS]]
    return {
        "study": study,
        "made": study,
        "folder": folder,
        "baseline": study.get("baseline"),
        "stars": STARS,
        "run": f"promptgraft study run {shlex.quote(folder)}",
        "verdict": verdict(study),
        "hero": _hero(main, study),
        "facts": _facts(study, backbones),
        "states": _states(study),
        "several": len(backbones) > 1,
        "tables": [_main_table(grid, study) for grid in main],
        "rows": shown,
        "hidden_rows": len(rows) - len(shown),
        "tuned": tuned_table(study),
        "sources": source_panels(study),
        "together": together_panels(study),
        "estimated": panels.estimator_panels(study),
        "beaten": beaten(study),
        "told": facts_panels(study),
        "curves": panels.learning_curves(study),
        "cost": _cost(study),
        "trials": [_trial(trial) for trial in ordered[:_TRIALS]],
        "hidden_trials": len(trials) - min(len(trials), _TRIALS),
        "sourced": any(trial.get("source") is not None for trial in trials),
        "counts": _counts(study),
        "spec": json.dumps(study.get("spec"), indent=2, ensure_ascii=False),
        "provenance": _provenance(study),
    }


def _hero(main: list[Grid], study: Mapping[str, Any]) -> dict[str, Any] | None:
    """The leading method's mean over targets beside those of the others; None before every target is measured."""
    leading = leader(main)
    if leading is None or (value := leading[0].mean(leading[1])) is None:
        return None
    grid, method = leading
    means = {name: average for name in grid.methods if (average := grid.mean(name)) is not None}
    baseline = str(study.get("baseline"))
    return {
        "value": value,
        "method": method,
        "backbone": grid.backbone if len(main) > 1 else None,
        "targets": len(grid.targets),
        "baseline": means.get(baseline) if baseline != method else None,
        "figure": figures.dots(means, method),
    }


def _facts(study: Mapping[str, Any], backbones: Sequence[str]) -> list[tuple[str, str, str]]:
    """How many there are of everything, and their names: (heading, number, names)."""
    rows, trials = listed(study, "rows"), listed(study, "trials")
    everything = [*rows, *trials]
    names = {
        "Backbones": list(backbones),
        "Targets": list(distinct(everything, "target")),
        "Methods": list(distinct(everything, "method")),
        "Sources": list(distinct([*everything, *listed(study, "estimates")], "source")),
        "Estimators": list(distinct(trials, "estimator")),
        "Seeds": sorted(distinct(trials, "seed"), key=lambda seed: (len(seed), seed)),
    }
    seconds = sum(wording.finite(row.get("seconds")) or 0.0 for row in listed(study, "cost"))
    told = [(title, *_few(found)) for title, found in names.items() if found]
    return [*told, ("Computed", wording.duration(seconds), "")] if seconds else told


def _few(names: list[str]) -> tuple[str, str]:
    if len(names) == 1:
        return names[0], ""
    return str(len(names)), ", ".join(names[:3]) + (" …" if len(names) > 3 else "")


def _states(study: Mapping[str, Any]) -> dict[str, Any]:
    states = dict.fromkeys(_STATES, 0)
    for counts in (study.get("counts") or {}).values():
        for state in _STATES:
            states[state] += int(counts.get(state) or 0)
    return {"counts": states, "total": sum(states.values()), "figure": figures.progress(states)}


def _counts(study: Mapping[str, Any]) -> list[tuple[str, str]]:
    """For each kind of trial, how many are in which state."""
    told = []
    for kind, counts in (study.get("counts") or {}).items():
        parts = [f"{counts[state]} {state}" for state in _STATES if counts.get(state)]
        told.append((str(kind), ", ".join(parts) or "none"))
    return told


def _main_table(grid: Grid, study: Mapping[str, Any]) -> dict[str, Any]:
    lines = []
    for target in grid.targets:
        best = grid.best(target)
        cells = [_cell(grid.cells.get((target, method)), study, best=method in best) for method in grid.methods]
        lines.append({"name": target, "cells": cells})
    means, ranks = [grid.mean(method) for method in grid.methods], [grid.rank(method) for method in grid.methods]
    wins = [grid.wins(method) for method in grid.methods]
    feet = [
        _foot(grid, "Mean", list(map(wording.accuracy, means)), marked(means, max)),
        _foot(grid, "Mean rank", list(map(wording.decimal, ranks)), marked(ranks, min)),
        _foot(grid, "Best on", list(map(str, wins)), marked(wins, max)),
    ]
    table = {"corner": "Target", "heads": grid.methods, "lines": lines, "feet": feet if len(grid.targets) > 1 else []}
    return {
        **(_turned(table, "Method") if grid.turned else table),
        "backbone": grid.backbone,
        "averages": averages(study, grid.backbone),
        "sourced": any(row.get("source") for row in averages(study, grid.backbone)),
        "picked": any(map(alone, grid.cells.values())),
    }


def _foot(grid: Grid, title: str, texts: Sequence[str], best: Sequence[bool]) -> dict[str, Any]:
    """What is said of each method over all targets."""
    cells = []
    for method, text, bold in zip(grid.methods, texts, best, strict=True):
        keys = _keys(key for row in grid.column(method) for key in row.get("trials") or [])
        cell = {"text": text, "best": bold, "leads": keys if text != wording.DASH else ""}
        cells.append(cell | {"label": f"{method} on all targets", "tells": f"{title} {text}"})
    return {"name": title, "cells": cells}


def _turned(table: Mapping[str, Any], corner: str) -> dict[str, Any]:
    """The table on its side."""
    columns = [*table["lines"], *table["feet"]]
    lines = [
        {"name": name, "cells": [column["cells"][place] for column in columns]}
        for place, name in enumerate(table["heads"])
    ]
    return {"corner": corner, "heads": [column["name"] for column in columns], "lines": lines, "feet": []}


def _cell(row: Mapping[str, Any] | None, study: Mapping[str, Any], *, best: bool = False) -> dict[str, Any] | None:
    """A row and what its number tells when pressed."""
    if row is None:
        return None
    keys = _keys(row.get("trials") or [])
    return {**row, "best": best, "leads": keys, "label": _label(row), "tells": _tells(row, study)}


def _label(row: Mapping[str, Any]) -> str:
    source = f" from {row['source']}" if row.get("source") else ""
    return f"{row['method']}{source} on {row['target']}"


def _tells(row: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    """Everything about one accuracy in a sentence."""
    n = row.get("n")
    if not n:
        return "not measured yet"
    parts = [f"{wording.accuracy(row.get('mean'), row.get('sd'))} % over {n} seed{'' if n == 1 else 's'}"]
    if wording.score(row, "low") is not None:
        parts.append(f"95 % interval {wording.span(row)} %")
    if wording.finite(row.get("difference")) is not None:
        p = f", p {wording.p_value(row['p'])}" if wording.finite(row.get("p")) is not None else ""
        parts.append(f"{wording.points(row['difference'])} against {study.get('baseline')}{p}")
    return "; ".join(parts)


def _keys(keys: Iterable[Any]) -> str:
    return " ".join(str(key)[:_KEY] for key in keys)


def _cost(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = sorted(listed(study, "cost"), key=lambda row: -(wording.finite(row.get("seconds")) or 0.0))
    longest = max((wording.finite(row.get("seconds")) or 0.0 for row in rows), default=0.0)
    return [{**row, "bar": figures.bar(wording.finite(row.get("seconds")) or 0.0, longest)} for row in rows]


def _trial(trial: Mapping[str, Any]) -> dict[str, Any]:
    setting = trial.get("setting") or {}
    ran = [("device", trial.get("device")), ("host", trial.get("host")), ("started", trial.get("started"))]
    more = [
        *((str(name), value if isinstance(value, str) else json.dumps(value)) for name, value in setting.items()),
        *((name, str(value)) for name, value in ran if value),
    ]
    if wording.finite(trial.get("peak_memory")) is not None:
        more.append(("peak memory", wording.memory(trial["peak_memory"])))
    return {**trial, "key": str(trial["key"]), "short": str(trial["key"])[:_KEY], "more": more}


def _provenance(study: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Where and with what the trials ran, as titled lists of names and values."""
    hosts = Counter(
        (str(trial.get("host") or "unknown host"), str(trial.get("device") or "unknown device"))
        for trial in listed(study, "trials")
        if trial.get("state") in ("done", "failed")
    )
    ran = [(host, f"{device}: {number} trial{'' if number == 1 else 's'}") for (host, device), number in hosts.items()]
    found: dict[str, set[str]] = {}
    for trial in listed(study, "trials"):
        for name, version in (trial.get("versions") or {}).items():
            found.setdefault(str(name), set()).add(str(version))
    versions = [(name, ", ".join(sorted(of_trials))) for name, of_trials in found.items()]
    report = [("promptgraft", str(study.get("promptgraft"))), ("created", str(study.get("created")))]
    sections = [("Hosts", ran), ("Versions of the trials", versions), ("This report", report)]
    return [(title, entries) for title, entries in sections if entries]
