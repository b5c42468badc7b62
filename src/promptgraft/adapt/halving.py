"""Successive halving: all candidates train a little, the best third goes on, within a time budget if there is one.

Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization"
(https://arxiv.org/abs/1502.07943), with the factor 3 of Hyperband (https://arxiv.org/abs/1603.06560), and two changes:
a candidate whose head starts at the linear probe is measured before it trains, so the first rung is the start; and the
field is ordered by selection loss, which tells candidates apart where accuracy on a few examples ties.
"""

import math
import time
from collections.abc import Callable, Sequence

from promptgraft.errors import TrainingError
from promptgraft.tuning.candidate import Candidate
from promptgraft.tuning.recipes import Recipe

FACTOR = 3
OUT_OF_TIME = "the time budget ran out"
"""How the reason begins of a candidate that was stopped for lack of time."""


class Clock:
    """Time left of a budget; without a budget there is always time.

    Args:
        budget: seconds for the whole run, None for no limit.
    """

    def __init__(self, budget: float | None) -> None:
        self._started = time.perf_counter()
        self._budget = math.inf if budget is None else budget
        self.reserve = 0.0
        """Seconds that must stay for the last test."""
        self.first_epoch = 0.0
        """Seconds that an epoch is thought to take of a candidate that has not trained yet."""
        self.retrain_share = 0.0
        """How much longer an epoch of the final training on train and validation is: (n_train + n_val) / n_train."""

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._started

    def has(self, seconds: float) -> bool:
        """Whether that much time is left."""
        return self._budget - self.elapsed - self.reserve > seconds

    def allows(self, candidate: Candidate) -> bool:
        """Whether there is time for one more epoch of a candidate, and to retrain it afterwards if it wins."""
        epoch = candidate.epoch_seconds or self.first_epoch
        return self.has(epoch * (1 + self.retrain_share * (candidate.epoch + 1)))


def rungs(recipe: Recipe) -> list[int]:
    """Epochs after which a third of the field goes on: the start, or a ninth where heads start at random; a third."""
    first = 0 if recipe.head_start == "probe" else max(round(recipe.epochs / FACTOR**2), 1)
    third = max(round(recipe.epochs / FACTOR), 1)
    return sorted({first, third} - {recipe.epochs})


def steps(candidates: int, recipe: Recipe) -> int:
    """Epochs that a race of so many candidates takes where none of them drops out."""
    total = 0
    for epoch in range(recipe.epochs + 1):
        total += candidates if epoch else 0
        if epoch in rungs(recipe):
            candidates = _kept(candidates, epoch)
    return total


def race(candidates: Sequence[Candidate], recipe: Recipe, clock: Clock, on_epoch: Callable[[Candidate], None]) -> None:
    """Train candidates by successive halving; each ends `finished`, `stopped early` or `failed`.

    All train epoch by epoch, so that the time is shared alike when it runs out: then each is kept at its best epoch.
    The order at a rung is that of the selection loss. A candidate that diverges fails alone.

    Args:
        candidates: started candidates; those without anything to train are finished already.
        recipe: that all of them train by.
        clock: the time budget.
        on_epoch: called for each epoch of a candidate, those restored from a checkpoint included.
    """
    running = [candidate for candidate in candidates if candidate.status == "running"]
    for epoch in range(recipe.epochs + 1):
        for candidate in running if epoch else ():
            _advance(candidate, epoch, clock)
            if candidate.epoch >= epoch:
                on_epoch(candidate)
        running = [candidate for candidate in running if candidate.status == "running"]
        if epoch in rungs(recipe):
            running = _best(running, epoch)


def _best(running: list[Candidate], epoch: int) -> list[Candidate]:
    """The third that goes on; the others are stopped."""
    keep = _kept(len(running), epoch)
    ordered = sorted(running, key=lambda candidate: candidate.loss(epoch))
    when = f"after {_epochs(epoch)}" if epoch else "at the start"
    for candidate in ordered[keep:]:
        candidate.stop("stopped early", f"not among the best {keep} {when}")
    return ordered[:keep]


def _kept(candidates: int, epoch: int) -> int:
    """A third, but two at the start: what was never trained does not decide alone."""
    return max(round(candidates / FACTOR), min(candidates, 1 if epoch else 2))


def _advance(candidate: Candidate, epoch: int, clock: Clock) -> None:
    """Train one candidate up to an epoch if there is time; one that a checkpoint brought further waits there."""
    if candidate.epoch > epoch:
        return
    if candidate.epoch < epoch and not clock.allows(candidate):
        candidate.stop("stopped early", f"{OUT_OF_TIME} after {_epochs(candidate.epoch)}")
        return
    try:
        candidate.advance(epoch)
    except TrainingError as error:
        candidate.stop("failed", str(error))


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' * (count != 1)}"
