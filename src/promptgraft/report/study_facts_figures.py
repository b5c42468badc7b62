"""The figures of a study of facts, as SVG: pure functions of numbers and names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from promptgraft.report import wording
from promptgraft.report.svg import accuracy_axis, element, height_of, levels, round_axis, series_css, svg

_HEIGHT = 190
_ROOM = 8  # percent of the width beside the first and the last step


@dataclass(frozen=True)
class Dot:
    """Prompts carried from one model to another: how far their relations are off, and what they make it tell."""

    says: str
    loss: float
    accuracy: float
    css: str


def cloud(dots: Sequence[Dot], label: str) -> Markup:
    """Matching loss from left to right, accuracy upwards."""
    y, x = accuracy_axis([dot.accuracy for dot in dots], count=4), round_axis([dot.loss for dot in dots], count=5)
    parts = levels(y, _HEIGHT)
    for mark in x.ticks:
        at = {"x": f"{x.at(mark)}%", "y": _HEIGHT + 18}
        parts.append(element("text", f"{mark:g}", text_anchor="middle", **at))
    for dot in dots:
        says = f"{dot.says}: matching loss {dot.loss:.3f}, {wording.percent(dot.accuracy)}"
        place = {"cx": f"{x.at(dot.loss)}%", "cy": height_of(y, dot.accuracy, _HEIGHT)}
        parts.append(element("circle", element("title", says), r=4.5, class_=f"dot series {dot.css}", **place))
    return svg(parts, height=_HEIGHT + 22, css="cloud", label=label)


def steps(names: Sequence[str], lines: Mapping[str, Sequence[float | None]], label: str) -> Markup:
    """Accuracies at named steps from left to right, a line of dots for each entry; what is not known has none."""
    y = accuracy_axis([value for values in lines.values() for value in values], count=4)
    parts, between = levels(y, _HEIGHT), (100 - 2 * _ROOM) / max(len(names) - 1, 1)
    places = [round(_ROOM + number * between, 2) for number in range(len(names))]
    for name, place in zip(names, places, strict=True):
        parts.append(element("text", name, x=f"{place}%", y=_HEIGHT + 18, text_anchor="middle"))
    for number, (line, values) in enumerate(lines.items()):
        css = f"series {series_css(number)}"
        known = [
            (place, height_of(y, value, _HEIGHT), f"{line}, {name}: {wording.percent(value)}")
            for place, value, name in zip(places, values, names, strict=True)
            if value is not None
        ]
        for (start, first, _), (end, last, _) in pairwise(known):
            parts.append(element("line", x1=f"{start}%", y1=first, x2=f"{end}%", y2=last, class_=css))
        parts += [
            element("circle", element("title", says), cx=f"{place}%", cy=at, r=4.5, class_=f"dot {css}")
            for place, at, says in known
        ]
    return svg(parts, height=_HEIGHT + 22, css="cloud", label=label)
