"""The figures of a study's report, as SVG: pure functions of numbers and names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from promptgraft.report import wording
from promptgraft.report.svg import (
    Axis,
    accuracy_axis,
    element,
    epoch_axis,
    height_of,
    levels,
    pct,
    pieces,
    round_axis,
    stretched,
    svg,
    tick,
)

_PANEL_HEIGHT = 150


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


@dataclass(frozen=True)
class Gain:
    """A target: the reference's gain over the baseline (x), and a method's over the reference (y) with its range."""

    target: str
    x: float
    y: float
    low: float
    high: float
    says: str


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
    parts = levels(axis, _PANEL_HEIGHT)
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
    parts = levels(axis, _PANEL_HEIGHT)
    for value, anchor in ((low, "start"), (high, "end")) if high > low else ((low, "middle"),):
        x = f"{scores.at(value)}%"
        parts.append(element("text", _score(value), x=x, y=_PANEL_HEIGHT + 18, text_anchor=anchor))
    for point in points:
        says = f"{point.source}: estimate {_score(point.score)}, measured {wording.percent(point.measured)}"
        place = {"cx": f"{scores.at(point.score)}%", "cy": height_of(axis, point.measured, _PANEL_HEIGHT)}
        parts.append(element("circle", element("title", says), r=4.5, class_="dot", **place))
    return svg(parts, height=_PANEL_HEIGHT + 22, css="cloud", label=label)


def gains(dots: Sequence[Gain], label: str) -> Markup:
    """One dot for each target at its two relative gains, with a whisker over sources."""
    x = round_axis([dot.x for dot in dots], count=4)
    y = round_axis([value for dot in dots for value in (dot.low, dot.high)], count=4)
    parts = []
    for mark in y.ticks:
        at = height_of(y, mark, _PANEL_HEIGHT)
        css = "grid zero" if mark == 0 else "grid"
        parts.append(element("line", x1="0%", x2="100%", y1=at, y2=at, class_=css))
        parts.append(element("text", _gain_tick(mark), x=-8, y=at + 4, text_anchor="end"))
    for mark in x.ticks:
        at_x = f"{x.at(mark)}%"
        if mark == 0:
            parts.append(element("line", x1=at_x, x2=at_x, y1=0, y2=_PANEL_HEIGHT, class_="grid zero"))
        parts.append(element("text", _gain_tick(mark), x=at_x, y=_PANEL_HEIGHT + 20, text_anchor="middle"))
    for dot in dots:
        place, (top, middle, bottom) = (
            f"{x.at(dot.x)}%",
            (height_of(y, value, _PANEL_HEIGHT) for value in (dot.high, dot.y, dot.low)),
        )
        says = f"{dot.target}: {dot.says}"
        parts.append(element("line", x1=place, x2=place, y1=top, y2=bottom, class_="whisker"))
        parts.append(element("circle", element("title", says), cx=place, cy=middle, r=4.5, class_="dot"))
    return svg(parts, height=_PANEL_HEIGHT + 24, css="cloud", label=label)


def _gain_tick(share: float) -> str:
    return f"{100 * share:g}{wording.NBSP}%".replace("-", "−")


def _score(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")
