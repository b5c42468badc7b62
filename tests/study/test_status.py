"""How far a study is."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from promptgraft.study import status
from promptgraft.study.status import follow, look, show, words
from promptgraft.study.store import Store
from promptgraft.study.trial import Failure, Outcome, Trial


def trial(number: int, **labels: Any) -> Trial:
    return Trial("train", {"n": number}, labels={"method": "vpt deep", "target": "photos", "seed": number} | labels)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """20 trials: 3 done, 12 failed, one running, 4 pending."""
    made = Store(tmp_path, "s")
    trials = [trial(number, source="text/a" if number % 2 else None) for number in range(20)]
    made.register({"study": "s"}, trials, [])
    with made.driving():
        for number, one in enumerate(trials[:16]):
            made.claim([one.key])
            if number < 3:
                made.finish(one.key, Outcome({}), {})
            elif number < 15:
                made.fail(one.key, Failure(f"\x1b[31mno. {number}", "..."))
        yield made
    made.close()


def test_a_look_counts_and_names(store: Store) -> None:
    seen = look(store)
    assert json.loads(json.dumps(seen)) == seen
    assert (seen["study"], seen["trials"], seen["done"]) == ("s", 20, 3)
    assert seen["counts"] == {"train": {"done": 3, "failed": 12, "pending": 4, "running": 1}}
    (running,) = seen["running"]
    assert running == {
        "key": trial(15, source="text/a").key,
        "kind": "train",
        "what": "vpt deep of text/a, photos, seed 15",
        "lost": False,
    }
    assert [failed["error"] for failed in seen["failed"]] == [f"\x1b[31mno. {number}" for number in range(3, 15)]


def test_what_is_shown_cannot_steer_a_terminal(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    show(look(store))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    lines = shown.splitlines()
    assert lines[0] == "study s: 3 of 20 trials done"
    assert lines[1].split() == ["kind", "done", "running", "pending", "failed"]
    assert lines[2].split() == ["train", "3", "1", "4", "12"]
    assert sum(line.startswith("failed ") for line in lines) == 10
    assert lines[-1] == "and 2 more failed; --json lists them all"
    assert "vpt deep, photos, seed 4: ?[31mno. 4" in shown


def test_watching_ends_when_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, "s")
    trials = [trial(number) for number in range(3)]
    store.register({"study": "s"}, trials, [])
    waits: list[float] = []

    def work(seconds: float) -> None:
        waits.append(seconds)
        key = trials[len(waits) - 1].key
        with store.driving():
            store.claim([key])
            if len(waits) == 2:
                store.fail(key, Failure("it broke", "..."))
            else:
                store.finish(key, Outcome({}), {})

    monkeypatch.setattr(status.time, "sleep", work)
    follow(store)
    store.close()
    assert waits == [1.0] * 3
    assert "study s: 2 of 3 trials done" in capsys.readouterr().out


def test_watching_ends_when_the_rest_waits_for_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path, "s")
    trials = [trial(number) for number in range(2)]
    store.register({"study": "s"}, trials, [])
    with store.driving():
        store.claim([trials[0].key])
        store.fail(trials[0].key, Failure("it broke", "..."))
    waits: list[float] = []
    monkeypatch.setattr(status.time, "sleep", waits.append)
    follow(store)
    store.close()
    assert 3 < len(waits) < 20


def test_a_trial_whose_driver_was_killed_is_shown_as_stopped(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_alive", lambda owner: False)
    assert [running["lost"] for running in look(store)["running"]] == [True]
    show(look(store))
    assert "\nstopped  " in capsys.readouterr().out


def test_trials_in_words() -> None:
    labels = {"target": "photos", "seed": 1}
    assert words(labels | {"method": "linear", "source": None}) == "linear, photos, seed 1"
    assert words(labels | {"method": "initial", "source": "text/a"}) == "initial of text/a, photos, seed 1"
    assert words(labels | {"estimator": "norm", "sources": ["a", "b"]}) == "norm, photos, seed 1"


def test_nothing_slow_is_imported() -> None:
    """A look from the command line is to take less than a second."""
    code = "import sys, promptgraft.cli, promptgraft.study.folder, promptgraft.study.status; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    slow = {"torch", "transformers", "scipy", "pandas", "numpy", "pydantic", "optuna", "alembic", "ruamel", "sklearn"}
    assert not slow & set(loaded)
