"""Trials in processes of this machine, one trial at a time in each.

A worker is a program of its own (`worker.py`), neither a fork, which PyTorch does not survive, nor a `multiprocessing`
child, which would run the user's script a second time. A worker that dies closes its pipe, so its death is seen at
once.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

from promptgraft.study.engines.base import Resources
from promptgraft.study.engines.job import Job
from promptgraft.study.engines.worker import GRACE
from promptgraft.study.trial import Failure, Outcome, Trial
from promptgraft.study.work import Worker


class ProcessEngine:
    """Runs trials in worker processes, which are started as they are needed.

    Args:
        resources: how many trials at a time, and with what.
        make_worker: called with `threads` and `device` in each process; must be importable there.
    """

    def __init__(self, resources: Resources, *, make_worker: Callable[..., Worker] = Worker) -> None:
        self.slots = resources.jobs_here()
        self._first = (make_worker, resources.threads, resources.device)
        self._idle: list[_Process] = []
        self._busy: dict[Connection, tuple[_Process, Job]] = {}

    def __enter__(self) -> "ProcessEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        processes = [*self._idle, *(process for process, _ in self._busy.values())]
        self._idle.clear()
        self._busy.clear()
        _end(processes)

    def submit(self, trial: Trial, inputs: Mapping[str, Outcome]) -> None:
        """Hand the trial to a worker that is free, or to a new one."""
        self._start(Job(trial, dict(inputs)))

    def wait(self, timeout: float | None = None) -> Iterator[tuple[Trial, Outcome | Failure]]:
        """Block until at least one trial has ended, or for `timeout` seconds; yield all that have.

        The trial of a worker that died is run again in a new one, and fails when it has lost `LOST_AT_MOST`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        ended = False
        while self._busy and not ended:
            ready = wait(list(self._busy), None if deadline is None else max(0.0, deadline - time.monotonic()))
            if not ready:
                return
            for pipe in [pipe for pipe in self._busy if pipe in ready]:
                process, job = self._busy.pop(pipe)
                outcome: Outcome | Failure | None
                try:
                    outcome = pipe.recv()
                    self._idle.append(process)
                except (EOFError, OSError):
                    outcome = job.lost(f"exit code {_end([process])}")
                if outcome is None:
                    self._start(job)
                    continue
                ended = True
                yield job.trial, outcome

    def _start(self, job: Job) -> None:
        process = self._idle.pop() if self._idle else None
        if process is None or process.popen.poll() is not None:
            process = _Process(self._first)
        self._busy[process.pipe] = process, job
        process.send((job.trial, job.inputs))


class _Process:
    """A worker process and this end of its pipe; `first` is what `worker.serve` expects first."""

    def __init__(self, first: tuple[Callable[..., Worker], int, str]) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(first[1]),
            "PROMPTGRAFT_PROGRESS": "0",
            "PYTHONPATH": import_path(),
        }
        self.pipe, theirs = Pipe()
        with theirs:
            self.popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "promptgraft.study.engines.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the driver alone
            )
        self.send(first)

    def send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # dead already: the engine sees it when it waits
            self.pipe.send(message)


def import_path() -> str:
    """This process's `sys.path`, as PYTHONPATH takes it."""
    return os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)


def _end(processes: Iterable[_Process]) -> int:
    """Stop processes, by force where they take too long; return the exit code of the last."""
    processes = list(processes)
    for process in processes:
        process.pipe.close()
    deadline = time.monotonic() + GRACE
    code = 0
    for process in processes:
        try:
            code = process.popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.popen.kill()
            code = process.popen.wait()
    return code
