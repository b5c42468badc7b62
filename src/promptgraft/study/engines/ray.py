"""Trials on a Ray cluster, or on a Ray of this machine alone: shares of GPUs and placement are Ray's job.

Ray would restart a dead actor and give it its trial again, but only where the cluster has room for that very actor:
after the loss of a node it would wait for ever. So a lost trial goes to whichever actor is free.
"""

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from promptgraft.errors import InputError
from promptgraft.study.engines.base import LOST_AT_MOST, Resources
from promptgraft.study.engines.job import Job
from promptgraft.study.engines.processes import import_path
from promptgraft.study.trial import Failure, Outcome, Trial
from promptgraft.study.work import Worker

try:
    import ray
except ImportError as error:
    raise InputError("`--on ray` needs Ray: pip install 'promptgraft[ray]'") from error

LARGE = 100_000
"""Bytes of artefacts from which on an outcome is put into Ray's object store once, instead of sent with each trial."""

CONNECT = 10.0
"""Seconds in which the head of a cluster must answer."""


class _Actor:
    """What runs on the cluster: a worker that stays."""

    def __init__(self, make_worker: Callable[..., Worker], threads: int, device: str) -> None:
        self._worker = make_worker(threads=threads, device=device)

    def run(self, trial: Trial, keys: Sequence[str], *outcomes: Outcome) -> Outcome | Failure:
        return self._worker.run(trial, dict(zip(keys, outcomes, strict=True)))


class RayEngine:
    """Runs trials in Ray actors, spread over the nodes.

    A Ray that this process has joined already is used as it is, and left running.

    Args:
        resources: how many trials at a time, and what each takes of the cluster.
        make_worker: called with `threads` and `device` in each actor; must be importable there.

    Raises:
        InputError: the device is a GPU, of which a trial gets no share; (on entering) no cluster answers at the
            address, or none of its nodes has room for a trial.
    """

    slots: int

    def __init__(self, resources: Resources, *, make_worker: Callable[..., Worker] = Worker) -> None:
        if resources.device.startswith("cuda") and not resources.gpus:
            raise InputError(
                "Ray hides GPUs from a trial that asks for none. Give each a share: `--gpus-per-trial 1`."
            )
        self._resources, self._make_worker = resources, make_worker
        self._own = False
        self._actors: set[Any] = set()
        self._starting: dict[Any, Any] = {}  # actors by the reference that tells when they are there
        self._idle: list[Any] = []
        self._running: dict[Any, tuple[Any, Job]] = {}  # by the reference to the outcome
        self._waiting: deque[Job] = deque()
        self._large: dict[str, Any] = {}  # references by the key of the outcome
        self._false_starts = 0

    def __enter__(self) -> "RayEngine":
        try:
            if not ray.is_initialized():
                self._own = True
                _connect(self._resources)
            share = self._resources
            room = sum(_room(node["Resources"], share) for node in ray.nodes() if node["Alive"])
            if not room:
                raise InputError(
                    f"a trial takes {share.threads} CPUs and {share.gpus:g} GPUs, and no node of the Ray cluster has "
                    "them. Ask for less, or start Ray with more."
                )
            self.slots = share.jobs or room
            for _ in range(self.slots):
                self._start_actor()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for actor in self._actors:
            ray.kill(actor)
        if self._own:
            ray.shutdown()
        for held in (self._actors, self._starting, self._idle, self._running, self._waiting, self._large):
            held.clear()

    def submit(self, trial: Trial, inputs: Mapping[str, Outcome]) -> None:
        """Give the trial to the next actor that is free: one that the cluster has no room for yet gets none."""
        self._waiting.append(Job(trial, inputs))
        self._hand_out()

    def wait(self, timeout: float | None = None) -> Iterator[tuple[Trial, Outcome | Failure]]:
        """Block until at least one trial has ended, or for `timeout` seconds; yield all that have.

        Raises:
            InputError: the nodes cannot start a worker, such as where promptgraft is not installed on them.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._running or self._waiting:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ended, _ = ray.wait([*self._starting, *self._running], num_returns=1, timeout=left)
            if not ended:
                return
            if ended[0] in self._starting:
                self._take_in(ended[0])
                continue
            actor, job = self._running.pop(ended[0])
            outcome: Outcome | Failure | None
            try:
                outcome = ray.get(ended[0])
                self._idle.append(actor)
            except ray.exceptions.RayError as error:
                outcome = job.lost(type(error).__name__, str(error))
                if outcome is None:
                    self._waiting.appendleft(job)
                self._replace(actor)
            self._hand_out()
            if outcome is not None:
                yield job.trial, outcome
                deadline = 0.0  # the others are taken if they have ended, not waited for

    def _start_actor(self) -> None:
        resources = self._resources
        environment = {name: value for name, value in os.environ.items() if name.startswith("PROMPTGRAFT_")}
        environment |= {"OMP_NUM_THREADS": str(resources.threads), "PROMPTGRAFT_PROGRESS": "0"}
        if self._own and resources.address is None:
            environment["PYTHONPATH"] = import_path()
        kind = ray.remote(
            num_cpus=resources.threads,
            num_gpus=resources.gpus,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": environment},
        )(_Actor)
        actor = kind.remote(self._make_worker, resources.threads, resources.device)
        self._actors.add(actor)
        self._starting[actor.__ray_ready__.remote()] = actor

    def _replace(self, actor: Any) -> None:
        self._actors.discard(actor)
        ray.kill(actor)
        self._start_actor()

    def _take_in(self, reference: Any) -> None:
        """Let an actor that has started have a trial."""
        actor = self._starting.pop(reference)
        try:
            ray.get(reference)
        except ray.exceptions.RayError as error:
            self._false_starts += 1
            if self._false_starts == LOST_AT_MOST:
                cause = str(error).strip().splitlines()[-1].rstrip(".")
                raise InputError(
                    f"Ray cannot start a worker: {cause}. Every node needs this version of promptgraft."
                ) from error
            self._replace(actor)
            return
        self._false_starts = 0
        self._idle.append(actor)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._idle and self._waiting:
            job, actor = self._waiting.popleft(), self._idle.pop()
            outcomes = [self._sent(key, outcome) for key, outcome in job.inputs.items()]
            self._running[actor.run.remote(job.trial, list(job.inputs), *outcomes)] = actor, job

    def _sent(self, key: str, outcome: Outcome) -> Any:
        """The outcome, or a reference to it where it is large."""
        if sum(map(len, outcome.artefacts.values())) < LARGE:
            return outcome
        if key not in self._large:
            self._large[key] = ray.put(outcome)
        return self._large[key]


def _room(node: Mapping[str, float], resources: Resources) -> int:
    """How many trials a node takes at a time; a share of a GPU is a share of one GPU."""
    room = int(node.get("CPU", 0) // resources.threads)
    if not resources.gpus:
        return room
    gpus = int(node.get("GPU", 0))
    shares = gpus * int(1 / resources.gpus + 1e-9) if resources.gpus <= 1 else int(gpus // resources.gpus)
    return min(room, shares)


def _connect(resources: Resources) -> None:
    """Start a Ray of this machine, or join the one at an address ("auto" for the one that this machine is part of).

    Raises:
        InputError: nothing answers there, or it is no Ray of this version.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if resources.address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init("local", num_cpus=resources.jobs_here() * resources.threads, include_dashboard=False, **quiet)
        return
    cure = (
        "Name a head that answers, such as `--on ray://host:10001`, or run on this machine alone with `--on ray`. "
        "A cluster with tokens wants RAY_AUTH_MODE=token in the environment."
    )
    try:
        if resources.address != "auto":
            head = urlsplit(resources.address if "://" in resources.address else f"//{resources.address}")
            if head.port is None:
                raise ValueError("it has no port")
            socket.create_connection((head.hostname, head.port), timeout=CONNECT).close()
        ray.init(resources.address, **quiet)
    except Exception as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(f"cannot join the Ray cluster at {resources.address}: {cause}. {cure}") from error
