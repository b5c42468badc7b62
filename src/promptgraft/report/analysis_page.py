"""The page of `promptgraft tune --analyse`: analysis dict -> jinja -> one self-contained HTML file."""

import json
from collections.abc import Mapping
from typing import Any

from promptgraft.report import analysis_figures as figures
from promptgraft.report.templating import render
from promptgraft.report.wording import significant


def analysis_files(analysis: Mapping[str, Any]) -> dict[str, str]:
    """The contents of `analysis.json` and `analysis.html`, by file name.

    Args:
        analysis: what `PromptWatch.analysis` returns.
    """
    document = json.dumps(analysis, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return {"analysis.json": document, "analysis.html": render_analysis(analysis)}


def render_analysis(analysis: Mapping[str, Any]) -> str:
    """Render the contents of `analysis.json` as one HTML page that needs no network and no other file."""
    return render("analysis.html.j2", _view(analysis))


def _view(analysis: Mapping[str, Any]) -> dict[str, Any]:
    adapted, kept = analysis["adapted"], analysis["kept_epoch"]
    nmi = {line["epoch"]: line["layers"] for line in analysis["nmi"]}
    cka = analysis["cka"]
    return {
        "analysis": analysis,
        "made": analysis,
        "adapted": adapted,
        "item": "image" if adapted["task"]["modality"] == "vision" else "text",
        "deep": len(cka) > 1,
        "count": len(cka),
        "kept": kept,
        "trend": _trend(nmi),
        "nmi_figure": figures.information(nmi, kept),
        "nmi_rows": [(epoch, [significant(value) for value in layers]) for epoch, layers in nmi.items()],
        "missing": _span(analysis["missing_epochs"]),
        "cka_figure": figures.similarities(cka),
        "cka_rows": [[significant(value) for value in row] for row in cka],
        "own_layer": figures.own_layer(cka),
        "provenance": provenance(analysis),
    }


def _trend(nmi: Mapping[int, list[float]]) -> dict[str, Any] | None:
    """In how many layers the information rose from the first to the last epoch measured; None where they are one."""
    first, last = min(nmi), max(nmi)
    if first == last:
        return None
    pairs = list(zip(nmi[first], nmi[last], strict=True))
    start, end = (sum(values) / len(values) for values in zip(*pairs, strict=True))
    rose = sum(after > before for before, after in pairs)
    return {
        "first": first,
        "last": last,
        "rose": rose,
        "start": significant(start),
        "end": significant(end),
    }


def _span(epochs: list[int]) -> str:
    """Epochs as a person says them: "0 to 4", "0, 1, 7"."""
    if len(epochs) > 2 and epochs == [*range(epochs[0], epochs[-1] + 1)]:
        return f"{epochs[0]} to {epochs[-1]}"
    return ", ".join(map(str, epochs))


def provenance(analysis: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What made an analysis, as names and values."""
    adapted = analysis["adapted"]
    training = adapted["training"]
    facts = {
        "command": analysis.get("command"),
        "data": adapted["task"]["fingerprint"],
        "weights": adapted["backbone"]["weights_sha256"],
        "seed": training["seed"],
        "recipe": json.dumps(training["recipe"], ensure_ascii=False),
        "device": f"{training['device']}, {training['dtype']}",
        "versions": ", ".join(f"{name} {version}" for name, version in adapted["versions"].items()),
    }
    return [(name, str(value)) for name, value in facts.items() if value is not None]
