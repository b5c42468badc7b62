"""Successive halving: all candidates train a little, the better half goes on, within a time budget if there is one."""

import time
from collections.abc import Callable, Sequence

from promptgraft.errors import TrainingError
from promptgraft.tuning.candidate import Candidate

Advance = Callable[[Candidate], None]


class Clock:
    """Time left of a budget; without a budget there is always time.

    Args:
        budget: seconds for the whole run, None for no limit.
    """

    def __init__(self, budget: float | None) -> None:
        self._started = time.perf_counter()
        self._budget = budget
        self.reserve = 0.0
        """Seconds that must stay for the last test."""
        self.retrain_share = 0.0
        """How much longer an epoch of the final training on train and validation is: (n_train + n_val) / n_train."""

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._started

    def allows(self, candidate: Candidate) -> bool:
        """Whether there is time for one more epoch of a candidate, and to retrain it afterwards if it wins."""
        if self._budget is None:
            return True
        ahead = candidate.epoch_seconds * (1 + self.retrain_share * (candidate.epoch + 1))
        return self._budget - self.elapsed - self.reserve > ahead


def rungs(epochs: int) -> list[int]:
    """Epochs at which the field is halved, the last one being the end: a quarter, a half, all."""
    return sorted({max(1, -(-epochs // 4)), max(1, -(-epochs // 2)), epochs})


def race(candidates: Sequence[Candidate], epochs: int, clock: Clock, on_epoch: Advance) -> None:
    """Train candidates by successive halving; each ends `finished`, `stopped early` or `failed`.

    The order at a rung is that of the selection accuracy so far, then the loss. When time runs out the candidates that
    still run are kept at their best epoch. A candidate that diverges fails alone.

    Args:
        candidates: started candidates; those without anything to train are finished already.
        epochs: of the recipe.
        clock: the time budget.
        on_epoch: called after each epoch of a candidate.
    """
    running = [candidate for candidate in candidates if candidate.status == "running"]
    previous = 0
    for until in rungs(epochs):
        if previous:
            running.sort(key=lambda candidate: candidate.standing(previous), reverse=True)
            keep = max(1, -(-len(running) // 2))
            for candidate in running[keep:]:
                candidate.stop("stopped early", f"not among the best {keep} after {previous} epochs")
            running = running[:keep]
        for candidate in running:
            _advance(candidate, until, clock, on_epoch)
        running = [candidate for candidate in running if candidate.status == "running"]
        previous = until
    for candidate in running:
        candidate.stop("stopped early", "the time budget ran out")


def _advance(candidate: Candidate, until: int, clock: Clock, on_epoch: Advance) -> None:
    """Train one candidate epoch by epoch while there is time."""
    try:
        while candidate.status == "running" and candidate.epoch < until and clock.allows(candidate):
            candidate.advance(candidate.epoch + 1)
            on_epoch(candidate)
    except TrainingError as error:
        candidate.stop("failed", str(error))
