"""Terminal tables: aligned, within 100 columns, in colour on a terminal and plain in a pipe.

Print a table with `console.print(table(...), soft_wrap=True)`: rich then neither wraps nor crops it in a pipe.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from promptgraft.report import wording

WIDTH = 100
_GAP = "   "
_NARROWEST = 8  # a shortened cell keeps at least this many columns


@dataclass(frozen=True)
class Column:
    """One column of a table.

    key: the entry of each row that it shows. title: its heading. write: turns the entry into text.
    right: align to the right, as numbers are.
    """

    key: str
    title: str
    write: Callable[[Any], str] = str
    right: bool = False


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, marked: int | None = None) -> Text:
    """Lay rows out under headings; where 100 columns do not suffice, the widest left-aligned column gives way.

    Args:
        rows: one mapping per line; a missing entry or None shows as a dash.
        columns: what to show, from left to right.
        marked: the index of a row to mark with `*` and in bold, such as the winner.
    """
    cells = [[_cell(row.get(column.key), column) for column in columns] for row in rows]
    widths = _widths(cells, columns)
    lines = [_line([column.title for column in columns], columns, widths, " ", "dim")]
    for index, line in enumerate(cells):
        chosen = index == marked
        lines.append(_line(line, columns, widths, "*" if chosen else " ", "bold" if chosen else ""))
    return Text("\n", no_wrap=True, overflow="ignore").join(lines)


def candidates_table(candidates: Sequence[Mapping[str, Any]]) -> Text:
    """Table of the `candidates` of a result: the winner first and marked, then by validation accuracy."""
    ordered = wording.by_accuracy([dict(candidate) for candidate in candidates])
    rows = [
        {
            "method": wording.method_name(candidate),
            "source": wording.source_name(candidate) or None,
            "accuracy": _accuracy(candidate.get("val_accuracy")),
            "parameters": candidate.get("parameters"),
            "seconds": wording.finite(candidate.get("seconds")),
            "note": _note(candidate),
        }
        for candidate in ordered
    ]
    columns = [
        Column("method", "method"),
        Column("source", "source"),
        Column("accuracy", "val accuracy"),
        Column("parameters", "parameters", wording.compact, right=True),
        Column("seconds", "seconds", "{:.0f}".format, right=True),
    ]
    if any(row["note"] for row in rows):
        columns.append(Column("note", ""))
    marked = 0 if ordered and ordered[0].get("winner") else None
    return table(rows, columns, marked=marked)


def _accuracy(accuracy: Mapping[str, Any] | None) -> str | None:
    value, low, high = (wording.score(accuracy, key) for key in ("value", "low", "high"))
    if value is None:
        return None
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} +- {max(high - value, value - low):.3f}"  # near 1 the lower arm is the longer one


def _note(candidate: Mapping[str, Any]) -> str:
    status = str(candidate.get("status") or "")
    return "" if status == "finished" else status


def _cell(value: Any, column: Column) -> str:
    text = "-" if value is None else column.write(value)
    # names come from folders and files: a line break or an escape sequence must not reach the terminal
    return "".join(letter if letter.isprintable() else " " for letter in text.replace(wording.NBSP, " "))


def _widths(cells: list[list[str]], columns: Sequence[Column]) -> list[int]:
    widths = [
        max([cell_len(column.title), *(cell_len(line[index]) for line in cells)])
        for index, column in enumerate(columns)
    ]
    elastic = [index for index, column in enumerate(columns) if not column.right]
    room = WIDTH - 2 - len(_GAP) * (len(columns) - 1)
    while sum(widths) > room and elastic:
        widest = max(elastic, key=lambda index: widths[index])
        if widths[widest] <= max(_NARROWEST, cell_len(columns[widest].title)):
            break
        widths[widest] -= 1
    return widths


def _line(cells: list[str], columns: Sequence[Column], widths: list[int], mark: str, style: str) -> Text:
    padded = []
    for cell, column, width in zip(cells, columns, widths, strict=True):
        short = cell if cell_len(cell) <= width else set_cell_size(cell, width - 1) + "…"
        space = " " * (width - cell_len(short))
        padded.append(space + short if column.right else short + space)
    return Text(f"{mark} {_GAP.join(padded)}".rstrip(), style=style)
