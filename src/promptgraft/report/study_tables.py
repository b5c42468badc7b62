"""The tables of a study for a paper: Markdown, and LaTeX with booktabs. Accuracies are in percent."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from promptgraft.report import wording
from promptgraft.report.study_agreement import beaten, feet, repeated
from promptgraft.report.study_facts import facts_tables
from promptgraft.report.study_grid import Agreement, Grid, Row, agreements, averages, grids, listed
from promptgraft.report.study_source_tables import ranking_tables, source_tables, tuned_table
from promptgraft.report.study_sources import alone
from promptgraft.report.study_table import Cell, Table, marked_cells, turned
from promptgraft.report.study_weights import together_tables

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    wording.DASH: "--",
    "−": "$-$",
    "±": r"$\pm$",
    wording.NBSP: "~",
    **{letter: f"\\{letter}" for letter in "{}$&#%_"},
    **{letter: f"{{{letter}}}" for letter in "[]*"},  # after \\ and \midrule they would begin an argument
}
STARS = "* p < 0.05, ** p < 0.01, *** p < 0.001".replace(" p < ", f"{wording.NBSP}p{wording.NBSP}<{wording.NBSP}")
_MARKDOWN = {**{letter: f"\\{letter}" for letter in "\\`*_[]|~#"}, "&": "&amp;", "<": "&lt;", ">": "&gt;"}


def markdown(study: Mapping[str, Any]) -> str:
    """Accuracy, averages, sources and their comparisons, and the agreement of the estimators, in Markdown."""
    blocks = [f"<!-- {_command(study).replace('--', '- -')} -->", f"# {_escape(study.get('name'), _MARKDOWN)}"]
    for table in _tables(study):
        heads = [_escape(head, _MARKDOWN) for head in table.heads]
        rule = ["---" if index < table.words else "---:" for index in range(len(heads))]
        lines = [[_markdown(cell) for cell in line] for line in (*table.lines, *table.feet)]
        written = "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *lines))
        blocks += [f"## {_escape(table.title, _MARKDOWN)}", written, _escape(table.note, _MARKDOWN)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def latex(study: Mapping[str, Any]) -> str:
    r"""The same tables in LaTeX; the preamble needs `\usepackage{booktabs}` and, before 2018, UTF-8 input."""
    blocks = [f"% {_command(study)}\n% needs \\usepackage{{booktabs}}"]
    for number, table in enumerate(_tables(study), start=1):
        rows = [" & ".join(_escape(head, _LATEX) for head in table.heads), r"\midrule"]
        rows += [" & ".join(map(_latex, line)) for line in table.lines]
        if table.feet:
            rows += [r"\midrule", *(" & ".join(map(_latex, line)) for line in table.feet)]
        body = "\n".join(row if row == r"\midrule" else rf"{row} \\" for row in rows)
        columns = "l" * table.words + "r" * (len(table.heads) - table.words)
        caption = " ".join(_escape(part, _LATEX) for part in (f"{table.title}.", table.note) if part)
        blocks.append(
            f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n\\label{{tab:study-{number}}}\n"
            f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}"
        )
    return "\n\n".join(blocks) + "\n"


def _tables(study: Mapping[str, Any]) -> Iterator[Table]:
    if tuned := tuned_table(study):
        yield tuned
    for grid in grids(study):
        yield _accuracy(grid, study)
        if rows := averages(study, grid.backbone):
            yield _averages(grid.backbone, rows, study)
        yield from source_tables(study, grid.backbone)
        yield from together_tables(study, grid.backbone)
    if costs := [row for row in listed(study, "cost") if row["kind"] == "train" and row.get("parameters") is not None]:
        yield _cost(costs, study)
    yield from facts_tables(study)
    for agreement in agreements(study):
        yield _agreement(agreement, study)
    yield from ranking_tables(study)


def _accuracy(grid: Grid, study: Mapping[str, Any]) -> Table:
    lines = []
    for target in grid.targets:
        rows = [grid.cells.get((target, method), {}) for method in grid.methods]
        best = grid.best(target)
        cells = [
            Cell(wording.accuracy(row.get("mean"), row.get("sd")), method in best, str(row.get("stars") or ""))
            for method, row in zip(grid.methods, rows, strict=True)
        ]
        lines.append([Cell(target), *cells])
    means, ranks = [grid.mean(method) for method in grid.methods], [grid.rank(method) for method in grid.methods]
    feet = [
        [Cell("Mean"), *marked_cells(means, wording.accuracy, max)],
        [Cell("Mean rank"), *marked_cells(ranks, wording.decimal, min)],
    ]
    note = "Test accuracy in %, mean and standard deviation over seeds; the best mean in bold."
    if any(row.get("stars") for row in grid.cells.values()):
        note += f" Stars: the difference from {study.get('baseline')} in a paired t-test over seeds ({STARS})."
    if any(map(alone, grid.cells.values())):
        note += " Methods that take a source prompt stand with the one that is best on the validation split."
    title = f"{study.get('name')}: accuracy on {grid.backbone}"
    table = Table(title, note, 1, ["Target", *grid.methods], lines, feet if len(grid.targets) > 1 else [])
    return turned(table, "Method") if grid.turned else table


def _averages(backbone: str, rows: Sequence[Row], study: Mapping[str, Any]) -> Table:
    baseline = study.get("baseline")
    heads = ["Method", "Source", "Targets", "Mean", "Mean rank", "Wins"]
    if baseline is not None:
        heads += [f"Against {baseline}", "p"]
    lines = []
    for row in rows:
        names = [Cell(str(row["method"])), Cell(str(row.get("source") or wording.DASH))]
        numbers = [Cell(str(row.get("targets"))), Cell(wording.accuracy(row.get("mean")))]
        numbers += [Cell(wording.decimal(row.get("rank"))), Cell(_whole(row.get("wins")))]
        if baseline is not None:
            numbers += [Cell(wording.points(row.get("difference")), stars=str(row.get("stars") or ""))]
            numbers += [Cell(wording.p_value(row.get("p")))]
        lines.append(names + numbers)
    return Table(f"{study.get('name')}: averages over targets on {backbone}", "", 2, heads, lines)


def _cost(rows: Sequence[Row], study: Mapping[str, Any]) -> Table:
    heads = ["Method", "Trials", "Parameters", "Seconds", "Peak memory"]
    lines = []
    for row in sorted(rows, key=lambda row: float(row["parameters"])):
        numbers = [str(row["trials"]), wording.compact(row["parameters"]), wording.decimal(row["seconds_each"])]
        lines.append([Cell(str(row["method"])), *map(Cell, numbers), Cell(wording.memory(row["peak_memory"]))])
    note = (
        "Trainable parameters, those of the head included, on average over targets; the median of the seconds that a "
    )
    note += "trial took with its test, beside what else the machine had to do; the largest peak memory of a trial."
    return Table(f"{study.get('name')}: cost", note, 1, heads, lines)


def _agreement(agreement: Agreement, study: Mapping[str, Any]) -> Table:
    lines = []
    for target in agreement.targets:
        best = agreement.best(target)
        values = [(name, agreement.value(target, name)) for name in agreement.estimators]
        lines.append([Cell(target), *(Cell(wording.decimal(value), name in best) for name, value in values)])
    below = [[Cell(foot.title), *map(Cell, foot.texts, foot.best)] for foot in feet(agreement, study)]
    title = f"Agreement of estimates with transfer by {agreement.method} on {agreement.backbone}"
    note = "Kendall's tau-a x 100, its interval by the bootstrap over targets and sources; regret: points of accuracy"
    note += " lost by trying only the source, or the three sources, ranked first."
    if other := beaten(study):
        note += f' p: one-sided, of the sign-flip test over targets of "no better than {other}".'
    note += f" {repeated(agreement, study)}" if repeated(agreement, study) else ""
    return Table(title, note, 1, ["Target", *agreement.estimators], lines, below)


def _whole(value: object) -> str:
    number = wording.finite(value)
    return wording.DASH if number is None else f"{number:.0f}"


def _markdown(cell: Cell) -> str:
    text = _escape(cell.text, _MARKDOWN)
    return (f"**{text}**" if cell.best else text) + _escape(cell.stars, _MARKDOWN)


def _latex(cell: Cell) -> str:
    text = _escape(cell.text, _LATEX)
    stars = f"$^{{{_escape(cell.stars, _LATEX)}}}$" if cell.stars else ""
    return (rf"\textbf{{{text}}}" if cell.best else text) + stars


def _escape(text: object, table: Mapping[str, str]) -> str:
    """Names come from files: a line break would end a row, and an escape sequence reach the terminal."""
    return "".join(table.get(letter, letter if letter.isprintable() else " ") for letter in str(text))


def _command(study: Mapping[str, Any]) -> str:
    folder = "".join(letter if letter.isprintable() else " " for letter in str(study.get("folder") or "FOLDER"))
    return f"promptgraft study report {shlex.quote(folder)}"
