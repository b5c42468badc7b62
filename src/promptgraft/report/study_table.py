"""A table of a study for a paper, before it is Markdown or LaTeX."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from promptgraft.report.study_grid import marked


@dataclass(frozen=True)
class Cell:
    """What stands in one place; the best of its row or column is set in bold."""

    text: str
    best: bool = False
    stars: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first `words` columns hold names; `feet` stand below a line."""

    title: str
    note: str
    words: int
    heads: Sequence[str]
    lines: Sequence[Sequence[Cell]]
    feet: Sequence[Sequence[Cell]] = ()


def turned(table: Table, corner: str) -> Table:
    """A table with one column of names on its side: what stood in a line stands in a column, feet included."""
    columns = [*table.lines, *table.feet]
    heads = [corner, *(column[0].text for column in columns)]
    lines = [
        [Cell(name), *(column[place] for column in columns)] for place, name in enumerate(table.heads[1:], start=1)
    ]
    return Table(table.title, table.note, 1, heads, lines)


def marked_cells(
    values: Sequence[float | None], write: Callable[[Any], str], best: Callable[[list[float]], float]
) -> list[Cell]:
    """Cells of numbers, the best in bold."""
    return [Cell(write(value), bold) for value, bold in zip(values, marked(values, best), strict=True)]
