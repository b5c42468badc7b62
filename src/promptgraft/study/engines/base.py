"""Where trials run: every engine takes trials and gives back outcomes; the store is none of its business."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from promptgraft.registry import Registry
from promptgraft.study.trial import Failure, Outcome, Trial

LOST_AT_MOST = 3
"""How often a trial may take its worker down with it before it counts as failed."""


@dataclass(frozen=True)
class Resources:
    """What an engine may use.

    jobs: trials at a time; None for as many as there are cores, one on a GPU (or, with Ray, room in the cluster).
    threads: of each trial. device: such as `cpu` or `cuda`. gpus: share of a GPU that each trial takes (Ray).
    address: of a cluster to join; None starts a local one (Ray).
    """

    jobs: int | None = None
    threads: int = 1
    device: str = "cpu"
    gpus: float = 0.0
    address: str | None = None

    def jobs_here(self) -> int:
        """Trials at a time on this machine: never more threads than cores unless `jobs` asks for it."""
        if self.jobs is not None:
            return self.jobs
        from joblib import cpu_count  # heeds affinity and the quota of a container

        return max(1, int(cpu_count()) // self.threads) if self.device == "cpu" else 1


class Engine(Protocol):
    """Runs trials, several at a time where it can. Used as a context manager; leaving it stops whatever still runs.

    A worker loads a backbone once and keeps the data of its last targets (`promptgraft.study.work.Worker`), so trials
    of one target should follow one another.
    """

    slots: int
    """Trials that can be under way at once."""

    def __enter__(self) -> "Engine": ...

    def __exit__(self, *exception: object) -> None: ...

    def submit(self, trial: Trial, inputs: Mapping[str, Outcome]) -> None:
        """Start a trial; `inputs` are the outcomes of the trials that it needs, by key. Call it only when fewer than
        `slots` trials are under way.
        """

    def wait(self, timeout: float | None = None) -> Iterator[tuple[Trial, Outcome | Failure]]:
        """Block until at least one trial has ended, or for `timeout` seconds; yield all that have."""


ENGINES: Registry[Callable[[Resources], Engine]] = Registry(
    "engine",
    {
        "inline": "promptgraft.study.engines.inline:InlineEngine",
        "processes": "promptgraft.study.engines.processes:ProcessEngine",
        "ray": "promptgraft.study.engines.ray:RayEngine",
    },
)
