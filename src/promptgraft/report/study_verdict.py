"""What a study found, in plain sentences."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from promptgraft.report import wording
from promptgraft.report.study_agreement import beaten
from promptgraft.report.study_facts import facts_verdict
from promptgraft.report.study_grid import Grid, agreements, grids, mean

LEVEL = 0.05  # of the tests


def verdict(study: Mapping[str, Any]) -> str:
    """One sentence on the methods, one on the estimators where a study has some, one on each set of facts."""
    sentences = [sentence for sentence in (_methods(study), _estimators(study), facts_verdict(study)) if sentence]
    return " ".join(sentences) or _nothing(study)


def leader(found: list[Grid]) -> tuple[Grid, str] | None:
    """The method that is best on most targets, and the backbone on which its mean is highest."""
    wins = Counter({method: sum(grid.wins(method) for grid in found) for grid in found for method in grid.methods})
    if not wins.total():
        return None
    # the first of equals, so that a baseline that nothing beats leads
    places = [(grid, method) for grid in found for method in grid.methods]
    return max(places, key=lambda place: (wins[place[1]], place[0].mean(place[1]) or 0.0))


def _methods(study: Mapping[str, Any]) -> str:
    found = grids(study)
    leading = leader(found)
    if leading is None:
        return ""
    method, baseline = leading[1], study.get("baseline")
    pairs = [(grid, target) for grid in found for target in grid.targets if grid.best(target)]
    total = _places(len(pairs), several=len(found) > 1)
    if len({name for grid in found for name in grid.methods}) == 1:
        average = mean(grid.value(target, method) for grid, target in pairs)
        return f"{method} is the only method measured: mean accuracy {wording.percent(average)} over {total}."

    wins = sum(grid.wins(method) for grid in found)
    who = f"{method}, the baseline," if method == baseline else method
    tied = sum(method in grid.best(target) and len(grid.best(target)) > 1 for grid, target in pairs)
    sentence = f"{who} has the best mean accuracy on {wins} of {total}{f' ({tied} tied)' if tied else ''}"
    if baseline is None:
        return f"{sentence}."
    if method == baseline:
        rivals = [
            [row for other in grid.methods if other != baseline and (row := _row(grid, target, other))]
            for grid, target in pairs
        ]
        if not any(_p(row) is not None for rows in rivals for row in rows):
            return f"{sentence}; too few seeds to test whether the others differ from it."
        beaten = sum(any(_tested(row) > 0 for row in rows) for rows in rivals)
        return f"{sentence}; a method is better than it at p < {LEVEL} on {beaten or 'none'}."
    rows = [_row(grid, target, method) for grid, target in pairs]
    if not any(_p(row) is not None for row in rows):
        return f"{sentence}; too few seeds to test whether it differs from {baseline}."
    better, worse = (sum(_tested(row) == sign for row in rows) for sign in (1, -1))
    differs = f"it differs from {baseline} at p < {LEVEL} on {better + worse or 'none'}"
    return f"{sentence}; {differs}{f' ({worse} for the worse)' if worse else ''}."


def _estimators(study: Mapping[str, Any]) -> str:
    found = agreements(study)
    scores = {
        name: value
        for name in dict.fromkeys(name for agreement in found for name in agreement.estimators)
        if (value := mean(agreement.mean(name) for agreement in found)) is not None
    }
    if not scores:
        return ""
    best = max(scores, key=lambda name: scores[name])
    places = {(agreement.backbone, target) for agreement in found for target in agreement.targets}
    over = _places(len(places), several=len({backbone for backbone, _ in places}) > 1)
    if scores[best] <= 0:
        return f"No estimator agrees with measured transfer (mean Kendall coefficient {scores[best]:.0f} at best)."
    who = f"Of {len(scores)} estimators, {best}" if len(scores) > 1 else best
    other = beaten(study)
    beside = f"; {other} alone {scores[other]:.0f}" if other in scores and other != best else ""
    told = f"mean Kendall coefficient {scores[best]:.0f} over {over}{beside}"
    return f"{who} agrees best with measured transfer ({told})."


def _nothing(study: Mapping[str, Any]) -> str:
    states: Counter[str] = Counter()
    for counts in (study.get("counts") or {}).values():
        states.update(counts)
    if not states.total():
        return "The study has no trials."
    told = ", ".join(f"{number} {state}" for state, number in states.items() if number)
    return f"There is no accuracy to compare yet: of {_count(states.total(), 'trial')} {told}."


def _row(grid: Grid, target: str, method: str) -> Mapping[str, Any]:
    return grid.cells.get((target, method), {})


def _p(row: Mapping[str, Any]) -> float | None:
    return wording.finite(row.get("p"))


def _tested(row: Mapping[str, Any]) -> int:
    """The sign of a difference that the test finds, 0 for one that it does not."""
    p, difference = _p(row), wording.finite(row.get("difference"))
    if p is None or difference is None or p >= LEVEL:
        return 0
    return 1 if difference > 0 else -1


def _places(number: int, *, several: bool) -> str:
    if several:
        return f"{number} pairs of backbone and target"
    return _count(number, "target")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
