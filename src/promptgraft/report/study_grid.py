"""The tables of a study as data, for the page, Markdown and LaTeX alike: target x method, and target x estimator."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from promptgraft.report import wording

Row = Mapping[str, Any]

_COLUMNS = 10  # methods that stand side by side


@dataclass(frozen=True)
class Grid:
    """Test accuracies on one backbone.

    cells: of a target and a method; a method that takes source prompts stands there with the one that is
        ranked, chosen on the validation split so that no choice rests on the test accuracies that are shown.
    """

    backbone: str
    targets: tuple[str, ...]
    methods: tuple[str, ...]
    cells: Mapping[tuple[str, str], Row]

    @property
    def turned(self) -> bool:
        """Whether methods are so many that they stand as lines, and targets as columns."""
        return len(self.methods) > max(len(self.targets), _COLUMNS)

    def value(self, target: str, method: str) -> float | None:
        """Mean accuracy over seeds."""
        return wording.finite(self.cells.get((target, method), {}).get("mean"))

    def best(self, target: str) -> tuple[str, ...]:
        """The methods with the highest mean on a target; none where nothing is measured."""
        known = {method: value for method in self.methods if (value := self.value(target, method)) is not None}
        return tuple(method for method, value in known.items() if value == max(known.values()))

    def mean(self, method: str) -> float | None:
        """Mean over targets; None unless every target is measured."""
        return mean(self.value(target, method) for target in self.targets)

    def rank(self, method: str) -> float | None:
        """Mean rank over targets; None unless every target is measured."""
        return mean(wording.finite(row.get("rank")) for row in self.column(method))

    def wins(self, method: str) -> int:
        """The number of targets on which no method is better."""
        return sum(method in self.best(target) for target in self.targets)

    def column(self, method: str) -> list[Row]:
        """The cells of a method, one for each target."""
        return [self.cells.get((target, method), {}) for target in self.targets]


@dataclass(frozen=True)
class Agreement:
    """How well estimates order the sources of each target: against transfer by `method` on one backbone."""

    backbone: str
    method: str
    targets: tuple[str, ...]
    estimators: tuple[str, ...]
    cells: Mapping[tuple[str, str], Row]

    def best(self, target: str) -> tuple[str, ...]:
        """The estimators with the highest Kendall coefficient on a target."""
        known = {name: value for name in self.estimators if (value := self.value(target, name)) is not None}
        return tuple(name for name, value in known.items() if value == max(known.values()))

    def value(self, target: str, estimator: str, key: str = "kendall") -> float | None:
        """One entry of a cell."""
        return wording.finite(self.cells.get((target, estimator), {}).get(key))

    def mean(self, estimator: str, key: str = "kendall") -> float | None:
        """Mean over targets; None unless every target has the entry."""
        return mean(self.value(target, estimator, key) for target in self.targets)


def grids(study: Mapping[str, Any]) -> list[Grid]:
    """The main table of each backbone, targets and methods in the order of the rows."""
    rows = listed(study, "rows")
    methods = distinct(rows, "method")
    found = []
    for (backbone,), here in grouped(rows, "backbone").items():
        cells = {
            (target, method): max(some, key=_quality)
            for (target, method), some in grouped(here, "target", "method").items()
        }
        shown = tuple(method for method in methods if any(method == other for _, other in cells))
        found.append(Grid(backbone, distinct(here, "target"), shown, cells))
    return found


def agreements(study: Mapping[str, Any]) -> list[Agreement]:
    """The agreement table of each backbone and method of transfer."""
    found = []
    for (backbone, method), here in grouped(listed(study, "agreement"), "backbone", "method").items():
        cells = {(str(row["target"]), str(row["estimator"])): row for row in here}
        found.append(Agreement(backbone, method, distinct(here, "target"), distinct(here, "estimator"), cells))
    return found


def averages(study: Mapping[str, Any], backbone: str) -> list[Row]:
    """The averages over targets on one backbone, the best first."""
    rows = [row for row in listed(study, "averages") if str(row["backbone"]) == backbone]
    return sorted(rows, key=lambda row: -(wording.finite(row.get("mean")) or 0.0))


def listed(study: Mapping[str, Any], key: str) -> Sequence[Row]:
    """One of the study's lists, empty where it has none."""
    return study.get(key) or []


def distinct(rows: Iterable[Row], key: str) -> tuple[str, ...]:
    """The names that stand under `key`, in the order of their first appearance."""
    return tuple(dict.fromkeys(str(row[key]) for row in rows if row.get(key) is not None))


def grouped(rows: Iterable[Row], *keys: str) -> dict[tuple[str, ...], list[Row]]:
    """Rows by the names that they have under `keys`, in the order of their first appearance."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row.get(key)) for key in keys), []).append(row)
    return groups


def marked(values: Sequence[float | None], best: Callable[[list[float]], float]) -> list[bool]:
    """Which of the values are the best of those that are known."""
    known = [value for value in values if value is not None]
    return [bool(known) and value == best(known) for value in values]


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of all values; None where one is missing, or all are."""
    known = list(values)
    numbers = [value for value in known if value is not None]
    return round(fmean(numbers), 12) if numbers and len(numbers) == len(known) else None


def _quality(row: Row) -> tuple[bool, float]:
    """What a source is chosen by: it takes part in the ranking, and its validation accuracy."""
    validation = wording.finite(row.get("val_mean"))
    return wording.finite(row.get("rank")) is not None, -1.0 if validation is None else validation
