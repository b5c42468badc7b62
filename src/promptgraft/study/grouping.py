"""Grouping and averaging, as all tables of a study do it."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from statistics import fmean
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R", bound=Hashable)


def grouped(items: Iterable[T], key: Callable[[T], R]) -> dict[R, list[T]]:
    """Items by key, both in the order of their first appearance."""
    groups: dict[R, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def mean_of(values: Sequence[float]) -> float | None:
    """Mean of what there is; rounded, so that means that are equal but for the order of their sums tie."""
    return round(fmean(values), 12) if len(values) else None
