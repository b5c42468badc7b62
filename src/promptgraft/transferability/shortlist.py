"""Which of very many prompts to read: those whose sketches score best by one estimator.

What an estimator says of the prompts that are read is its own exact score. What may go wrong is that one of the best
is not among them: from how far the sketches' scores are off on the prompts that were read, and how far behind the
others are, follows how many of the ten best to expect outside.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from promptgraft.errors import InputError
from promptgraft.transferability.base import ESTIMATORS, Estimator, Evidence
from promptgraft.transferability.sketch_index import Segment

BEST = 10  # whose place in the shortlist is asked for
_ROUNDING = 1e-12  # scores by sketch nearer than this are the exact ones

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shortlist:
    """The prompts to read.

    names: of those, best first by their sketches. scores: theirs by sketch. others: the scores by sketch of all other
    prompts that have one.
    """

    names: list[str]
    scores: Floats
    others: Floats

    def misses(self, exact: Floats) -> float:
        """How many of the 10 best prompts to expect among the others.

        Scores by sketch are taken to be off by normal errors, whose mean and spread are those on the shortlist: for
        each other prompt, the chance that its exact score is above the tenth best in the shortlist, summed up.

        Args:
            exact: the estimator's own scores of the shortlist, in its order.
        """
        known = np.isfinite(exact)
        if not len(self.others) or not known.any():
            return 0.0
        errors = exact[known] - self.scores[known]
        bar = np.sort(exact[known])[-min(BEST, int(known.sum()))]
        behind = bar - self.others - errors.mean()
        spread = float(errors.std())
        if spread <= _ROUNDING * np.abs(exact[known]).max():  # equal scores are no misses
            return float((behind < 0).sum())
        return float(ndtr(-behind / spread).sum())


def make_shortlist(segments: Iterable[Segment], estimator: Estimator, evidence: Evidence, size: int) -> Shortlist:
    """Find the `size` prompts whose sketches score best; equal ones in the order of their names.

    Args:
        segments: sketches of the prompts; looked at once the rest is found to be in order.
        estimator: which one's scores.
        evidence: of the target; its prompts are not looked at.
        size: how many.

    Raises:
        InputError: the estimator cannot score sketches, no prompt has a score, or `size` is below 1.
    """
    if size < 1:
        raise InputError(f"the shortlist has room for {size} prompts. Give a number of at least 1.")
    if estimator.by_sketch is None:
        able = ", ".join(name for name in ESTIMATORS if ESTIMATORS[name].by_sketch is not None)
        raise InputError(
            f"{estimator.name} cannot make a shortlist: it has to read every prompt. Name one of {able} first, "
            f"{estimator.name} after it, or leave the shortlist out."
        )
    score = estimator.by_sketch(evidence)
    parts = list(segments)
    found = [np.where(segment.live, score(segment.sketches), np.nan) for segment in parts]
    starts = np.cumsum([0, *map(len, found)])
    scores = np.concatenate([np.empty(0), *found])
    places = np.flatnonzero(~np.isnan(scores))
    if not len(places):
        raise InputError(f"no prompt of the library has a score: {estimator.name} applies to {estimator.applies}.")
    bar = np.sort(scores[places])[-min(size, len(places))]

    def name(place: int) -> str:
        part = int(np.searchsorted(starts, place, side="right")) - 1
        return parts[part].names[place - int(starts[part])]

    fitting = places[scores[places] >= bar].tolist()  # more than `size` where several score alike
    ordered = sorted((-scores[place], name(place), place) for place in fitting)[:size]
    kept = np.array([place for *_, place in ordered])
    others = np.setdiff1d(places, kept, assume_unique=True)
    return Shortlist([text for _, text, _ in ordered], scores[kept], scores[others])
