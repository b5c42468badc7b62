"""A search of hypothesis for files that a reader cannot cope with, within limits of time and memory."""

import contextlib
import faulthandler
import os
import random
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostile.mutations import lay
from promptgraft.errors import PromptgraftError
from promptgraft.study.memory import peak_memory, reset_peak_memory

SECONDS = float(os.environ.get("PROMPTGRAFT_FUZZ_SECONDS", "0"))
"""For all searches together, with random seeds; 0 for a few repeatable examples of each."""

PROCESSOR_SECONDS, WALL_SECONDS, MEMORY = 5, 180, 500_000_000
"""What one read may take. The wall's clock is for reads that wait: a busy machine must fail nothing else."""

CASES: Counter[str] = Counter()
REFUSED: Counter[str] = Counter()
SPENT: dict[str, float] = {}
"""Search -> cases tried, those of them that the reader refused, seconds it took."""


class TooSlowError(BaseException):
    """No child of Exception, so that a reader that takes any exception for damage does not take this one."""


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Fail where the block takes more than a read may."""

    def stop(number: int, _: Any) -> None:
        seconds = PROCESSOR_SECONDS if number == signal.SIGPROF else WALL_SECONDS
        raise TooSlowError(f"the read took more than {seconds} s")

    timers = {
        signal.SIGPROF: (signal.ITIMER_PROF, PROCESSOR_SECONDS),
        signal.SIGALRM: (signal.ITIMER_REAL, WALL_SECONDS),
    }
    before = {number: signal.signal(number, stop) for number in timers}
    faulthandler.dump_traceback_later(2 * WALL_SECONDS, exit=True)  # code outside of Python hears no signal
    reset_peak_memory("cpu")
    start = peak_memory("cpu") or 0
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        faulthandler.cancel_dump_traceback_later()
        for number, handler in before.items():
            signal.signal(number, handler)
    taken = (peak_memory("cpu") or 0) - start
    assert taken < MEMORY, f"the read took {taken / 1e6:.0f} MB"


def attempt(read: Callable[[], Any]) -> bool:
    """Whether a read loads; False where it refuses, with a message fit to be shown. All else is a failure."""
    try:
        with limits(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read()
    except PromptgraftError as error:
        if not 10 < len(str(error)) < 3000:
            pytest.fail(f"no fit message: {str(error)[:3000]!r}")
        return False
    return True


@dataclass(frozen=True)
class Search:
    """Tries cases on a reader. name: of the search. seconds: how long; 0 for a few repeatable examples."""

    name: str
    seconds: float

    def __call__(self, read: Callable[[Path], Any], files: st.SearchStrategy[Any], *, examples: int = 40) -> None:
        """Every folder loads or is refused by a `PromptgraftError`, within limits.

        Args:
            read: takes the folder; it checks what it loads.
            files: folders as `mutations.lay` writes them.
            examples: of a search without a time.
        """

        def one(case: Any) -> None:
            CASES[self.name] += 1
            with tempfile.TemporaryDirectory(prefix="hostile-") as temporary:
                folder = lay(case, Path(temporary) / "folder")
                REFUSED[self.name] += not attempt(lambda: read(folder))

        common = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
        if not self.seconds:
            settings(common, max_examples=examples, derandomize=True)(given(files)(one))()
            return
        start = time.monotonic()
        try:
            while time.monotonic() - start < self.seconds:
                random.seed()
                settings(common, max_examples=100)(given(files)(one))()
        finally:
            SPENT[self.name] = time.monotonic() - start
