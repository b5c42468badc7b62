"""The figures of a study's report, as SVG: pure functions of numbers and names."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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
    pct,
    pieces,
    shorten,
    stretched,
    svg,
    tick,
)

_PANEL_HEIGHT = 150
_CELL = (52, 30)  # width and height of a heat map's cell
_FAINTEST, _STRONGEST = 0.04, 0.55  # opacities of a cell; ink stays readable on the strongest in light and dark


@dataclass(frozen=True)
class Line:
    """A learning curve over seeds.

    points: epoch, mean, and the ends of the band around it. css: colour and dash classes.
    """

    name: str
    css: str
    series: int
    points: Sequence[tuple[int, float, float, float]]


@dataclass(frozen=True)
class Point:
    """A source prompt in a scatter: what an estimator said of it, and what its transfer measured."""

    source: str
    score: float
    measured: float


def dots(values: Mapping[str, float], leader: str) -> Markup:
    """The means of all methods on a scale from 0 to 100 %, the leader's in front."""
    parts = [element("line", x1="0%", x2="100%", y1=10, y2=10, class_="rail")]
    for name in sorted(values, key=lambda name: name == leader):
        title = element("title", f"{name}: {wording.percent(values[name])}")
        css, radius = ("dot", 6) if name == leader else ("dot other", 4)
        parts.append(element("circle", title, cx=pct(values[name]), cy=10, r=radius, class_=css))
    for place, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        parts.append(element("text", tick(place), x=pct(place), y=34, text_anchor=anchor))
    label = f"Mean accuracies of {len(values)} methods on a scale from 0 to 100 %"
    return svg(parts, height=38, css="gauge", label=label)


def progress(counts: Mapping[str, int]) -> Markup:
    """A bar divided by the states of the trials."""
    total = sum(counts.values()) or 1
    parts, start = [element("rect", x="0%", y=0, width="100%", height=8, rx=4, class_="ground")], 0.0
    for state, number in counts.items():
        share = number / total
        title = element("title", f"{number} {state}")
        place = {"x": pct(start), "width": pct(share)}
        parts.append(element("rect", title, y=0, height=8, class_=f"state-{state}", **place))
        start += share
    label = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    return svg(parts, height=8, css="progress", label=f"Trials: {label or 'none'}")


def bar(value: float, longest: float) -> Markup:
    """A bar as long as its value's share of the longest one."""
    share = value / longest if longest > 0 else 0.0
    return svg([element("rect", x=0, y=3, width=pct(share), height=10, rx=2)], height=16, css="bar")


def curves(lines: Sequence[Line], label: str) -> Markup:
    """Learning curves of one target: a line for the mean and a band around it for each method."""
    axis = accuracy_axis([value for line in lines for point in line.points for value in point[1:]], count=4)
    places = [point[0] for line in lines for point in line.points]
    epochs = epoch_axis(min(places, default=0), max(places, default=1), count=5)
    parts = _frame(axis)
    for mark in epochs.ticks:
        at = {"x": f"{epochs.at(mark)}%", "y": _PANEL_HEIGHT + 18}
        parts.append(element("text", f"{mark:g}", text_anchor="middle", **at))
    bands: list[Markup] = []
    means: list[Markup] = []
    for line in lines:
        key = {"class_": f"series {line.css}", "data_series": line.series}
        upper = [f"{epochs.at(epoch)},{round(100 - axis.at(high), 2)}" for epoch, _, _, high in line.points]
        lower = [f"{epochs.at(epoch)},{round(100 - axis.at(low), 2)}" for epoch, _, low, _ in line.points]
        bands.append(element("polygon", points=" ".join(upper + lower[::-1]), **key))
        path = [(epoch, value) for epoch, value, _, _ in line.points]
        title = element("title", line.name)
        means.extend(element("polyline", title, points=" ".join(p), **key) for p in pieces(path, epochs, axis))
    parts.append(stretched([*bands, *means], height=_PANEL_HEIGHT))
    return svg(parts, height=_PANEL_HEIGHT + 22, css="curves", label=label)


def scatter(points: Sequence[Point], label: str) -> Markup:
    """Estimate against measured accuracy, one dot for each source prompt."""
    axis = accuracy_axis([point.measured for point in points], count=4)
    low, high = min(point.score for point in points), max(point.score for point in points)
    room = 0.06 * (high - low) or max(abs(high), 1.0)
    scores = Axis(low - room, high + room, ())
    parts = _frame(axis)
    for value, anchor in ((low, "start"), (high, "end")) if high > low else ((low, "middle"),):
        x = f"{scores.at(value)}%"
        parts.append(element("text", _score(value), x=x, y=_PANEL_HEIGHT + 18, text_anchor=anchor))
    for point in points:
        says = f"{point.source}: estimate {_score(point.score)}, measured {wording.percent(point.measured)}"
        place = {"cx": f"{scores.at(point.score)}%", "cy": height_of(axis, point.measured, _PANEL_HEIGHT)}
        parts.append(element("circle", element("title", says), r=4.5, class_="dot", **place))
    return svg(parts, height=_PANEL_HEIGHT + 22, css="cloud", label=label)


def heatmap(values: Mapping[tuple[str, str], float], *, what: str) -> Markup:
    """Differences of accuracies by source (rows) and target (columns), both sorted by their mean, the best first.

    Args:
        values: difference of each measured (source, target), in [-1, 1].
        what: a word for the values, read aloud and shown under the pointer.
    """
    sources, targets = (_sorted(values, side) for side in (0, 1))
    width, height = _CELL
    largest = max(map(abs, values.values()), default=0.0)
    rows, columns = [shorten(name) for name in sources], [shorten(name) for name in targets]
    margin = LETTER_WIDTH * max(map(cell_len, [*rows, "mean"]), default=0) + 12
    slant = math.ceil(0.71 * LETTER_WIDTH * max(map(cell_len, columns), default=0)) + 24

    parts = []
    for row, source in enumerate(sources):
        title = element("title", source)
        parts.append(element("text", rows[row], title, x=-10, y=row * height + height / 2 + 4, text_anchor="end"))
        for column, target in enumerate(targets):
            value = values.get((source, target))
            says = f"{source} on {target}: {wording.points(value)} {what}"
            parts.append(_heat(value, says, column, row, largest))
        average = _mean(value for (name, _), value in values.items() if name == source)
        parts.append(_margin(average, len(targets), row * height))
    for column, target in enumerate(targets):
        place = f"translate({column * width + width / 2 + 3} -8) rotate(-45)"
        parts.append(element("text", columns[column], element("title", target), transform=place))
        average = _mean(value for (_, name), value in values.items() if name == target)
        parts.append(_margin(average, column, len(sources) * height + 6))
    edge = {"y": len(sources) * height + 6 + height / 2 + 4, "text_anchor": "end"}
    parts.append(element("text", "mean", x=-10, **edge))
    corner = f"translate({len(targets) * width + width / 2 + 3} -8) rotate(-45)"
    parts.append(element("text", "mean", transform=corner))

    whole = margin + (len(targets) + 1) * width + slant // 2, slant + (len(sources) + 1) * height + 10
    return element(
        "svg",
        element("g", *parts, transform=f"translate({margin} {slant})"),
        width=whole[0],
        height=whole[1],
        viewBox=f"0 0 {whole[0]} {whole[1]}",
        class_="heat",
        role="img",
        aria_label=f"Heat map of {len(sources)} sources on {len(targets)} targets: {what}.",
    )


def _frame(axis: Axis) -> list[Markup]:
    parts = []
    for mark in axis.ticks:
        y = height_of(axis, mark, _PANEL_HEIGHT)
        parts.append(element("line", x1="0%", x2="100%", y1=y, y2=y, class_="grid"))
        parts.append(element("text", tick(mark), x=-8, y=y + 4, text_anchor="end"))
    return parts


def _heat(value: float | None, says: str, column: int, row: int, largest: float) -> Markup:
    width, height = _CELL
    x, y = column * width, row * height
    middle = {"x": x + (width - 2) / 2, "y": y + height / 2 + 4, "text_anchor": "middle"}
    box = {"x": x, "y": y, "width": width - 2, "height": height - 2, "rx": 3}
    if value is None:
        return element("rect", class_="ground", **box)
    share = abs(value) / largest if largest else 0.0
    opacity = round(_FAINTEST + (_STRONGEST - _FAINTEST) * share, 3)
    css = "gain" if value >= 0 else "loss"
    drawn = element("rect", element("title", says), class_=css, fill_opacity=opacity, **box)
    return drawn + element("text", wording.points(value), class_="count", **middle)


def _margin(value: float | None, column: int, y: float) -> Markup:
    width, height = _CELL
    place = {"x": column * width + (width - 2) / 2, "y": y + height / 2 + 4, "text_anchor": "middle"}
    return element("text", wording.points(value), **place)


def _sorted(values: Mapping[tuple[str, str], float], side: int) -> list[str]:
    """The names on one side, that with the highest mean first."""
    groups: dict[str, list[float]] = {}
    for place, value in values.items():
        groups.setdefault(place[side], []).append(value)
    return sorted(groups, key=lambda name: -sum(groups[name]) / len(groups[name]))


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None


def _score(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")
