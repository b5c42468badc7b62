"""The same study, with real workers, finds the same in this process, on local processes and on Ray."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from comparing import findings

from promptgraft.study.drive import run_study
from promptgraft.study.engines.base import ENGINES, Engine, Resources
from promptgraft.study.plan import Plan, plan_study
from promptgraft.study.spec import StudySpec
from promptgraft.study.store import Store
from promptgraft.study.trial import Outcome, Trial


class Killing:
    """An engine around another, that kills one of its workers as soon as two trials are under way."""

    def __init__(self, engine: Engine, workers: Callable[[], list[int]]) -> None:
        self._engine, self._workers, self._given, self.killed = engine, workers, 0, 0
        self.wait = engine.wait

    @property
    def slots(self) -> int:
        return self._engine.slots

    def __enter__(self) -> "Killing":
        self._engine.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._engine.__exit__(*exception)

    def submit(self, trial: Trial, inputs: Mapping[str, Outcome]) -> None:
        self._engine.submit(trial, inputs)
        self._given += 1
        if self._given == 2:
            threading.Thread(target=self._kill, daemon=True).start()

    def _kill(self) -> None:
        for _ in range(300):
            if found := self._workers():
                os.kill(found[0], signal.SIGKILL)
                self.killed += 1
                return
            time.sleep(0.2)


def workers() -> list[int]:
    """Processes that run trials for this one: children of it, or actors of its Ray."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        if ("promptgraft.study.engines.worker" in command and parent == os.getpid()) or "ray::_Actor" in command:
            found.append(int(entry.name))
    return found


def run(plan: Plan, folder: Path, engine: Engine) -> str:
    folder.mkdir()
    store = Store(folder, "tiny")
    run_study(plan, store, engine)
    store.close()
    return findings(folder)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="workers are found in /proc")
def test_engines_find_the_same_though_a_worker_is_killed(
    tmp_path: Path, tiny_study: Callable[..., StudySpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    plan = plan_study(tiny_study(sources=True))
    expected = run(plan, tmp_path / "inline", ENGINES["inline"](Resources()))
    for name in ("processes", "ray"):
        engine = Killing(ENGINES[name](Resources(jobs=2)), workers)
        assert run(plan, tmp_path / name, engine) == expected
        assert engine.killed == 1
