"""A study of facts, for a paper and for the page: tables by source and target, and what accuracy depends on.

The tables are 2 and 3 of zero-shot continuous prompt transfer (Wu et al. 2024, https://arxiv.org/abs/2310.01691), the
figures its 2 to 4.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from promptgraft.probing.comparison import SOURCELESS
from promptgraft.report import wording
from promptgraft.report.study_facts_figures import Dot, cloud, steps
from promptgraft.report.study_grid import Row, distinct, grouped, listed, mean
from promptgraft.report.study_table import Cell, Table
from promptgraft.report.svg import series_css
from promptgraft.transfer.relative import TOP_K

OTHER, OWN = "other models", "the same model"
_SCALE = ("normalise", "keep_spread")  # options that change the length of rows, not their direction


def facts_tables(study: Mapping[str, Any]) -> Iterator[Table]:
    """One table for each set of facts: the methods without a source, then the others by source."""
    for (name,), rows in grouped(_main(study), "set").items():
        targets = distinct(rows, "target")
        cells = {(str(row["method"]), row.get("source"), str(row["target"])): row for row in rows}
        methods = distinct(rows, "method")
        places = sorted(
            dict.fromkeys((method, source) for method, source, _ in cells), key=lambda p: methods.index(p[0])
        )
        best = {target: _best(cells, target) for target in targets}
        lines = []
        for method, source in places:
            found = [cells.get((method, source, target)) for target in targets]
            texts = [Cell(_written(row), row is not None and row is best[str(row["target"])]) for row in found]
            lines.append([Cell(method), Cell(str(source or wording.DASH)), *texts])
        yield Table(f"Facts told: {name}", _note(rows), 2, ["Method", "Source", *targets], lines)


def facts_panels(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each set of facts its table, the dots of matching loss and accuracy, and the ablations that were asked for.

    Returns:
        panels `set`, `table`, `cloud` (or None), `legend` of its methods (name and classes), and `ablations` of
        `title`, `about`, `figure`.
    """
    tables = {table.title: table for table in facts_tables(study)}
    found = []
    for (name,), rows in grouped(_main(study), "set").items():
        carried = [row for row in rows if row.get("source") and wording.finite(row.get("mean")) is not None]
        methods = distinct(carried, "method")
        css = {method: series_css(number) for number, method in enumerate(methods)}
        dots = [
            Dot(_label(row), float(row["matching_loss"]), float(row["mean"]), css[str(row["method"])])
            for row in carried
            if wording.finite(row.get("matching_loss")) is not None
        ]
        every = [row for row in listed(study, "facts") if str(row["set"]) == name]
        panel: dict[str, Any] = {"set": name, "table": tables[f"Facts told: {name}"], "legend": list(css.items())}
        panel["cloud"] = cloud(dots, f"Accuracy by matching loss on {name}") if dots else None
        panel["ablations"] = [drawn for drawn in _ablations(study, every) if drawn is not None]
        found.append(panel)
    return found


def facts_verdict(study: Mapping[str, Any]) -> str:
    """What the best way to carry prompts to another model reaches, beside the methods without a source."""
    sentences = []
    for (name,), rows in grouped(_main(study), "set").items():
        others = [row for row in rows if len(row["sources"]) == 1 and not row["own"]]
        means = {
            method: value for method in distinct(others, "method") if (value := _mean(others, method)) is not None
        }
        if not means:
            continue
        leading = max(means, key=lambda method: means[method])
        told = f"{name}: prompts carried to another model by {leading} tell {wording.percent(means[leading])}"
        free = [row for row in rows if not row.get("source")]
        beside = [f"{method} {wording.percent(_mean(free, method))}" for method in distinct(free, "method")]
        sentences.append("; ".join([f"{told} of the facts", *beside]) + ".")
    return " ".join(sentences)


def _mean(rows: Sequence[Row], method: str) -> float | None:
    return mean(wording.finite(row.get("mean")) for row in rows if str(row["method"]) == method)


def _main(study: Mapping[str, Any]) -> list[Row]:
    return [row for row in listed(study, "facts") if row.get("main")]


def _best(cells: Mapping[tuple[str, Any, str], Row], target: str) -> Row | None:
    """The best that was carried to a target from another model; None where nothing was told."""
    known = [
        row
        for (_, source, name), row in cells.items()
        if name == target and source and not row["own"] and wording.finite(row.get("mean"))
    ]
    return max(known, key=lambda row: float(row["mean"]), default=None)


def _written(row: Row | None) -> str:
    value = None if row is None else wording.finite(row.get("mean"))
    if row is None or value is None:
        return wording.DASH
    low, high = wording.finite(row.get("low")), wording.finite(row.get("high"))
    span = "" if low is None or high is None else f" ({100 * max(low, 0):.1f} to {100 * min(high, 1):.1f})"
    text = f"{100 * value:.1f}{span}"
    return f"[{text}]" if row["own"] else text


def _note(rows: Sequence[Row]) -> str:
    seeds = max((int(row.get("n") or 0) for row in rows), default=0)
    over = f"over {seeds} seeds, each with a division of its own" if seeds > 1 else "over facts, of one seed"
    note = f"Share of test facts told in %, with its 95 % interval {over}; in brackets: carried back to the same"
    together = " (or to one of two or more)" if any(len(row["sources"]) > 1 for row in rows) else ""
    return f"{note} model{together}; in bold: the best that was carried from another model to each."


def _label(row: Row) -> str:
    to = "itself" if row["source"] == row["target"] else row["target"]
    return f"{row['method']}, {row['source']} to {to}"


def _ablations(study: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[dict[str, Any] | None]:
    """By the options of the study's ways to carry prompts relatively, and by the length of its prompts."""
    methods = ((study.get("spec") or {}).get("facts") or {}).get("methods") or ()
    ways = [(dict(way.get("options") or {}), way) for way in methods if way["method"] == "relative"]
    own = [row for row in rows if row.get("main") and len(row["sources"]) == 1]

    def of(chosen: Sequence[Mapping[str, Any]]) -> list[list[Row]]:
        return [[row for row in own if row["method"] == _shown(way)] for way in chosen]

    scaled = [way for options, way in ways if not set(options) - set(_SCALE)]
    about = "with eq. 6, and with what was asked for instead"
    yield _ablation("Spread of the rows", about, [_shown(way) for way in scaled], of(scaled))
    counted = sorted(
        ((options.get("top_k", TOP_K), way) for options, way in ways if not set(options) - {"top_k"}),
        key=lambda each: each[0],
    )
    names = [f"{count:,}" for count, _ in counted]
    yield _ablation("Number of anchors", "shared words that count for a row", names, of([way for _, way in counted]))
    if first := next((_shown(way) for way in methods if way["method"] not in SOURCELESS), None):
        carried = [row for row in rows if row.get("source") and row["method"] == first]
        lengths = sorted(grouped(carried, "length").items(), key=lambda entry: int(entry[0][0]))
        names = [length for (length,), _ in lengths]
        yield _ablation("Prompt length", "rows of a prompt", names, [found for _, found in lengths])


def _shown(way: Mapping[str, Any]) -> str:
    return str(way.get("label") or way["method"])


def _ablation(title: str, about: str, names: Sequence[str], groups: Sequence[Sequence[Row]]) -> dict[str, Any] | None:
    """Mean accuracy of the pairs of two models, and of each with itself; None below two groups."""
    if len(names) < 2:
        return None
    lines = {
        what: [mean(wording.finite(row.get("mean")) for row in group if row["own"] == own) for group in groups]
        for what, own in ((OTHER, False), (OWN, True))
    }
    known = {what: values for what, values in lines.items() if any(value is not None for value in values)}
    return {"title": title, "about": about, "figure": steps(names, known, f"Accuracy by {about}")} if known else None
