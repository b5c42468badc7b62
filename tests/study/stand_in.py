"""A worker that does as a trial's identity says, without models."""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promptgraft.study.trial import Failure, Outcome, Trial


def order(do: str, **how: Any) -> Trial:
    return Trial("train", {"do": do, **how})


class StandIn:
    def __init__(self, *, threads: int, device: str) -> None:
        self.threads, self.device = threads, device

    def run(self, trial: Trial, inputs: Mapping[str, Outcome]) -> Outcome | Failure:
        how = dict(trial.identity)
        made = getattr(self, how.pop("do"))(inputs=inputs, **how)
        return made if isinstance(made, Failure) else Outcome(*made)

    def add(self, inputs: Mapping[str, Outcome], n: int, size: int = 0, pause: float = 0) -> Any:
        """The sum of n and of what the inputs sum up to, and `size` bytes more than they have."""
        time.sleep(pause)
        total = n + sum(outcome.result["sum"] for outcome in inputs.values())
        content = b"".join(outcome.artefacts["content"] for outcome in inputs.values())
        return {"sum": total, "keys": list(inputs)}, {"pid": os.getpid()}, {"content": content + bytes(size)}

    def shout(self, inputs: Mapping[str, Outcome]) -> Any:
        print("a trial says something", flush=True)
        names = ("OMP_NUM_THREADS", "PROMPTGRAFT_PROGRESS", "PROMPTGRAFT_CACHE")
        return {name: os.environ.get(name) for name in names}, {"threads": self.threads, "device": self.device}

    def fail(self, inputs: Mapping[str, Outcome]) -> Failure:
        return Failure("no", "Traceback: no", changed=True)

    def meet(self, inputs: Mapping[str, Outcome], mine: str, other: str) -> Any:
        """End only when the trial that makes `other` runs at the same time."""
        Path(mine).touch()
        for _ in range(600):
            if Path(other).exists():
                return ({"pid": os.getpid(), "parent": os.getppid()},)
            time.sleep(0.05)
        return Failure("alone", "")

    def die(self, inputs: Mapping[str, Outcome], log: str, times: int) -> Any:
        """Kill this process the first few times."""
        with Path(log).open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        if len(Path(log).read_text().split()) <= times:
            os.kill(os.getpid(), signal.SIGKILL)
        return ({"done": True},)

    def sleep(self, inputs: Mapping[str, Outcome], log: str) -> Any:
        """Run for ever, with a temporary folder open and its name and this process's id in a file."""
        with tempfile.TemporaryDirectory() as folder:
            Path(log + "~").write_text(f"{os.getpid()} {folder}")
            Path(log + "~").rename(log)
            time.sleep(600)
            sys.exit()
