"""A trial that an engine has at hand, and how many workers it has cost."""

from collections.abc import Mapping
from dataclasses import dataclass

from promptgraft.study.engines.base import LOST_AT_MOST
from promptgraft.study.trial import Failure, Outcome, Trial


@dataclass
class Job:
    """A trial, the outcomes that it starts from, and the number of workers that died over it."""

    trial: Trial
    inputs: Mapping[str, Outcome]
    losses: int = 0

    def lost(self, how: str, details: str = "") -> Failure | None:
        """Count a worker that died; None while the trial may be run again.

        Args:
            how: it died, in a few words.
            details: what else is known about it.
        """
        self.losses += 1
        if self.losses < LOST_AT_MOST:
            return None
        cure = "Out of memory? Run fewer trials at a time, or take a smaller batch."
        return Failure(f"its worker died {LOST_AT_MOST} times ({how}). {cure}", details)
