"""How cost grows with images, tokens, prompt length, sources and the size of a library, ours beside the baseline.

    python benchmarks/growth.py                  measures, prints, writes growth.json beside this file and
                                                 docs/growth.svg
    python benchmarks/growth.py --axis tokens    measures one of the things anew, and keeps the others
    python benchmarks/growth.py --draw           only prints and draws what growth.json holds

But for prototypes, models are smaller than those of `promptgraft bench`, so that five sizes of six things take ten
minutes. The exponent is the slope of a straight line through the points of both axes' logarithms: 1 is proportional.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from promptgraft.bench.base import Row
from promptgraft.bench.circumstances import circumstances
from promptgraft.bench.frozen_features import Frozen, against_recomputing
from promptgraft.bench.library import shortlisting
from promptgraft.bench.modality_gap import by_cdist, gap_row
from promptgraft.bench.prototypes import against_forward
from promptgraft.bench.training_step import Model, random_vit, training_step
from promptgraft.progress import progress_bar

HERE = Path(__file__).parent
RESULT, FIGURE = HERE / "growth.json", HERE.parent / "docs" / "growth.svg"

SMALL = Model(192, 6, 3, 8, 3)


@dataclass(frozen=True)
class Axis:
    """What grows: its name, at what it is measured and what is timed there."""

    name: str
    work: str
    values: tuple[int, ...]
    measure: Callable[[int], Row]


def _tokens(count: int) -> Row:
    return training_step("tokens", SMALL, layers="deep", length=50, tokens=count)


def _length(rows: int) -> Row:
    return training_step("length", SMALL, layers="deep", length=rows, tokens=26)


def _images(count: int) -> Row:
    return against_recomputing("images", Frozen(count, 192, 6, 3), epochs=20, rounds=1)


def _sources(count: int) -> Row:
    generator = torch.Generator().manual_seed(0)
    prompts, patches = (torch.randn(*shape, generator=generator) for shape in ((count, 100, 384), (2000, 384)))
    return gap_row("sources", "Algorithm 1, cdist", by_cdist, 3, prompts, patches, epochs=5, rounds=3)


def _prototypes(images: int) -> Row:
    return against_forward("prototypes", random_vit(384, 12, 6), images, 20, side=80)


AXES = (
    Axis("images", "a grid of 20 heads, 20 epochs", (25, 50, 100, 200, 400), _images),
    Axis("tokens", "a training step, deep, P = 50", (10, 26, 50, 101, 197), _tokens),
    Axis("prompt length", "a training step, deep, 26 tokens", (5, 10, 25, 50, 100), _length),
    Axis("source prompts", "their modality gaps, 2,000 patches", (1, 3, 10, 30, 100), _sources),
    Axis("images to cluster", "prototypes of 12 layers, ViT-S, P = 20", (50, 150, 500, 1500, 5000), _prototypes),
    Axis("prompts in a library", "rank --shortlist 100 by the gap", (300, 600, 1250, 2500, 5000), shortlisting),
)


def measure(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """A point for each value of each axis."""
    points = []
    where = circumstances()
    with progress_bar("points", sum(len(axis.values) for axis in axes), "point") as bar:
        for axis in axes:
            for value in axis.values:
                bar.note(f"{value} {axis.name}")
                points.append(
                    {"axis": axis.name, "work": axis.work, "value": value, **asdict(axis.measure(value)), **where}
                )
                bar.advance()
    return points


def curves(points: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Points by axis, in their order."""
    for axis in dict.fromkeys(point["axis"] for point in points):
        yield axis, [point for point in points if point["axis"] == axis]


def exponent(points: Sequence[Mapping[str, Any]], field: str) -> float:
    """The slope of log seconds over log value."""
    values, seconds = ([np.log(point[name]) for point in points] for name in ("value", field))
    return float(np.polyfit(values, seconds, 1)[0])


def table(points: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of a Markdown table: first and last point of each axis, and how cost grows between them."""
    lines = [
        "| what grows | timed | from | to | ours, s | baseline, s | ratio | exponent, ours | baseline |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for axis, own in curves(points):
        first, last = own[0], own[-1]
        seconds, baseline = (f"{first[f]:.3g} to {last[f]:.3g}" for f in ("seconds", "baseline_seconds"))
        slopes = " | ".join(f"{exponent(own, field):.2f}" for field in ("seconds", "baseline_seconds"))
        lines.append(
            f"| {axis} | {first['work']}; {first['baseline']} | {first['value']:,} | {last['value']:,} | {seconds} | "
            f"{baseline} | {first['ratio']:.1f} to {last['ratio']:.1f} | {slopes} |"
        )
    return lines


def draw(points: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Seconds over value, logarithmic axes, one small plot for each axis."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 9, "axes.titlesize": 9})
    from matplotlib import pyplot

    own = list(curves(points))
    figure, panels = pyplot.subplots(1, len(own), figsize=(3 * len(own), 3), layout="constrained")
    for panel, (axis, found) in zip(np.atleast_1d(panels), own, strict=True):
        values = [point["value"] for point in found]
        for field, label, style in (("baseline_seconds", "baseline", "s--"), ("seconds", "promptgraft", "o-")):
            panel.loglog(values, [point[field] for point in found], style, label=label, markersize=4)
        panel.set_xticks([values[0], values[-1]], [f"{values[0]:,}", f"{values[-1]:,}"], minor=False)
        panel.minorticks_off()
        panel.set(title=found[0]["work"], xlabel=axis)
        panel.grid(alpha=0.3)
    np.atleast_1d(panels)[0].set_ylabel("seconds")
    np.atleast_1d(panels)[0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--axis", choices=[axis.name for axis in AXES], help="measure this one only")
    which.add_argument("--draw", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    if not arguments.draw:
        found = measure([axis for axis in AXES if arguments.axis in (None, axis.name)])
        kept = json.loads(RESULT.read_text(encoding="utf-8")) if arguments.axis else []
        every = [*(point for point in kept if point["axis"] != arguments.axis), *found]
        order = [axis.name for axis in AXES]
        every.sort(key=lambda point: order.index(point["axis"]))
        RESULT.write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")
    points = json.loads(RESULT.read_text(encoding="utf-8"))
    draw(points, FIGURE)
    print("\n".join(table(points)))


if __name__ == "__main__":
    main()
