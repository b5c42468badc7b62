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


def marked_cells(
    values: Sequence[float | None], write: Callable[[Any], str], best: Callable[[list[float]], float]
) -> list[Cell]:
    """Cells of numbers, the best in bold."""
    return [Cell(write(value), bold) for value, bold in zip(values, marked(values, best), strict=True)]
