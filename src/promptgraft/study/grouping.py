"""Grouping and averaging, as all tables of a study do it."""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from statistics import fmean
from typing import TypeVar

import numpy as np
from scipy.stats import t

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


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation over seeds."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def seeds_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % t-interval of the mean over seeds."""
    deviation = spread(values)
    if deviation is None:
        return None, None
    reach = float(t.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values))
    return float(np.mean(values)) - reach, float(np.mean(values)) + reach
