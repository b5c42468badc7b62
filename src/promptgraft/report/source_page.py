"""The page of `promptgraft transfer --analyse`: analysis dict -> jinja -> one self-contained HTML file."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from promptgraft.report import wording
from promptgraft.report.analysis_page import provenance
from promptgraft.report.study_weights import cosine_map, mean_cosine, weight_map
from promptgraft.report.svg import element
from promptgraft.report.templating import render

_SIDE, _EDGE, _RADIUS = 240, 8, 3.2  # pixels of a map, room around its points, and of a point
_TURN = 137.5  # degrees: hues of neighbouring classes lie far apart


def source_files(analysis: Mapping[str, Any]) -> dict[str, str]:
    """The contents of `analysis.json` and `analysis.html`, by file name.

    Args:
        analysis: what `SourceWatch.analysis` returns.
    """
    document = json.dumps(analysis, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return {"analysis.json": document, "analysis.html": render_sources(analysis)}


def render_sources(analysis: Mapping[str, Any]) -> str:
    """Render the contents of `analysis.json` as one HTML page that needs no network and no other file."""
    adapted, names, cosines = analysis["adapted"], analysis["sources"], analysis["cosines"]
    task, weights = adapted["task"], analysis["weights"]
    view = {
        "analysis": analysis,
        "made": analysis,
        "adapted": adapted,
        "item": "image" if task["modality"] == "vision" else "text",
        "weights": weights and weight_map(names, {str(task["name"]): weights}, str(adapted["method"])),
        "cosines": cosines and cosine_map(names, cosines, f"Cosines of the gradients of {len(names)} sources."),
        "mean_cosine": cosines and mean_cosine(cosines),
        "maps": [
            {
                "name": each["name"],
                "told": wording.percent(each["neighbours"]),
                "figure": cloud(each["points"], analysis["labels"], task["classes"], str(each["name"])),
            }
            for each in analysis["maps"]
        ],
        "legend": [(name, Markup(_colour(place))) for place, name in enumerate(task["classes"])],
        "provenance": provenance(analysis),
    }
    return render("sources.html.j2", view)


def cloud(points: Sequence[Sequence[float]], labels: Sequence[int], classes: Sequence[str], name: str) -> Markup:
    """A map of examples, as SVG: places in the unit square, a hue for each class."""
    dots = [
        element(
            "circle",
            element("title", classes[label]),
            cx=round(_EDGE + (_SIDE - 2 * _EDGE) * x, 1),
            cy=round(_EDGE + (_SIDE - 2 * _EDGE) * (1 - y), 1),
            r=_RADIUS,
            style=_colour(label),
        )
        for (x, y), label in zip(points, labels, strict=True)
    ]
    size = {"width": _SIDE, "height": _SIDE, "viewBox": f"0 0 {_SIDE} {_SIDE}"}
    label = f"Map of {len(points)} examples of {len(classes)} classes: {name}."
    return element("svg", *dots, **size, class_="examples", role="img", aria_label=label)


def _colour(label: int) -> str:
    return f"--hue: {_TURN * label % 360:.1f}"
