"""The tables of source prompts for a paper: accuracy, comparisons pair by pair, gains, and orders by estimators."""

from collections.abc import Iterator, Mapping
from typing import Any

from promptgraft.report import wording
from promptgraft.report.study_agreement import rankings
from promptgraft.report.study_grid import Row, distinct, grouped, listed, mean
from promptgraft.report.study_sources import alone, comparisons, correlation_of, relative
from promptgraft.report.study_table import Cell, Table, marked_cells

NOTHING, WORSE = "not for certain", "worse"
"""What is said of a source that is not above the head alone: its interval holds zero, or lies below."""


def tuned_table(study: Mapping[str, Any]) -> Table | None:
    """What each source that the study tuned has learned on its own task, None where it tuned none."""
    rows = listed(study, "tuned")
    if not rows:
        return None
    lines = []
    for row in rows:
        accuracies = [
            wording.accuracy(wording.finite((row.get(name) or {}).get(split)))
            for split in ("val", "test")
            for name in ("majority", "head", "prompt")
        ]
        examples = wording.finite(row.get("train_n"))
        numbers = [wording.DASH if examples is None else f"{examples:,.0f}", *accuracies, _difference(row)]
        lines.append([Cell(str(row["source"])), Cell(_learned(row)), *map(Cell, numbers)])
    below = sum(_learned(row) in (NOTHING, WORSE) for row in rows)
    note = (
        "Accuracy in % on the source's own validation and test examples: always the most frequent class, a linear head"
        " on the frozen model without a prompt, and the tuned prompt with its head. The difference of the last two in"
        " points, on the test examples, with its 95 % paired bootstrap interval."
    )
    if below:
        note += f" {below} of {len(rows)} prompts are not above the head for certain."
    heads = ["Source", "Learned", "Train"]
    heads += [f"{name}, {split}" for split in ("val", "test") for name in ("Majority", "Head", "Prompt")]
    return Table("Source prompts that the study tuned", note, 2, [*heads, "Above head"], lines)


def source_tables(study: Mapping[str, Any], backbone: str) -> Iterator[Table]:
    """What each source reached, what that is worth against other methods, and on which targets."""
    rows = [row for row in listed(study, "rows") if str(row["backbone"]) == backbone]
    plain = {(str(r["method"]), str(r["target"])): wording.finite(r.get("mean")) for r in rows if not alone(r)}
    for (method,), own in grouped([row for row in rows if alone(row)], "method").items():
        yield _reached(backbone, method, own, plain)
    compared = [row for row in comparisons(study) if str(row["backbone"]) == backbone and row.get("sourced")]
    if compared:
        yield _compared(backbone, compared)
    gained = [row for row in listed(study, "gains") if str(row["backbone"]) == backbone]
    for (against,), own in grouped(gained, "against").items():
        yield _gained(backbone, against, own)


def ranking_tables(study: Mapping[str, Any]) -> Iterator[Table]:
    """Measured order beside the rank that each estimator gave, one table for each target."""
    for found in rankings(study):
        lines = [
            [Cell(source), Cell(wording.accuracy(accuracy)), *(_rank(rank) for rank in ranks)]
            for source, accuracy, ranks in found.lines
        ]
        title = f"Sources of {found.target} by {found.method} on {found.backbone}"
        note = "In the order of the accuracy measured, in %, with the rank that each estimator gave them."
        yield Table(title, note, 1, ["Source", "Measured", *found.estimators], lines)


def _reached(backbone: str, method: str, rows: list[Row], plain: Mapping[tuple[str, str], float | None]) -> Table:
    sources, targets = distinct(rows, "source"), distinct(rows, "target")
    known = {(str(row["source"]), str(row["target"])): wording.finite(row.get("mean")) for row in rows}
    columns = [[known.get((source, target)) for source in sources] for target in targets]
    columns.append([mean(known.get((source, target)) for target in targets) for source in sources])
    written = [marked_cells(column, wording.accuracy, max) for column in columns]
    lines = [[Cell(source), *cells] for source, *cells in zip(sources, *written, strict=True)]
    feet = []
    for name in dict.fromkeys(name for name, _ in plain):
        values = [plain.get((name, target)) for target in targets]
        feet.append([Cell(name), *(Cell(wording.accuracy(v)) for v in [*values, mean(values)])])
    title = f"Every source by {method} on {backbone}"
    note = "Test accuracy in %, mean over seeds; the best source in bold."
    if feet:
        note += " Below the line: methods without a source."
    return Table(title, note, 1, ["Source", *targets, "Mean"], lines, feet)


def _compared(backbone: str, rows: list[Row]) -> Table:
    heads = ["Method", "Against", "Above", "Pairs", "Share", "95 % interval", "Mean gain", "p"]
    lines = []
    for row in rows:
        against = f"{row['against']}, same source" if row.get("same_source") else str(row["against"])
        low, high = wording.score(row, "low"), wording.score(row, "high")
        interval = wording.DASH if low is None or high is None else f"{100 * low:.0f} to {100 * high:.0f}"
        share = wording.finite(row.get("share"))
        texts = [str(row["method"]), against, str(row.get("above")), str(row.get("pairs"))]
        texts += [wording.DASH if share is None else f"{100 * share:.0f}", interval]
        lines.append([Cell(text) for text in [*texts, relative(row.get("gain")), wording.p_value(row.get("p"))]])
    note = (
        "Pairs of source and target that are above the other method on the same target; the share in %, its interval"
        " by the bootstrap over targets and sources; the mean over targets of the relative gain; p of the one-sided"
        " sign-flip test over targets."
    )
    return Table(f"Pairs of source and target on {backbone}", note, 2, heads, lines)


def _gained(backbone: str, against: str, rows: list[Row]) -> Table:
    baseline = rows[0]["baseline"]
    places = {(str(row["method"]), str(place["target"])): place for row in rows for place in row["targets"]}
    targets = list(dict.fromkeys(target for _, target in places))
    methods = [str(row["method"]) for row in rows]
    lines = []
    for target in targets:
        found = [places.get((method, target), {}) for method in methods]
        step = next((place["x"] for place in found if place), None)
        lines.append([Cell(target), Cell(relative(step)), *(Cell(_range(place)) for place in found)])
    feet = [[Cell("Correlation"), Cell(wording.DASH), *(Cell(correlation_of(row)) for row in rows)]]
    note = (
        "Relative gains: the mean over sources, in brackets the lowest and highest. Correlation of the two columns:"
        " Spearman x 100 with its 95 % interval by the bootstrap over targets."
    )
    heads = ["Target", f"{against} over {baseline}", *(f"{method} over {against}" for method in methods)]
    return Table(f"Gains by target on {backbone}", note, 1, heads, lines, feet)


def _learned(row: Row) -> str:
    """Whether a prompt is above the head alone, by the interval."""
    low, high = wording.finite(row.get("low")), wording.finite(row.get("high"))
    if low is None or high is None:
        return wording.DASH
    return "yes" if low > 0 else WORSE if high < 0 else NOTHING


def _difference(row: Row) -> str:
    value, low, high = (wording.finite(row.get(name)) for name in ("difference", "low", "high"))
    return (
        f"{wording.points(value)} ({wording.points(low)} to {wording.points(high)})"
        if low is not None
        else wording.DASH
    )


def _range(place: Row) -> str:
    if not place:
        return wording.DASH
    return f"{relative(place['y'])} ({wording.points(place['low'])} to {wording.points(place['high'])})"


def _rank(rank: int | None) -> Cell:
    return Cell(wording.DASH if rank is None else str(rank), rank == 1)
