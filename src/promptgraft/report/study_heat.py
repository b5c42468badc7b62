"""Heat maps, as SVG: gains of sources x targets above other methods on the same targets, and plain ones."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup
from rich.cells import cell_len

from promptgraft.report import wording
from promptgraft.report.svg import LETTER_WIDTH, element, shorten

_WIDTH, _HEIGHT = 52, 30  # of a cell
_GAP = 10  # between the sources and the rows below them
_FAINTEST, _STRONGEST = 0.04, 0.55  # opacities of a cell; ink stays readable on the strongest in light and dark


class Heat(NamedTuple):
    """A cell. value: such as a relative gain; below zero it has another colour. says: shown under the pointer."""

    value: float
    says: str


Cells = Mapping[tuple[str, str], Heat]


def heatmap(cells: Cells, controls: Cells, *, label: str) -> Markup:
    """Relative gains in percent by source and target, both sorted by their mean, the best first.

    Args:
        cells: of each measured (source, target).
        controls: of each (method, target) of the methods without sources, which stand below in the order given.
        label: what the map shows, read aloud.
    """
    sources, targets = (_sorted(cells, side) for side in (0, 1))
    below = list(dict.fromkeys(name for name, _ in controls))
    largest = max((abs(cell.value) for cell in (*cells.values(), *controls.values())), default=0.0)
    parts = _heads([*targets, "mean"])
    y = 0.0
    for source in sources:
        parts += _row(source, cells, targets, y, largest)
        y += _HEIGHT
    means = [_mean(cell.value for (_, name), cell in cells.items() if name == target) for target in targets]
    parts.append(_name("mean", y + _GAP / 2))
    parts += [_number(wording.points(value), column, y + _GAP / 2) for column, value in enumerate(means)]
    overall = _mean(value for value in means if value is not None)
    parts.append(_number(wording.points(overall), len(targets), y + _GAP / 2))
    y += _HEIGHT + _GAP
    for name in below:
        parts += _row(name, controls, targets, y, largest)
        y += _HEIGHT

    names, told = [*sources, *below, "mean"], f"Heat map of {len(sources)} sources on {len(targets)} targets: {label}."
    return _framed(parts, names, [*targets, "mean"], y, told)


def matrix(
    rows: Sequence[str], columns: Sequence[str], cells: Cells, *, write: Callable[[float], str], label: str
) -> Markup:
    """Values of at most 1 by row and column, in the order given; colour is the value, so that maps can be compared.

    Args:
        rows: names, downwards.
        columns: names, to the right.
        cells: of each (row, column) that there is.
        write: how a value is written.
        label: what the map shows, read aloud.
    """
    parts = _heads(columns)
    for place, row in enumerate(rows):
        y = float(place * _HEIGHT)
        drawn = (_cell(cells.get((row, name)), column, y, 1.0, write) for column, name in enumerate(columns))
        parts += [_name(row, y), *drawn]
    return _framed(parts, rows, columns, len(rows) * _HEIGHT, label)


def _heads(columns: Sequence[str]) -> list[Markup]:
    """Slanted names above the columns."""
    return [
        element(
            "text",
            shorten(name),
            element("title", name),
            transform=f"translate({column * _WIDTH + _WIDTH / 2 + 3} -8) rotate(-45)",
        )
        for column, name in enumerate(columns)
    ]


def _framed(parts: Sequence[Markup], rows: Iterable[str], columns: Sequence[str], bottom: float, label: str) -> Markup:
    """The drawing, with room for the names left of and above its cells."""
    margin = LETTER_WIDTH * max(map(cell_len, map(shorten, rows)), default=0) + 12
    slant = math.ceil(0.71 * LETTER_WIDTH * max(map(cell_len, map(shorten, columns)), default=0)) + 24
    width, height = margin + len(columns) * _WIDTH + slant // 2, math.ceil(slant + bottom + 4)
    return element(
        "svg",
        element("g", *parts, transform=f"translate({margin} {slant})"),
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
        class_="heat",
        role="img",
        aria_label=label,
    )


def _row(name: str, cells: Cells, targets: list[str], y: float, largest: float) -> list[Markup]:
    found = [cells.get((name, target)) for target in targets]
    drawn = [_cell(cell, column, y, largest) for column, cell in enumerate(found)]
    average = _mean(cell.value for cell in found if cell is not None)
    return [_name(name, y), *drawn, _number(wording.points(average), len(targets), y)]


def _cell(
    cell: Heat | None, column: int, y: float, largest: float, write: Callable[[float], str] = wording.points
) -> Markup:
    box = {"x": column * _WIDTH, "y": y, "width": _WIDTH - 2, "height": _HEIGHT - 2, "rx": 3}
    if cell is None:
        return element("rect", class_="ground", **box)
    share = abs(cell.value) / largest if largest else 0.0
    opacity = round(_FAINTEST + (_STRONGEST - _FAINTEST) * share, 3)
    css = "gain" if cell.value >= 0 else "loss"
    drawn = element("rect", element("title", cell.says), class_=css, fill_opacity=opacity, **box)
    return drawn + _number(write(cell.value), column, y, class_="count")


def _number(text: str, column: int, y: float, **css: str) -> Markup:
    place = {"x": column * _WIDTH + (_WIDTH - 2) / 2, "y": y + _HEIGHT / 2 + 4}
    return element("text", text, text_anchor="middle", **place, **css)


def _name(name: str, y: float) -> Markup:
    return element("text", shorten(name), element("title", name), x=-10, y=y + _HEIGHT / 2 + 4, text_anchor="end")


def _sorted(cells: Cells, side: int) -> list[str]:
    """The names on one side, that with the highest mean first."""
    groups: dict[str, list[float]] = {}
    for place, cell in cells.items():
        groups.setdefault(place[side], []).append(cell.value)
    return sorted(groups, key=lambda name: -sum(groups[name]) / len(groups[name]))


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None
