"""The figures of the report of one adaptation, as SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from rich.cells import cell_len

from promptgraft.report import wording
from promptgraft.report.svg import (
    LETTER_WIDTH,
    Axis,
    accuracy_axis,
    element,
    epoch_axis,
    height_of,
    levels,
    pct,
    pieces,
    series_css,
    shorten,
    stretched,
    svg,
    tick,
)

_CURVE_HEIGHT = 300
_MARKS_PER_CURVE = 60


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


def dot_plot(candidates: Sequence[Mapping[str, Any]], linear: float | None) -> tuple[list[DotRow], Markup]:
    """Validation accuracies with 95 % intervals on one axis, and a reference line at the linear probe.

    Returns:
        one row per candidate with an accuracy, and the axis that belongs under the rows.
    """
    shown = [candidate for candidate in candidates if wording.score(candidate.get("val_accuracy")) is not None]
    values = [wording.score(c.get("val_accuracy"), key) for c in shown for key in ("value", "low", "high")]
    axis = accuracy_axis([*values, linear])
    rows = [DotRow(candidate, _dot(candidate, axis, linear)) for candidate in shown]
    labels = [element("text", tick(mark), x=f"{axis.at(mark)}%", y=15, text_anchor="middle") for mark in axis.ticks]
    return rows, svg(labels, height=20, css="track")


def interval(accuracy: Mapping[str, Any] | None, label: str) -> Markup:
    """One accuracy and its 95 % interval on a scale from 0 to 100 %."""
    value, low, high = (wording.score(accuracy, key) for key in ("value", "low", "high"))
    parts = [element("line", x1="0%", x2="100%", y1=10, y2=10, class_="rail")]
    if low is not None and high is not None:
        parts.append(element("line", x1=pct(low), x2=pct(high), y1=10, y2=10, class_="band"))
    if value is not None:
        parts.append(element("circle", cx=pct(value), cy=10, r=6, class_="dot"))
    for place, text, anchor in ((0, "0 %", "start"), (0.5, "50 %", "middle"), (1, "100 %", "end")):
        parts.append(element("text", text, x=pct(place), y=34, text_anchor=anchor))
    return svg(parts, height=38, css="gauge", label=label)


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
    epochs = epoch_axis(first, last)

    parts = _curve_frame(axis, epochs)
    if linear is not None:
        y = height_of(axis, linear, _CURVE_HEIGHT)
        parts.append(element("line", x1="0%", x2="100%", y1=y, y2=y, class_="reference"))
    curves: list[Curve] = []
    lines: list[Markup] = []
    marks: list[Markup] = []
    for candidate, path in paths:
        index = len(curves)
        others = index - any(curve.css == "winner" for curve in curves)
        css = "winner" if candidate.get("winner") else series_css(others)
        curves.append(Curve(candidate, css))
        key = {"class_": f"series {css}", "data_series": index}
        lines.extend(element("polyline", points=" ".join(piece), **key) for piece in pieces(path, epochs, axis))
        marks.append(element("g", *_marks(candidate, path, axis, epochs), **key))
    # later siblings lie on top: the winner comes first in the list, so draw in reverse
    drawn = stretched(list(reversed(lines)), height=_CURVE_HEIGHT)
    label = f"Learning curves of {len(curves)} candidates: validation accuracy after each epoch."
    return curves, svg([*parts, drawn, *reversed(marks)], height=_CURVE_HEIGHT + 24, css="curves", label=label)


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Markup:
    """Heat map of a confusion matrix: rows are true classes, columns predictions, colour the share of the row.

    Cells carry counts where they have room; with many classes cells shrink and every k-th class is labelled.
    """
    count = len(classes)
    cell = max(4, min(64, 620 // max(count, 1)))
    every = math.ceil(13 / cell)
    names = [shorten(str(name)) for name in classes]
    longest = LETTER_WIDTH * max(map(cell_len, names), default=0)
    margin = math.ceil(longest) + 12
    slant = math.ceil(0.71 * longest) + 20  # height and overhang of a label at 45 degrees
    side = count * cell
    gap = 1 if cell >= 10 else 0

    parts = [element("rect", x=0, y=0, width=side, height=side, class_="ground")]
    for row, counts in enumerate(matrix):
        total = sum(counts)
        for column, number in enumerate(counts):
            if number:
                parts.append(_cell(row, column, number, number / total, cell, gap, classes))
    for index in range(0, count, every):
        middle = index * cell + cell / 2
        full = element("title", str(classes[index]))
        parts.append(element("text", names[index], full, x=-8, y=middle + 4, text_anchor="end"))
        parts.append(
            element(
                "text", names[index], full, transform=f"translate({middle + 3} -8) rotate(-45)", text_anchor="start"
            )
        )
    drawing = element("g", *parts, transform=f"translate({margin} {slant})")
    total = sum(sum(counts) for counts in matrix)
    correct = sum(matrix[index][index] for index in range(count))
    width, height = margin + side + slant, slant + side + 4
    return element(
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
    parts = [element("line", x1="0%", x2="100%", y1=8, y2=8, class_="rail")]
    if place is not None:
        parts.append(element("circle", cx=pct(place), cy=8, r=4, class_="dot"))
    return svg(parts, height=16, css="strip")


def _dot(candidate: Mapping[str, Any], axis: Axis, linear: float | None) -> Markup:
    accuracy = candidate.get("val_accuracy")
    value, low, high = (wording.score(accuracy, key) for key in ("value", "low", "high"))
    parts = [
        element("line", x1=f"{axis.at(mark)}%", x2=f"{axis.at(mark)}%", y1=0, y2="100%", class_="grid")
        for mark in axis.ticks
    ]
    if linear is not None:
        parts.append(
            element("line", x1=f"{axis.at(linear)}%", x2=f"{axis.at(linear)}%", y1=0, y2="100%", class_="reference")
        )
    if low is not None and high is not None:
        ends = {"y1": "50%", "y2": "50%"}
        parts.append(element("line", x1=f"{axis.at(low)}%", x2=f"{axis.at(high)}%", class_="band", **ends))
    if value is not None:
        css = "dot" if candidate.get("status") == "finished" else "dot hollow"
        parts.append(element("circle", cx=f"{axis.at(value)}%", cy="50%", r=5, class_=css))
    label = f"{wording.percent(value)}, 95 % interval {wording.span(accuracy)} %"
    return svg([element("title", label), *parts], height="100%", css="track", label=label)


def _history(candidate: Mapping[str, Any]) -> list[tuple[int, float | None]]:
    return [(int(step["epoch"]), wording.finite(step.get("val_accuracy"))) for step in candidate.get("history") or []]


def _curve_frame(axis: Axis, epochs: Axis) -> list[Markup]:
    parts = levels(axis, _CURVE_HEIGHT)
    parts.append(element("text", "epoch", x=-8, y=_CURVE_HEIGHT + 20, text_anchor="end"))
    for mark in epochs.ticks:
        text = f"{mark:g}"
        parts.append(element("text", text, x=f"{epochs.at(mark)}%", y=_CURVE_HEIGHT + 20, text_anchor="middle"))
    return parts


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
            title = element("title", f"{name}: {wording.percent(value)} after epoch {epoch}")
            place = {"cx": f"{epochs.at(epoch)}%", "cy": height_of(axis, value, _CURVE_HEIGHT)}
            marks.append(element("circle", title, r=4.5, class_=end if final else "hit", **place))
        if epoch == candidate.get("best_epoch"):
            place = {"cx": f"{epochs.at(epoch)}%", "cy": height_of(axis, value, _CURVE_HEIGHT)}
            marks.append(element("circle", r=8, class_="kept", **place))
    return marks


def _cell(row: int, column: int, number: int, share: float, cell: int, gap: int, classes: Sequence[str]) -> Markup:
    kind = "hit" if row == column else "miss"
    title = element("title", f"{classes[row]} taken for {classes[column]}: {number}")
    if row == column:
        title = element("title", f"{classes[row]}: {number} right")
    x, y, width = column * cell, row * cell, cell - gap
    faintest = 0.15 if cell >= 12 else 0.4  # a small speck needs more colour to be seen
    opacity = round(faintest + (1 - faintest) * share, 3)
    box = element("rect", title, x=x, y=y, width=width, height=width, class_=kind, fill_opacity=opacity)
    if cell < 20:
        return box
    tone = "count strong" if share > 0.6 else "count"
    label = element("text", str(number), x=x + width / 2, y=y + width / 2 + 4, text_anchor="middle", class_=tone)
    return box + label
