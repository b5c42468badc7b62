"""The figures of a report as SVG.

Places along the width are percentages and everything else is in CSS pixels, so a figure fits any screen while its text
keeps its size. Colours come from the style sheet by class, so figures follow light and dark.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from rich.cells import cell_len

from promptgraft.report import wording

_COLOURS = 6  # .s0 to .s5 in page.css; further series repeat them with other dashes (.d0 to .d2)
_CURVE_HEIGHT = 300
_MARKS_PER_CURVE = 60
_LABEL_LETTERS = 24
_LETTER_WIDTH = 7  # of a letter at the figures' 12 px, in a wide font


@dataclass(frozen=True)
class Axis:
    """A linear axis from `low` to `high` with round tick marks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Place of a value along the axis, in percent."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


@dataclass(frozen=True)
class DotRow:
    """One line of the dot plot: a candidate and its interval drawn on the shared axis."""

    candidate: Mapping[str, Any]
    svg: Markup


@dataclass(frozen=True)
class Curve:
    """One learning curve for the legend; `css` holds its colour and dash classes."""

    candidate: Mapping[str, Any]
    css: str


def accuracy_axis(values: Sequence[float | None], *, count: int = 5) -> Axis:
    """An axis with about `count` round ticks that covers all values, kept within 0 and 1."""
    known = [value for value in values if value is not None] or [0.0, 1.0]
    low, high = min(known), max(known)
    spread = max(high - low, 0.02)
    step = next(step for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if spread / step <= count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if first == last:
        first, last = first - 1, last + 1
    first, last = max(first, 0), min(last, round(1 / step))
    return Axis(first * step, last * step, tuple(round(index * step, 6) for index in range(first, last + 1)))


def dot_plot(candidates: Sequence[Mapping[str, Any]], linear: float | None) -> tuple[list[DotRow], Markup]:
    """Validation accuracies with 95 % intervals on one axis, and a reference line at the linear probe.

    Returns:
        one row per candidate with an accuracy, and the axis that belongs under the rows.
    """
    shown = [candidate for candidate in candidates if wording.score(candidate.get("val_accuracy")) is not None]
    values = [wording.score(c.get("val_accuracy"), key) for c in shown for key in ("value", "low", "high")]
    axis = accuracy_axis([*values, linear])
    rows = [DotRow(candidate, _dot(candidate, axis, linear)) for candidate in shown]
    labels = [_element("text", _tick(tick), x=f"{axis.at(tick)}%", y=15, text_anchor="middle") for tick in axis.ticks]
    return rows, _svg(labels, height=20, css="track")


def interval(accuracy: Mapping[str, Any] | None, label: str) -> Markup:
    """One accuracy and its 95 % interval on a scale from 0 to 100 %."""
    value, low, high = (wording.score(accuracy, key) for key in ("value", "low", "high"))
    parts = [_element("line", x1="0%", x2="100%", y1=10, y2=10, class_="rail")]
    if low is not None and high is not None:
        parts.append(_element("line", x1=_pct(low), x2=_pct(high), y1=10, y2=10, class_="band"))
    if value is not None:
        parts.append(_element("circle", cx=_pct(value), cy=10, r=6, class_="dot"))
    for place, text, anchor in ((0, "0 %", "start"), (0.5, "50 %", "middle"), (1, "100 %", "end")):
        parts.append(_element("text", text, x=_pct(place), y=34, text_anchor=anchor))
    return _svg(parts, height=38, css="gauge", label=label)


def learning_curves(candidates: Sequence[Mapping[str, Any]], linear: float | None) -> tuple[list[Curve], Markup]:
    """Validation accuracy after each epoch, one line per candidate that has trained.

    Returns:
        the legend's entries in the order of `candidates`, and the figure (empty where nothing has trained).
    """
    paths = [(candidate, _history(candidate)) for candidate in candidates]
    paths = [
        (candidate, path) for candidate, path in paths if any(value is not None and epoch for epoch, value in path)
    ]
    if not paths:
        return [], Markup("")
    axis = accuracy_axis([linear, *(value for _, path in paths for _, value in path)])
    first = min(epoch for _, path in paths for epoch, _ in path)
    last = max(epoch for _, path in paths for epoch, _ in path)
    epochs = Axis(first, max(last, first + 1), _epoch_ticks(first, max(last, first + 1)))

    parts = _curve_frame(axis, epochs)
    if linear is not None:
        y = _height(axis, linear)
        parts.append(_element("line", x1="0%", x2="100%", y1=y, y2=y, class_="reference"))
    curves: list[Curve] = []
    lines: list[Markup] = []
    marks: list[Markup] = []
    for candidate, path in paths:
        index = len(curves)
        others = index - any(curve.css == "winner" for curve in curves)
        css = "winner" if candidate.get("winner") else f"s{others % _COLOURS} d{others // _COLOURS % 3}"
        curves.append(Curve(candidate, css))
        key = {"class_": f"series {css}", "data_series": index}
        lines.extend(_element("polyline", points=" ".join(piece), **key) for piece in _pieces(path, axis, epochs))
        marks.append(_element("g", *_marks(candidate, path, axis, epochs), **key))
    # later siblings lie on top: the winner comes first in the list, so draw in reverse
    stretched = _element(
        "svg", *reversed(lines), viewBox="0 0 100 100", preserveAspectRatio="none", width="100%", height=_CURVE_HEIGHT
    )
    label = f"Learning curves of {len(curves)} candidates: validation accuracy after each epoch."
    return curves, _svg([*parts, stretched, *reversed(marks)], height=_CURVE_HEIGHT + 24, css="curves", label=label)


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Markup:
    """Heat map of a confusion matrix: rows are true classes, columns predictions, colour the share of the row.

    Cells carry counts where they have room; with many classes cells shrink and every k-th class is labelled.
    """
    count = len(classes)
    cell = max(4, min(64, 620 // max(count, 1)))
    every = math.ceil(13 / cell)
    names = [_shorten(str(name)) for name in classes]
    longest = _LETTER_WIDTH * max(map(cell_len, names), default=0)
    margin = math.ceil(longest) + 12
    slant = math.ceil(0.71 * longest) + 20  # height and overhang of a label at 45 degrees
    side = count * cell
    gap = 1 if cell >= 10 else 0

    parts = [_element("rect", x=0, y=0, width=side, height=side, class_="ground")]
    for row, counts in enumerate(matrix):
        total = sum(counts)
        for column, number in enumerate(counts):
            if number:
                parts.append(_cell(row, column, number, number / total, cell, gap, classes))
    for index in range(0, count, every):
        middle = index * cell + cell / 2
        full = _element("title", str(classes[index]))
        parts.append(_element("text", names[index], full, x=-8, y=middle + 4, text_anchor="end"))
        parts.append(
            _element(
                "text", names[index], full, transform=f"translate({middle + 3} -8) rotate(-45)", text_anchor="start"
            )
        )
    drawing = _element("g", *parts, transform=f"translate({margin} {slant})")
    total = sum(sum(counts) for counts in matrix)
    correct = sum(matrix[index][index] for index in range(count))
    width, height = margin + side + slant, slant + side + 4
    return _element(
        "svg",
        drawing,
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
        class_="confusion small" if cell < 26 else "confusion",
        role="img",
        aria_label=f"Confusion matrix of {count} classes: {correct} of {total} test items lie on the diagonal.",
    )


def strip(place: float | None) -> Markup:
    """A dot on a short rail: where a score lies between the lowest (0) and the highest (1) of its estimator."""
    parts = [_element("line", x1="0%", x2="100%", y1=8, y2=8, class_="rail")]
    if place is not None:
        parts.append(_element("circle", cx=_pct(place), cy=8, r=4, class_="dot"))
    return _svg(parts, height=16, css="strip")


def _dot(candidate: Mapping[str, Any], axis: Axis, linear: float | None) -> Markup:
    accuracy = candidate.get("val_accuracy")
    value, low, high = (wording.score(accuracy, key) for key in ("value", "low", "high"))
    parts = [
        _element("line", x1=f"{axis.at(tick)}%", x2=f"{axis.at(tick)}%", y1=0, y2="100%", class_="grid")
        for tick in axis.ticks
    ]
    if linear is not None:
        parts.append(
            _element("line", x1=f"{axis.at(linear)}%", x2=f"{axis.at(linear)}%", y1=0, y2="100%", class_="reference")
        )
    if low is not None and high is not None:
        ends = {"y1": "50%", "y2": "50%"}
        parts.append(_element("line", x1=f"{axis.at(low)}%", x2=f"{axis.at(high)}%", class_="band", **ends))
    if value is not None:
        css = "dot" if candidate.get("status") == "finished" else "dot hollow"
        parts.append(_element("circle", cx=f"{axis.at(value)}%", cy="50%", r=5, class_=css))
    label = f"{wording.percent(value)}, 95 % interval {wording.span(accuracy)} %"
    return _svg([_element("title", label), *parts], height="100%", css="track", label=label)


def _history(candidate: Mapping[str, Any]) -> list[tuple[int, float | None]]:
    return [(int(step["epoch"]), wording.finite(step.get("val_accuracy"))) for step in candidate.get("history") or []]


def _epoch_ticks(first: int, last: int) -> tuple[float, ...]:
    step = next(10**k * m for k in range(9) for m in (1, 2, 5) if (last - first) / (10**k * m) <= 8)
    return tuple(float(epoch) for epoch in range(math.ceil(first / step) * step, last + 1, step))


def _curve_frame(axis: Axis, epochs: Axis) -> list[Markup]:
    parts = []
    for tick in axis.ticks:
        y = _height(axis, tick)
        parts.append(_element("line", x1="0%", x2="100%", y1=y, y2=y, class_="grid"))
        parts.append(_element("text", _tick(tick), x=-10, y=y + 4, text_anchor="end"))
    parts.append(_element("text", "epoch", x=-10, y=_CURVE_HEIGHT + 20, text_anchor="end"))
    for tick in epochs.ticks:
        text = f"{tick:g}"
        parts.append(_element("text", text, x=f"{epochs.at(tick)}%", y=_CURVE_HEIGHT + 20, text_anchor="middle"))
    return parts


def _pieces(path: list[tuple[int, float | None]], axis: Axis, epochs: Axis) -> list[list[str]]:
    """The polylines of one curve in a 100 x 100 box: a missing value breaks the line."""
    pieces: list[list[str]] = [[]]
    for epoch, value in path:
        if value is not None:
            pieces[-1].append(f"{epochs.at(epoch)},{round(100 - axis.at(value), 2)}")
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if len(piece) > 1]


def _marks(
    candidate: Mapping[str, Any], path: list[tuple[int, float | None]], axis: Axis, epochs: Axis
) -> list[Markup]:
    """Points that show their value under the pointer, a visible one at the end (hollow where it was stopped), and a
    ring around the epoch that was kept.
    """
    known = [(epoch, value) for epoch, value in path if value is not None]
    stride = math.ceil(len(known) / _MARKS_PER_CURVE)
    name = f"{wording.method_name(candidate)} {wording.source_name(candidate)}".rstrip()
    end = "end" if candidate.get("status") == "finished" else "end hollow"
    marks = []
    for index, (epoch, value) in enumerate(known):
        final = index == len(known) - 1
        if final or index % stride == 0:
            title = _element("title", f"{name}: {wording.percent(value)} after epoch {epoch}")
            place = {"cx": f"{epochs.at(epoch)}%", "cy": _height(axis, value)}
            marks.append(_element("circle", title, r=4.5, class_=end if final else "hit", **place))
        if epoch == candidate.get("best_epoch"):
            place = {"cx": f"{epochs.at(epoch)}%", "cy": _height(axis, value)}
            marks.append(_element("circle", r=8, class_="kept", **place))
    return marks


def _height(axis: Axis, value: float) -> float:
    return round(_CURVE_HEIGHT * (1 - axis.at(value) / 100), 2)


def _cell(row: int, column: int, number: int, share: float, cell: int, gap: int, classes: Sequence[str]) -> Markup:
    kind = "hit" if row == column else "miss"
    title = _element("title", f"{classes[row]} taken for {classes[column]}: {number}")
    if row == column:
        title = _element("title", f"{classes[row]}: {number} right")
    x, y, width = column * cell, row * cell, cell - gap
    faintest = 0.15 if cell >= 12 else 0.4  # a small speck needs more colour to be seen
    opacity = round(faintest + (1 - faintest) * share, 3)
    box = _element("rect", title, x=x, y=y, width=width, height=width, class_=kind, fill_opacity=opacity)
    if cell < 20:
        return box
    tone = "count strong" if share > 0.6 else "count"
    label = _element("text", str(number), x=x + width / 2, y=y + width / 2 + 4, text_anchor="middle", class_=tone)
    return box + label


def _tick(share: float) -> str:
    return f"{100 * share:g}{wording.NBSP}%"


def _shorten(name: str) -> str:
    return name if len(name) <= _LABEL_LETTERS else name[: _LABEL_LETTERS - 1].rstrip() + "…"


def _pct(share: float) -> str:
    return f"{round(100 * share, 2)}%"


def _svg(parts: Sequence[Markup], *, height: int | str, css: str, label: str | None = None) -> Markup:
    spoken = {"role": "img", "aria_label": label} if label else {"aria_hidden": "true"}
    return _element("svg", *parts, width="100%", height=height, class_=css, **spoken)


def _element(tag: str, *children: str, **attributes: object) -> Markup:
    """Write one element: `class_` as class, other underscores as hyphens; what is not markup is escaped."""
    written = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(tag, written, Markup("").join(children))
