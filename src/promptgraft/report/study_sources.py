"""What source prompts gain over other methods: a panel with table, maps and scatters for each backbone and B."""

from collections.abc import Mapping, Sequence
from typing import Any

from promptgraft.report import study_figures as figures
from promptgraft.report import wording
from promptgraft.report.study_grid import Row, distinct, grouped, listed, mean
from promptgraft.report.study_heat import Heat, heatmap

OTHER_SOURCES = "the mean of all sources"


def source_panels(study: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """For each backbone a panel for each method that others are compared with, those without sources first.

    Where a method has sources and there is nothing to compare it with, they are compared with their own mean.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for (backbone, against), rows in grouped(comparisons(study), "backbone", "against").items():
        gained = {
            str(row["method"]): row
            for row in listed(study, "gains")
            if (str(row["backbone"]), str(row["against"])) == (backbone, against)
        }
        panel = _panel(against, rows, gained)
        if panel["maps"]:
            found.setdefault(backbone, []).append(panel)
    order = {name: place for place, name in enumerate(distinct(listed(study, "rows"), "method"))}
    for panels in found.values():
        panels.sort(key=lambda panel: (panel["same_source"], order.get(panel["against"], len(order))))
    rows = [row for row in listed(study, "rows") if alone(row) and wording.finite(row.get("mean")) is not None]
    for (backbone,), here in grouped(rows, "backbone").items():
        if backbone not in found:
            found[backbone] = [{"against": OTHER_SOURCES, "lines": [], "maps": _own_maps(here)}]
    return found


def alone(row: Row) -> bool:
    """Whether a row is of one source, not of several together, nor of none."""
    return bool(row.get("source")) and not row.get("together")


def comparisons(study: Mapping[str, Any]) -> list[Row]:
    """The comparisons of the study that hold a pair, methods with sources first."""
    return sorted(
        (row for row in listed(study, "comparisons") if row.get("cells")), key=lambda row: not row.get("sourced")
    )


def share_of(row: Row) -> str:
    """The share of pairs that are above B with its interval: "70 % (55 to 84)"."""
    share = wording.finite(row.get("share"))
    if share is None:
        return wording.DASH
    low, high = wording.score(row, "low"), wording.score(row, "high")
    told = "" if low is None or high is None else f" ({100 * low:.0f} to {100 * high:.0f})"
    return f"{100 * share:.0f}{wording.NBSP}%{told}"


def relative(value: object) -> str:
    """A relative gain in percent: "+3.2 %"."""
    return wording.DASH if wording.finite(value) is None else f"{wording.points(value)}{wording.NBSP}%"


def correlation_of(row: Row) -> str:
    """Spearman's coefficient with its interval: "43 (−12 to 80)"."""
    numbers = [wording.finite(row.get(name)) for name in ("correlation", "low", "high")]
    value, low, high = ("" if number is None else f"{number:.0f}".replace("-", "−") for number in numbers)
    return (f"{value} ({low} to {high})" if low and high else value) or wording.DASH


def _panel(against: str, rows: Sequence[Row], gained: Mapping[str, Row]) -> dict[str, Any]:
    controls = {
        (str(row["method"]), str(cell["target"])): heat
        for row in rows
        if not row.get("sourced")
        for cell in row["cells"]
        if (heat := _heat(cell, str(row["method"]), against)) is not None
    }
    maps = []
    for row in rows:
        cells = {
            (str(cell["source"]), str(cell["target"])): heat
            for cell in row["cells"]
            if row.get("sourced") and (heat := _heat(cell, str(cell["source"]), against)) is not None
        }
        if cells:
            figure = heatmap(cells, controls, label=f"{row['method']} against {against}")
            step = gained.get(str(row["method"]), {})
            scatter = _scatter(step) if step.get("targets") else None
            maps.append({"method": row["method"], "figure": figure, "scatter": scatter})
    return {
        "against": against,
        "same_source": any(row.get("same_source") for row in rows),
        "lines": [{**row, "told": share_of(row), "gained": relative(row.get("gain"))} for row in rows],
        "maps": maps,
    }


def _heat(cell: Row, name: str, against: str) -> Heat | None:
    value = wording.finite(cell.get("value"))
    if value is None:
        return None
    reached = f"{wording.percent(cell.get('accuracy'))} against {wording.percent(cell.get('reference'))} of {against}"
    return Heat(value, f"{name} on {cell['target']}: {relative(value)}, {reached}")


def _own_maps(rows: Sequence[Row]) -> list[dict[str, Any]]:
    maps = []
    for (method,), here in grouped(rows, "method").items():
        of_target = {name: mean(row["mean"] for row in some) for (name,), some in grouped(here, "target").items()}
        cells = {}
        for row in here:
            target, source = str(row["target"]), str(row["source"])
            cell = {"target": target, "accuracy": row["mean"], "reference": of_target[target]}
            cell["value"] = row["mean"] / of_target[target] - 1 if of_target[target] else None
            heat = _heat(cell, source, OTHER_SOURCES)
            if heat is not None:
                cells[source, target] = heat
        figure = heatmap(cells, {}, label=f"{method} against {OTHER_SOURCES}")
        maps.append({"method": method, "figure": figure})
    return maps


def _scatter(row: Row) -> dict[str, Any]:
    dots = []
    for place in row["targets"]:
        x, y, low, high = (wording.finite(place.get(name)) for name in ("x", "y", "low", "high"))
        if x is not None and y is not None and low is not None and high is not None:
            says = f"{row['against']} {relative(x)} over {row['baseline']}; {row['method']} {relative(y)} over "
            says += f"{row['against']}, {relative(low)} to {relative(high)} by source"
            dots.append(figures.Gain(str(place["target"]), x, y, low, high, says))
    label = f"Gain of {row['method']} over {row['against']} by that of {row['against']} over {row['baseline']}"
    figure = figures.gains(dots, f"{label}: {len(dots)} targets.")
    return {"baseline": row["baseline"], "told": correlation_of(row), "figure": figure}
