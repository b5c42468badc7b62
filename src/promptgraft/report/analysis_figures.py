"""The figures of the analysis of a prompt, as SVG: mutual information over epochs, and a map of similarities."""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from promptgraft.report.svg import LETTER_WIDTH, Axis, element, epoch_axis, height_of, levels, pieces, stretched, svg
from promptgraft.report.wording import DASH, significant

_HEIGHT = 300
_LINE = 15  # between the labels of two lines
_LEADER = 16  # from the end of a line to its label
_ROUNDING = 1e-12  # information below this is none
_FAINTEST, _STRONGEST = 0.04, 0.6  # opacities of a cell; ink stays readable on the strongest in light and dark
_ROOMY = 34  # pixels of a cell that has room for its number


def information(lines: Mapping[int, Sequence[float]], kept: int) -> Markup:
    """Normalised mutual information of each layer over the epochs, on a logarithmic axis; empty for a single epoch.

    Args:
        lines: NMI of each layer, by epoch; an epoch that is not there breaks the lines.
        kept: the epoch whose prompt was kept.
    """
    known = [value for layers in lines.values() for value in layers if value > _ROUNDING]
    first, last = min(lines), max(lines)
    if first == last or not known:
        return Markup("")
    count = len(lines[last])
    height = max(_HEIGHT, _LINE * count)
    axis, epochs = _log_axis(min(known), max(known)), epoch_axis(first, last)
    drawn: list[Markup] = []
    ends: list[tuple[float, int]] = []
    for layer in range(count):
        path = [(epoch, _log(lines[epoch][layer]) if epoch in lines else None) for epoch in range(first, last + 1)]
        title = element("title", f"layer {layer + 1}: {_from_to(lines[first][layer], lines[last][layer])}")
        for piece in pieces(path, epochs, axis):
            drawn.append(element("polyline", title, points=" ".join(piece), **_look(layer, count)))
        if (end := path[-1][1]) is not None:
            ends.append((height_of(axis, end, height), layer))
    means = (sum(lines[epoch]) / count for epoch in (first, last))
    label = (
        f"Normalised mutual information of {count} layers, from epoch {first} to {last}: "
        f"the mean over layers goes from {_from_to(*means)}."
    )
    parts = [*_frame(axis, epochs, kept, height), stretched(drawn, height=height), *_labels(ends, count, height)]
    return svg(parts, height=height + 24, css="curves", label=label)


def similarities(rows: Sequence[Sequence[float | None]]) -> Markup:
    """Heat map of a similarity in [0, 1]: prompts of layers downwards, tokens of layers to the right.

    Colour is the value itself, so that maps can be compared; a ring marks the largest of each row.
    """
    count = len(rows)
    cell = max(16, min(44, 640 // count))
    margin, top = LETTER_WIDTH * len(f"prompt {count}") + 12, 44
    parts = [element("text", "tokens of layer", x=0, y=-26)]
    for layer in range(count):
        middle = layer * cell + cell / 2
        parts.append(element("text", str(layer + 1), x=middle, y=-8, text_anchor="middle"))
        parts.append(element("text", f"prompt {layer + 1}", x=-8, y=middle + 4, text_anchor="end"))
    parts += [_cell(i, j, value, cell) for i, row in enumerate(rows) for j, value in enumerate(row)]
    for i, row in enumerate(rows):
        if (j := _most(row)) is not None:
            parts.append(element("rect", class_="most", **_box(i, j, cell)))
    width, height = margin + count * cell + 4, top + count * cell + 4
    return element(
        "svg",
        element("g", *parts, transform=f"translate({margin} {top})"),
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
        class_="likeness",
        role="img",
        aria_label=f"Heat map of the similarity of the prompts of {count} layers to the tokens of these layers: "
        f"{own_layer(rows)} are most like the tokens of their own layer.",
    )


def own_layer(rows: Sequence[Sequence[float | None]]) -> int:
    """How many rows have their largest value on the diagonal."""
    return sum(_most(row) == place for place, row in enumerate(rows))


def _most(row: Sequence[float | None]) -> int | None:
    """The place of the largest value of a row."""
    known = [place for place, value in enumerate(row) if value is not None]
    return max(known, key=lambda place: row[place] or 0.0, default=None)


def _log_axis(low: float, high: float) -> Axis:
    """An axis of decimal logarithms from and to 1, 2 or 5 times a power of ten; ticks at these, or at the powers."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 2)
    marks = {math.log10(step * 10.0**exponent): step for exponent in exponents for step in (1, 2, 5)}
    first = max(mark for mark in marks if mark <= math.log10(low) + 1e-9)
    last = min(mark for mark in marks if mark >= math.log10(high) - 1e-9 and mark > first)
    steps = (1, 2, 5) if last - first < 2.1 else (1,)
    return Axis(first, last, tuple(mark for mark, step in marks.items() if step in steps and first <= mark <= last))


def _log(value: float) -> float | None:
    return math.log10(value) if value > _ROUNDING else None


def _frame(axis: Axis, epochs: Axis, kept: int, height: int) -> list[Markup]:
    parts = levels(axis, height, lambda mark: significant(10**mark))
    parts.append(element("text", "epoch", x=-8, y=height + 20, text_anchor="end"))
    for mark in epochs.ticks:
        parts.append(element("text", f"{mark:g}", x=f"{epochs.at(mark)}%", y=height + 20, text_anchor="middle"))
    at = f"{epochs.at(kept)}%"
    anchor = "end" if 2 * kept > epochs.low + epochs.high else "start"
    parts.append(element("line", x1=at, x2=at, y1=0, y2=height, class_="reference"))
    return [*parts, element("text", f"kept: {kept}", x=at, y=-6, text_anchor=anchor)]


def _labels(ends: Sequence[tuple[float, int]], count: int, height: int) -> list[Markup]:
    """Names of layers right of their lines, given by the heights of the lines' ends; no two overlap."""
    ends = sorted(ends)
    parts = []
    for (y, layer), place in zip(ends, _apart([y for y, _ in ends], height), strict=True):
        leader = element("line", x1=2, x2=_LEADER - 3, y1=y, y2=place, **_look(layer, count))
        name = element("text", f"layer {layer + 1}", x=_LEADER, y=place + 4)
        parts.append(element("svg", leader, name, x="100%", y=0, width=1, height=height))  # pixels from the right edge
    return parts


def _apart(places: Sequence[float], height: int) -> list[float]:
    """Sorted heights, moved down and then up as far as it takes to be a line apart and above the lower edge."""
    down: list[float] = []
    for place in places:
        down.append(max(place, down[-1] + _LINE) if down else place)
    up: list[float] = []
    for place in reversed(down):
        up.append(min(place, up[-1] - _LINE if up else height))
    return up[::-1]


def _look(layer: int, count: int) -> dict[str, str]:
    return {"class_": "series layer", "style": f"--depth: {layer / max(count - 1, 1):.3f}"}


def _from_to(start: float, end: float) -> str:
    return f"{significant(start)} to {significant(end)}"


def _cell(i: int, j: int, value: float | None, cell: int) -> Markup:
    number = DASH if value is None else f"{value:.2f}"
    title = element("title", f"prompt of layer {i + 1}, tokens of layer {j + 1}: {number}")
    opacity = round(_FAINTEST + (_STRONGEST - _FAINTEST) * (value or 0.0), 3)
    drawn = element("rect", title, class_="like", fill_opacity=opacity, **_box(i, j, cell))
    if cell < _ROOMY:
        return drawn
    place = {"x": j * cell + cell / 2 - 1, "y": i * cell + cell / 2 + 3}
    return drawn + element("text", number, text_anchor="middle", class_="count", **place)


def _box(i: int, j: int, cell: int) -> dict[str, int]:
    return {"x": j * cell, "y": i * cell, "width": cell - 2, "height": cell - 2, "rx": 3}
