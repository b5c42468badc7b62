"""Trials one after another in this very process: the default, and the one to debug in."""

from collections.abc import Iterator, Mapping

from promptgraft.study.engines.base import Resources
from promptgraft.study.trial import Failure, Outcome, Trial
from promptgraft.study.work import Worker


class InlineEngine:
    """Runs a trial when its outcome is waited for."""

    slots = 1

    def __init__(self, resources: Resources) -> None:
        self._worker = Worker(threads=resources.threads, device=resources.device)
        self._waiting: list[tuple[Trial, Mapping[str, Outcome]]] = []

    def __enter__(self) -> "InlineEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        self._waiting.clear()

    def submit(self, trial: Trial, inputs: Mapping[str, Outcome]) -> None:
        """Remember the trial."""
        self._waiting.append((trial, inputs))

    def wait(self, timeout: float | None = None) -> Iterator[tuple[Trial, Outcome | Failure]]:
        """Run what was submitted."""
        while self._waiting:
            trial, inputs = self._waiting.pop(0)
            yield trial, self._worker.run(trial, inputs)
