"""How well estimates agree with measured transfer: on each target, over all targets, and against the prompt's norm."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from promptgraft.errors import InputError
from promptgraft.study.grouping import grouped, mean_of
from promptgraft.transferability.evaluate import kendall, regret, spearman
from promptgraft.transferability.resampling import agreement_interval, paired_test
from promptgraft.transferability.track_record import TRIVIAL

_MEASURES: dict[str, Callable[[Sequence[float], Sequence[float]], float]] = {
    "kendall": kendall,
    "spearman": spearman,
    "top1_regret": partial(regret, top=1),
    "top3_regret": partial(regret, top=3),
}
_Row = Mapping[str, Any]


def agreement(estimates: Sequence[_Row]) -> list[dict[str, Any]]:
    """How well each estimator ranks the sources of each target: means over seeds against means over seeds.

    Args:
        estimates: the `estimates` of a summary.

    Returns:
        rows `backbone`, `target`, `estimator`, `method`, `n` sources, `kendall` and `spearman` x 100, `top1_regret`
        and `top3_regret` as shares; None where too few sources were measured, or all are alike.
    """
    found = []
    for group, members in grouped(_usable(estimates), lambda e: tuple(e[name] for name in _PLACE)).items():
        scores, reached = _means(members)
        row = dict(zip(_PLACE, group, strict=True)) | {"n": len(scores)}
        pair = list(scores.values()), [reached[source] for source in scores]
        found.append(row | {name: _or_none(measure, *pair) for name, measure in _MEASURES.items()})
    return found


def overall(estimates: Sequence[_Row]) -> list[dict[str, Any]]:
    """Each estimator's mean agreement over targets with its interval, and what it is better than the norm by.

    Args:
        estimates: the `estimates` of a summary.

    Returns:
        rows `backbone`, `method`, `estimator`, `targets`; `kendall`, `low` and `high` from `agreement_interval`;
        `against`, `difference` and `p` from `paired_test` against `TRIVIAL`, None where that was not asked for. All
        numbers are None until every target has a coefficient.
    """
    usable = _usable(estimates)
    of_target = {tuple(row[name] for name in _PLACE): row["kendall"] for row in agreement(usable)}
    found = []
    for (backbone, method, estimator), members in grouped(
        usable, lambda e: (e["backbone"], e["method"], e["estimator"])
    ).items():
        targets = grouped(members, lambda e: e["target"])
        row = {"backbone": backbone, "method": method, "estimator": estimator, "targets": len(targets)}
        ours, theirs = (
            [of_target.get((backbone, target, name, method)) for target in targets] for name in (estimator, TRIVIAL)
        )
        known, other = ([value for value in values if value is not None] for values in (ours, theirs))
        complete = len(known) == len(targets)
        row |= dict(zip(("kendall", "low", "high"), _interval(targets) if complete else (None,) * 3, strict=True))
        paired = complete and len(other) == len(targets) and estimator != TRIVIAL
        row |= {"against": TRIVIAL if paired else None}
        row |= dict(zip(("difference", "p"), paired_test(known, other) if paired else (None, None), strict=True))
        found.append(row)
    return found


_PLACE = ("backbone", "target", "estimator", "method")


def _usable(estimates: Sequence[_Row]) -> list[_Row]:
    return [e for e in estimates if e["score"] is not None and e["measured"] is not None]


def _means(estimates: Sequence[_Row]) -> tuple[dict[str, float], dict[str, float]]:
    """Score over seeds, and measured accuracy, of each source."""
    sources = grouped(estimates, lambda e: e["source"])
    scores = {source: float(np.mean([e["score"] for e in same])) for source, same in sources.items()}
    return scores, {source: float(same[0]["measured"]) for source, same in sources.items()}


def _interval(targets: Mapping[str, Sequence[_Row]]) -> tuple[float | None, ...]:
    """Mean Kendall coefficient with its interval, over the targets and sources of one estimator."""
    pairs = [_means(own) for own in targets.values()]
    sources = list(dict.fromkeys(source for scores, _ in pairs for source in scores))
    estimated, measured = (
        [[pair[side].get(source, np.nan) for source in sources] for pair in pairs] for side in (0, 1)
    )
    value, low, high = agreement_interval(estimated, measured)
    return (mean_of([value]), low, high)


def _or_none(
    measure: Callable[[Sequence[float], Sequence[float]], float], scores: Sequence[float], reached: Sequence[float]
) -> float | None:
    try:
        return measure(scores, reached)
    except InputError:  # too few, or all alike
        return None
