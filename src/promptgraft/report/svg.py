"""What the figures of all reports are drawn with.

Places along the width are percentages and everything else is in CSS pixels, so a figure fits any screen while its text
keeps its size. Colours come from the style sheet by class, so figures follow light and dark.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from promptgraft.report import wording

LETTER_WIDTH = 7  # of a letter at the figures' 12 px, in a wide font
_LABEL_LETTERS = 24
_COLOURS = 6  # .s0 to .s5 in page.css; further series repeat them with other dashes (.d0 to .d2)


@dataclass(frozen=True)
class Axis:
    """A linear axis from `low` to `high` with round tick marks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Place of a value along the axis, in percent."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def accuracy_axis(values: Sequence[float | None], *, count: int = 5) -> Axis:
    """An axis with about `count` round ticks that covers all values, kept within 0 and 1."""
    known = [value for value in values if value is not None] or [0.0, 1.0]
    low, high = min(known), max(known)
    spread = max(high - low, 0.02)
    step = next((step for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if spread / step <= count), 0.5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if first == last:
        first, last = first - 1, last + 1
    first, last = max(first, 0), min(last, round(1 / step))
    return Axis(first * step, last * step, tuple(round(index * step, 6) for index in range(first, last + 1)))


def epoch_axis(first: int, last: int, *, count: int = 8) -> Axis:
    """An axis of whole epochs with at most `count` steps between round ticks."""
    last = max(last, first + 1)
    step = next(10**k * m for k in range(9) for m in (1, 2, 5) if (last - first) / (10**k * m) <= count)
    return Axis(first, last, tuple(float(epoch) for epoch in range(math.ceil(first / step) * step, last + 1, step)))


def round_axis(values: Sequence[float], *, count: int = 4) -> Axis:
    """An axis that covers zero and all values, with at most `count` steps between round ticks, or one more."""
    low, high = min([0.0, *values]), max([0.0, *values])
    spread = max(high - low, 0.01)
    exact = 10.0 ** math.floor(math.log10(spread / count))
    step = next(exact * m for m in (1, 2, 5, 10) if spread / (exact * m) <= count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return Axis(first * step, last * step, tuple(round(index * step, 9) for index in range(first, last + 1)))


def series_css(index: int) -> str:
    """The colour and dash classes of the `index`-th line of a figure."""
    return f"s{index % _COLOURS} d{index // _COLOURS % 3}"


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """Write one element: `class_` as class, other underscores as hyphens; what is not markup is escaped."""
    written = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(tag, written, Markup("").join(children))


def svg(parts: Sequence[Markup], *, height: int | str, css: str, label: str | None = None) -> Markup:
    """A drawing as wide as its place; one without a label is left out by screen readers."""
    spoken = {"role": "img", "aria_label": label} if label else {"aria_hidden": "true"}
    return element("svg", *parts, width="100%", height=height, class_=css, **spoken)


def stretched(parts: Sequence[Markup], *, height: int) -> Markup:
    """A part of a drawing with coordinates from 0 to 100 in both directions, y downwards."""
    return element("svg", *parts, viewBox="0 0 100 100", preserveAspectRatio="none", width="100%", height=height)


def pieces(path: Sequence[tuple[float, float | None]], x: Axis, y: Axis) -> list[list[str]]:
    """The polylines of one line in a 100 x 100 box: a missing value breaks the line."""
    found: list[list[str]] = [[]]
    for place, value in path:
        if value is not None:
            found[-1].append(f"{x.at(place)},{round(100 - y.at(value), 2)}")
        elif found[-1]:
            found.append([])
    return [piece for piece in found if len(piece) > 1]


def height_of(axis: Axis, value: float, height: int) -> float:
    """Distance of a value from the upper edge of a figure `height` pixels high."""
    return round(height * (1 - axis.at(value) / 100), 2)


def pct(share: float) -> str:
    """A share of the width."""
    return f"{round(100 * share, 2)}%"


def tick(share: float) -> str:
    """What stands at a tick of an accuracy axis."""
    return f"{100 * share:g}{wording.NBSP}%"


def levels(axis: Axis, height: int, says: Callable[[float], str] = tick) -> list[Markup]:
    """A line across the figure at each tick of its upright axis, and left of it what `says` makes of it."""
    parts = []
    for mark in axis.ticks:
        y = height_of(axis, mark, height)
        parts.append(element("line", x1="0%", x2="100%", y1=y, y2=y, class_="grid"))
        parts.append(element("text", says(mark), x=-8, y=y + 4, text_anchor="end"))
    return parts


def shorten(name: str) -> str:
    """A name that fits beside a figure."""
    return name if len(name) <= _LABEL_LETTERS else name[: _LABEL_LETTERS - 1].rstrip() + "…"
