"""The report of `promptgraft adapt`: result dict -> jinja -> one self-contained HTML file."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptgraft.files import write_atomic
from promptgraft.report import figures, wording
from promptgraft.report.templating import render
from promptgraft.report.thumbnail import thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image

_RANKED = 30  # prompts listed on the page; result.json has them all
_PAIRS = 8  # most frequent confusions named beside the matrix
_TEXT_LETTERS = 400


def write_report(result: Mapping[str, Any], path: Path, *, images: "Mapping[str, Image] | None" = None) -> Path:
    """Write the report of one adaptation.

    Args:
        result: the content of `result.json`.
        path: the file to write, or an existing folder that gets a `report.html`.
        images: pictures by the `name` of an entry of `errors`, shown where the entry has no thumbnail of its own.

    Returns:
        the file that was written.
    """
    target = path / "report.html" if path.is_dir() else path
    pictures = images or {}
    errors = [
        {**error, "thumbnail": thumbnail(pictures[error["name"]])}
        if not error.get("thumbnail") and error["name"] in pictures
        else error
        for error in result.get("errors") or []
    ]
    write_atomic(target, render_page({**result, "errors": errors}))
    return target


def render_page(result: Mapping[str, Any]) -> str:
    """Render the content of `result.json` as one HTML page that needs no network and no other file."""
    return render("adapt.html.j2", _view(result))


def _view(result: Mapping[str, Any]) -> dict[str, Any]:
    candidates = wording.by_accuracy(result.get("candidates") or [])
    linear = (result.get("linear_probe") or {}).get("val_accuracy")
    reference = wording.score(linear)
    rows, dot_axis = figures.dot_plot(candidates, reference)
    curves, curve_figure = figures.learning_curves(candidates, reference)
    vision = result["task"].get("modality") != "text"
    return {
        "result": result,
        "made": result,
        "task": result["task"],
        "item": "image" if vision else "text",
        "vision": vision,
        "winner": next((candidate for candidate in candidates if candidate.get("winner")), None),
        "candidates": candidates,
        "linear": linear,
        "gauge": figures.interval(result.get("test_accuracy"), "Test accuracy on a scale from 0 to 100 %"),
        "dot_rows": rows,
        "dot_axis": dot_axis,
        "curves": curves,
        "curve_figure": curve_figure,
        "ranking": _ranking(result.get("ranking") or [], candidates),
        "confusion": _confusion(result.get("confusion")),
        "errors": _errors(result.get("errors") or []),
        "folder": str(result.get("out") or "FOLDER"),
        "new": wording.new_inputs(result["task"].get("modality")),
        "provenance": _provenance(result),
    }


def _ranking(ranking: list[dict[str, Any]], candidates: list[dict[str, Any]]) -> dict[str, Any] | None:
    """One row per prompt and one cell per estimator, ordered by the first estimator; None without a ranking."""
    if not ranking:
        return None
    estimators = list(dict.fromkeys(str(row["estimator"]) for row in ranking))
    scores = {
        estimator: [wording.finite(row["score"]) for row in ranking if row["estimator"] == estimator]
        for estimator in estimators
    }
    tried: dict[str, Any] = {}
    for candidate in candidates:  # the best first, so the first one of a source stays
        if candidate.get("source"):
            tried.setdefault(str(candidate["source"]), candidate)
    cells: dict[str, dict[str, Any]] = {}
    for row in ranking:
        estimator, value = str(row["estimator"]), wording.finite(row["score"])
        known = [score for score in scores[estimator] if score is not None]
        place = None
        if value is not None:
            place = (value - min(known)) / (max(known) - min(known)) if max(known) > min(known) else 0.5
        text = wording.DASH if value is None else f"{value:.3g}".replace("-", "−")
        cells.setdefault(str(row["prompt"]), {})[estimator] = {
            "rank": row["rank"],
            "score": text,
            "strip": figures.strip(place),
        }

    def order(prompt: str) -> tuple[float, ...]:
        ranks = (wording.finite(cells[prompt].get(estimator, {}).get("rank")) for estimator in estimators)
        return tuple(float("inf") if rank is None else rank for rank in ranks)

    prompts = sorted(cells, key=order)
    return {
        "estimators": estimators,
        "rows": [{"prompt": p, "cells": cells[p], "tried": tried.get(p)} for p in prompts[:_RANKED]],
        "hidden": max(0, len(prompts) - _RANKED),
        "tried": any(prompt in tried for prompt in prompts),
    }


def _confusion(confusion: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The matrix as a figure, its most frequent mistakes, and a table by class; None without test items."""
    matrix = (confusion or {}).get("matrix") or []
    classes = [str(name) for name in (confusion or {}).get("classes") or []]
    total = sum(sum(counts) for counts in matrix)
    if not total:
        return None
    mistakes = sorted(
        (
            (matrix[row][column], row, column)
            for row in range(len(matrix))
            for column in range(len(matrix))
            if row != column
        ),
        key=lambda mistake: -mistake[0],
    )
    by_class = []
    for row, counts in enumerate(matrix):
        wrong = [0 if column == row else number for column, number in enumerate(counts)]
        by_class.append(
            {
                "name": classes[row],
                "n": sum(counts),
                "right": counts[row],
                "recall": counts[row] / sum(counts) if sum(counts) else None,
                "taken_for": classes[wrong.index(max(wrong))] if any(wrong) else None,
            }
        )
    return {
        "figure": figures.confusion(matrix, classes),
        "total": total,
        "wrong": sum(number for number, _, _ in mistakes),
        "pairs": [(classes[row], classes[column], number) for number, row, column in mistakes[:_PAIRS] if number],
        "by_class": by_class,
    }


def _errors(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Wrongly classified items, the most confident mistake first; only embedded pictures are let through."""
    shown = []
    for error in sorted(errors, key=lambda error: -(wording.finite(error.get("probability")) or 0.0)):
        picture = str(error.get("thumbnail") or "")
        text = str(error.get("text") or "")
        shortened = text if len(text) <= _TEXT_LETTERS else text[:_TEXT_LETTERS].rstrip() + " …"
        shown.append({**error, "thumbnail": picture if picture.startswith("data:image/") else None, "text": shortened})
    return shown


def _provenance(result: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Everything that made the result, as titled lists of names and values."""
    budget = result.get("budget_seconds")
    run = {
        "command": result.get("command"),
        "created": result.get("created"),
        "seed": result.get("seed"),
        "budget": "none" if budget is None else wording.duration(budget),
        "took": wording.duration(result.get("seconds")),
        "device": result.get("device"),
        "precision": result.get("dtype"),
    }
    task = {key: value for key, value in result["task"].items() if key not in ("classes", "notes")}
    sections = {
        "Run": run,
        "Data": {**task, "classes": ", ".join(map(str, result["task"].get("classes") or []))},
        "Backbone": result.get("backbone") or {},
        "Recipe": result.get("recipe") or {},
        "Versions": {"promptgraft": result.get("promptgraft"), **(result.get("versions") or {})},
    }
    return [(title, list(_flat(content))) for title, content in sections.items() if content]


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
