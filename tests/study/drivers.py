"""Drivers as processes of their own, to be killed: a nursery that has imported everything forks them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def hear_interrupts() -> None:
    """A shell's background jobs ignore Ctrl-C, and so would all that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Driver:
    """A process that runs a study, or a command."""

    def __init__(self, nursery: "Nursery", pid: int, output: Path) -> None:
        self._nursery, self.pid, self._output = nursery, pid, output
        self._code: int | None = None

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, if it runs still."""
        if self._code is None:  # nobody but `wait` takes its id away
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit code; minus the number of the signal that ended it."""
        if self._code is None:
            self._code = self._nursery.ask(wait=self.pid)
        return self._code

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._output.read_text(encoding="utf-8")


class Nursery:
    """Starts drivers.

    Args:
        models: folders of backbones; to load them once imports what every driver needs.
    """

    def __init__(self, *models: Path) -> None:
        command = [sys.executable, __file__, *map(str, models)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(command, text=True, preexec_fn=hear_interrupts, **pipes)
        self._drivers: list[Driver] = []

    def ask(self, **request: Any) -> int:
        """One line there, one number back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def start(self, folder: Path, *, command: list[str] | None = None, **how: Any) -> Driver:
        """A driver of the study in `folder`, whose cache is `folder/cache`.

        Args:
            folder: of the study.
            command: of promptgraft, instead of `run_folder`.
            how: `url`, `on`, `jobs` as `run_folder` takes them; `die_at`: the step after which it kills itself.
        """
        output = folder / f"output-{len(self._drivers)}"
        pid = self.ask(folder=str(folder), command=command, output=str(output), how=how)
        self._drivers.append(Driver(self, pid, output))
        return self._drivers[-1]

    def close(self) -> None:
        """End all that runs still."""
        for driver in self._drivers:
            driver.kill()
            driver.wait()
        self._process.communicate()


def finished(folder: Path) -> list[str]:
    """Keys of the trials that drivers of this folder have finished, each time that one did."""
    return (folder / "finished").read_text().split()


def await_finished(folder: Path) -> None:
    """Wait until a trial is finished there."""
    for _ in range(1200):
        if (folder / "finished").exists() and finished(folder):
            return
        time.sleep(0.05)
    raise AssertionError("no trial was finished")


def steps(folder: Path) -> int:
    """How many steps the drivers of this folder that came to their end have taken."""
    return int((folder / "steps").read_text())


def _serve() -> None:
    import optuna  # noqa: F401
    import torch

    import promptgraft.cli
    import promptgraft.study.session  # noqa: F401
    from promptgraft.backbones.load import load_backbone

    torch.set_num_threads(1)  # a process with more does not survive a fork
    for model in sys.argv[1:]:
        load_backbone(f"dir:{model}")
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork()
            if not answer:
                os._exit(_drive(**request))
        print(answer, flush=True)
    os._exit(0)  # which need not take down all that it has imported


def _drive(folder: str, command: list[str] | None, output: str, how: dict[str, Any]) -> int:
    with Path(output).open("w", encoding="utf-8") as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    os.environ["PROMPTGRAFT_CACHE"] = f"{folder}/cache"
    die_at = how.pop("die_at", None)
    taken = _count_steps(Path(folder), die_at)
    code = 0
    try:
        from promptgraft.cli import main
        from promptgraft.study.session import run_folder

        if command is not None:
            code = main(command)
        else:
            run_folder(Path(folder), **how)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    (Path(folder) / "steps").write_text(str(len(taken)))
    sys.stdout.flush()
    return code


def _count_steps(folder: Path, die_at: int | None) -> list[None]:
    """Note what is finished, and count statements to the store, its transactions and files that are put in place."""
    import sqlalchemy as sa

    from promptgraft.study.store import Store

    taken: list[None] = []

    def step(*_: object) -> None:
        taken.append(None)
        if len(taken) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(kind: type, name: str) -> None:
        act: Callable[..., Any] = getattr(kind, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            step()
            made = act(*arguments, **named)
            if name == "finish" and made:
                with (folder / "finished").open("a") as stream:
                    stream.write(arguments[1] + "\n")
            step()
            return made

        setattr(kind, name, counted)

    for kind, name in ((Store, "finish"), (Store, "claim"), (Path, "replace"), (Path, "unlink")):
        around(kind, name)
    sa.event.listen(sa.Engine, "before_cursor_execute", step)
    sa.event.listen(sa.Engine, "commit", step)
    return taken


if __name__ == "__main__":
    _serve()
