"""Methods that take several sources together: what they weigh each by, and what they gain over other methods.

The maps are those of Zhang et al., "Learning Optimal Prompt Ensemble" (https://arxiv.org/abs/2504.12311): weights of
sources on targets (figure 4), and cosines of the gradients of every two sources on one target (figure 3).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from promptgraft.report import wording
from promptgraft.report.study_grid import Row, distinct, grouped, listed
from promptgraft.report.study_heat import Heat, matrix
from promptgraft.report.study_sources import comparisons, relative
from promptgraft.report.study_table import Cell, Table, marked_cells

OWN = "target’s own prompt"
"""What has the rest where the weights of the sources do not sum to 1 (ATTEMPT)."""
_NOTHING = 1e-6


def together_panels(study: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each backbone the maps of the weights, those of the gradients, and the table of gains."""
    rows = listed(study, "weights")
    backbones = dict.fromkeys([*distinct(rows, "backbone"), *distinct(_together(study), "backbone")])
    return {backbone: _panel(study, backbone) for backbone in backbones}


def together_tables(study: Mapping[str, Any], backbone: str) -> Iterator[Table]:
    """The same for a paper: gains, and the weights by each method."""
    if (table := _gains(study, backbone)) is not None:
        yield table
    for (method,), rows in grouped(_weighed(study, backbone), "method").items():
        sources, weights = _by_target(rows)
        lines, shares = _shares(sources, weights)
        columns = [[shares.get((source, target)) for source in lines] for target in weights]
        written = [marked_cells(column, _hundredths, max) for column in columns]
        filled = [[Cell(source), *cells] for source, *cells in zip(lines, *written, strict=True)]
        note = "Weights in %, mean over seeds; the largest of each target in bold."
        yield Table(f"Weights of the sources by {method} on {backbone}", note, 1, ["Source", *weights], filled)


def weight_map(sources: Sequence[str], weights: Mapping[str, Sequence[float | None]], method: str) -> Markup:
    """Weights of M sources, downwards, on targets, to the right, in percent.

    Args:
        sources: their names.
        weights: target -> M weights, None where a source was not to be had.
        method: that found them.
    """
    lines, shares = _shares(sources, weights)
    cells = {(s, t): Heat(value, f"{s} on {t}: {_hundredths(value)} %") for (s, t), value in shares.items()}
    label = f"Weights of {len(sources)} sources on {len(weights)} targets by {method}."
    return matrix(lines, list(weights), cells, write=_hundredths, label=label)


def cosine_map(names: Sequence[str], cosines: Sequence[Sequence[float | None]], label: str) -> Markup:
    """Cosines (M, M) of the gradients of M sources, as a map."""
    cells = {
        (name, other): Heat(value, f"{name} and {other}: {_coefficient(value)}")
        for name, line in zip(names, cosines, strict=True)
        for other, number in zip(names, line, strict=True)
        if (value := wording.finite(number)) is not None
    }
    return matrix(names, names, cells, write=_coefficient, label=label)


def mean_cosine(cosines: Sequence[Sequence[float | None]]) -> str:
    """The mean over pairs of different sources."""
    values = [
        value
        for i, line in enumerate(cosines)
        for j, number in enumerate(line)
        if i != j and (value := wording.finite(number)) is not None
    ]
    return _coefficient(sum(values) / len(values)) if values else wording.DASH


def _panel(study: Mapping[str, Any], backbone: str) -> dict[str, Any]:
    rows = _weighed(study, backbone)
    maps = []
    for (method,), here in grouped(rows, "method").items():
        maps.append({"method": method, "figure": weight_map(*_by_target(here), method)})
    gradients = {}
    for row in rows:  # they do not depend on the weights: once for each target and choice of sources
        place = (str(row["target"]), tuple(map(str, row["sources"])))
        if row.get("cosines") and place not in gradients:
            target, names = place
            label = f"Cosines of the gradients of {len(names)} sources on {target}."
            figure = cosine_map(names, row["cosines"], label)
            told = {"target": target, "method": row["method"], "mean": mean_cosine(row["cosines"])}
            gradients[place] = told | {"figure": figure}
    return {"gains": _gains(study, backbone), "maps": maps, "gradients": list(gradients.values())}


def _gains(study: Mapping[str, Any], backbone: str) -> Table | None:
    rows = [row for row in _together(study) if str(row["backbone"]) == backbone]
    if not rows:
        return None
    lines = []
    for row in rows:
        names = [Cell(str(row["method"])), Cell(str(row["against"]))]
        numbers = [
            f"{row.get('above')} of {row.get('pairs')}",
            relative(row.get("gain")),
            wording.p_value(row.get("p")),
        ]
        lines.append([*names, *map(Cell, numbers)])
    note = (
        "Targets on which a method of several sources is above another method, the mean over targets of the relative"
        " gain, and p of the one-sided sign-flip test over targets."
    )
    heads = ["Method", "Against", "Better on", "Mean gain", "p"]
    return Table(f"Methods of several sources on {backbone}", note, 2, heads, lines)


def _together(study: Mapping[str, Any]) -> list[Row]:
    """The comparisons of methods of several sources with those of none, and with each that stands before them."""
    places = {name: place for place, name in enumerate(distinct(listed(study, "rows"), "method"))}
    rows = [row for row in comparisons(study) if row.get("together") and not row.get("same_source")]
    several = {row["method"] for row in rows}
    return [
        row
        for row in rows
        if row["against"] not in several or places.get(str(row["against"]), 0) < places.get(str(row["method"]), 0)
    ]


def _weighed(study: Mapping[str, Any], backbone: str) -> list[Row]:
    return [row for row in listed(study, "weights") if str(row["backbone"]) == backbone]


def _by_target(rows: Iterable[Row]) -> tuple[list[str], dict[str, list[float | None]]]:
    """All sources, each behind the one that it follows somewhere, and their weights on each target."""
    known = {str(row["target"]): dict(zip(map(str, row["sources"]), row["weights"], strict=True)) for row in rows}
    sources: list[str] = []
    for names in map(list, known.values()):  # each target lacks its own
        for place, name in enumerate(names):
            if name not in sources:
                sources.insert(sources.index(names[place - 1]) + 1 if place else 0, name)
    return sources, {target: [own.get(name) for name in sources] for target, own in known.items()}


def _shares(
    sources: Sequence[str], weights: Mapping[str, Sequence[float | None]]
) -> tuple[list[str], dict[tuple[str, str], float]]:
    """Names of the rows, and what is known by row and target; the last row is what the sources leave to the target."""
    shares: dict[tuple[str, str], float] = {}
    for target, column in weights.items():
        own = {
            name: value for name, v in zip(sources, column, strict=True) if (value := wording.finite(v)) is not None
        }
        shares |= {(name, target): value for name, value in own.items()}
        if own and (rest := 1 - sum(own.values())) > _NOTHING:
            shares[OWN, target] = rest
    return [*sources, *([OWN] if any(name == OWN for name, _ in shares) else [])], shares


def _hundredths(value: float | None) -> str:
    return wording.DASH if value is None else f"{100 * value:.0f}"


def _coefficient(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")
