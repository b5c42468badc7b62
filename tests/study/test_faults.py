import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import torch
from comparing import Calm, findings
from drivers import Nursery, await_finished, finished
from stand_in import StandIn

from promptgraft.errors import InputError
from promptgraft.library import PromptLibrary
from promptgraft.study import artefacts, work
from promptgraft.study.drive import Summary, run_study
from promptgraft.study.engines import inline
from promptgraft.study.engines.base import Resources
from promptgraft.study.engines.inline import InlineEngine
from promptgraft.study.engines.processes import ProcessEngine
from promptgraft.study.kinds import KINDS
from promptgraft.study.plan import Plan, plan_study
from promptgraft.study.spec import StudySpec
from promptgraft.study.store import Store
from promptgraft.study.trial import Failure, Outcome, Trial

TinyStudy = Callable[..., StudySpec]
SPEC = StudySpec.model_validate({"study": "tiny", "backbones": ["b"], "targets": ["t"], "methods": ["linear"]})


def flip(file: Path) -> None:
    """Alter one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


# drivers that are killed or stopped


def test_a_study_that_is_killed_goes_on_to_the_same_end(nursery: Nursery, calm: Calm, tmp_path: Path) -> None:
    folder, chance, kills = calm.copy(tmp_path / "killed"), random.Random(0), 0
    for at_step in (True, True, False, True, True, False, True, True):
        driver = nursery.start(folder, die_at=chance.randint(1, calm.steps // 2) if at_step else None)
        if not at_step:
            time.sleep(chance.uniform(0.1, 0.6))
            driver.kill()
        assert driver.wait() in (-signal.SIGKILL, 0), driver.output
        kills += 1
    driver = nursery.start(folder)
    assert driver.wait() == 0, driver.output
    assert findings(folder) == calm.found
    times = Counter(finished(folder))
    assert max(times.values()) == 1
    assert len(calm.keys - times.keys()) <= kills  # killed after the commit, before it was noted here
    prompts = PromptLibrary(folder / "prompts")
    assert len(prompts.names()) == 1
    assert [prompts[name].tensor.shape[1] for name in prompts] == [10]

    flip(next((folder / "prompts").rglob("prompt.safetensors")))
    assert nursery.start(folder).wait() == 0
    again = Counter(finished(folder)) - times
    assert len(again) == 1
    assert findings(folder) == calm.found


def test_two_drivers_share_a_study(nursery: Nursery, calm: Calm, tmp_path: Path) -> None:
    folder = calm.copy(tmp_path / "shared")
    drivers = [nursery.start(folder) for _ in range(2)]
    assert [driver.wait() for driver in drivers] == [0, 0], [driver.output for driver in drivers]
    assert Counter(finished(folder)) == Counter(calm.keys)
    assert findings(folder) == calm.found


def test_a_driver_takes_over_from_one_that_is_killed(nursery: Nursery, calm: Calm, tmp_path: Path) -> None:
    folder = calm.copy(tmp_path / "left")
    killed = nursery.start(folder, die_at=calm.steps // 3)
    await_finished(folder)
    other = nursery.start(folder)
    assert killed.wait() in (-signal.SIGKILL, 0), killed.output  # 0 where the other was that quick
    assert other.wait() == 0, other.output
    assert max(Counter(finished(folder)).values()) == 1
    assert findings(folder) == calm.found


def test_ctrl_c_stops_a_study_that_then_goes_on(nursery: Nursery, calm: Calm, tmp_path: Path) -> None:
    folder = calm.copy(tmp_path / "stopped")
    driver = nursery.start(folder, command=["study", "run", str(folder)])
    await_finished(folder)
    driver.kill(signal.SIGINT)
    assert driver.wait() == 130, driver.output
    assert driver.output.strip().endswith("stopped; run the same command to go on")
    assert "Traceback" not in driver.output
    store = Store(folder, "tiny")
    states = store.states()
    assert set(states.values()) == {"done", "pending"}
    assert not list((folder / ".drivers").iterdir())
    driver = nursery.start(folder, command=["study", "resume", str(folder)])
    assert driver.wait() == 0, driver.output
    assert max(Counter(finished(folder)).values()) == 1
    assert findings(folder) == calm.found


# a driver with a worker that does as it is told


class Adder(StandIn):
    def add(self, inputs: Mapping[str, Outcome], n: int, size: int = 0) -> Any:
        """The sum of n and of what the inputs sum up to, and a file of `size` bytes."""
        return {"sum": n + sum(outcome.result["sum"] for outcome in inputs.values())}, {}, {"content": bytes(size)}


class Several(InlineEngine):
    """As if there were three workers."""

    slots = 3


Run = Callable[..., Summary]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> Run:
    """`run(*trials, mirror=...)`: a study of these."""
    monkeypatch.setattr(inline, "Worker", Adder)

    def run_them(*trials: Trial, mirror: Any = None, engine: Any = Several) -> Summary:
        mirrors = () if mirror is None else (mirror,)
        store = Store(tmp_path, "tiny")
        try:
            return run_study(Plan(SPEC, trials, ()), store, engine(Resources()), mirrors)
        finally:
            store.close()

    return run_them


@pytest.fixture
def store(tmp_path: Path, run: Run) -> Generator[Store, None, None]:
    """The store of that study."""
    made = Store(tmp_path, "tiny")
    yield made
    made.close()


def adds(n: int, *needs: Trial, **how: Any) -> Trial:
    """A trial that leaves a file and starts from others."""
    labels = {"source": f"text/{n}", "method": "m", "target": "t", "seed": n}
    return Trial("train", {"do": "add", "n": n, **how}, {}, tuple(need.key for need in needs), labels)


FIRST = adds(1)
SECOND = adds(2)
USERS = [adds(n, FIRST, SECOND) for n in (10, 20, 30, 40)]
LAST = adds(100, *USERS)
CHAIN = (FIRST, SECOND, *USERS, LAST)


def sums(store: Store) -> list[int]:
    return [record.result["sum"] for record in store.records() if record.result is not None]


def file_of(trial: Trial, folder: Path) -> Path:
    return folder / next(iter(artefacts.place_artefacts(trial, {"content": b""})))


@pytest.mark.parametrize("harm", [flip, Path.unlink])
def test_a_damaged_file_is_made_again(run: Run, store: Store, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    trials = [adds(1, size=50), adds(2, size=50)]
    assert run(*trials).done == 2
    harm(file_of(trials[0], tmp_path))
    assert run(*trials).done == 1
    assert file_of(trials[0], tmp_path).read_bytes() == bytes(50)
    assert run(*trials).done == 0
    assert sums(store) == [1, 2]


@pytest.mark.parametrize("engine", [InlineEngine, Several])
def test_a_file_that_is_damaged_in_mid_study_is_made_again(
    run: Run, store: Store, tmp_path: Path, engine: type[InlineEngine]
) -> None:
    first = adds(1, size=50)
    users = [adds(n, first, SECOND) for n in (10, 20, 30, 40)]
    others = [adds(n) for n in (3, 4, 5)]  # take the room while the first is made again
    made: list[Trial] = []

    def mirror(trial: Trial, outcome: Outcome) -> None:
        made.append(trial)
        if trial == SECOND or (trial == users[0] and made.count(first) == 2):
            flip(file_of(first, tmp_path))

    ended = run(first, SECOND, users[0], *others, *users[1:], adds(100, *users), mirror=mirror, engine=engine)
    assert (ended.failed, ended.blocked) == (0, 0)
    times = Counter(made)
    assert times.pop(first) == 3
    assert set(times.values()) == {1}
    assert len(times) == 9
    assert sums(store) == [1, 2, 13, 3, 4, 5, 23, 33, 43, 212]
    assert file_of(first, tmp_path).read_bytes() == bytes(50)


def test_another_driver_may_run_another_plan(run: Run, store: Store) -> None:
    more = adds(7)

    def mirror(trial: Trial, outcome: Outcome) -> None:
        if trial == SECOND:
            store.register({"study": "tiny"}, [more, USERS[0]], [])
            with store.driving():
                assert store.claim([USERS[0].key]) is not None
                store.finish(USERS[0].key, Outcome({"sum": 13}), {})

    ended = run(*CHAIN, mirror=mirror)
    assert (ended.total, ended.done, ended.failed, ended.blocked) == (7, 6, 0, 0)
    assert set(store.states([trial.key for trial in CHAIN]).values()) == {"done"}
    assert store.states() == {more.key: "pending", USERS[0].key: "done"}


def test_what_waits_for_a_trial_that_failed_runs_after_a_retry(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Adder.add
    with monkeypatch.context() as patch:
        patch.setattr(Adder, "add", lambda self, n, **how: Failure("no", "") if n == 2 else add(self, n=n, **how))
        ended = run(*CHAIN)
    assert (ended.done, ended.failed, ended.blocked) == (1, 1, 5)
    assert run(*CHAIN).done == 0
    store.redo([SECOND.key], "failed")
    assert run(*CHAIN).done == 6
    assert sums(store)[-1] == 212


def test_an_interrupt_gives_trials_back(
    run: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Adder, inputs: Mapping[str, Outcome], n: int) -> Any:
        if n == 10:
            raise KeyboardInterrupt
        return {"sum": n}, {}, {}

    with monkeypatch.context() as patch:
        patch.setattr(Adder, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(*CHAIN)
    assert list(store.states().values()) == ["done"] * 2 + ["pending"] * 5
    assert not list((tmp_path / ".drivers").iterdir())
    assert run(*CHAIN).done == 5


def test_what_changed_stops_the_study(run: Run, store: Store) -> None:
    changes = Trial("train", {"do": "fail"}, {}, (), adds(0).labels)
    with pytest.raises(InputError, match="no"):
        run(FIRST, changes, SECOND)
    assert store.record(changes.key).state == "pending"


def test_a_full_disk_stops_a_study_that_then_goes_on(
    run: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        if path.name == ".write-check":
            return
        raise InputError(f"cannot write {path}: No space left on device. Free some space")

    with monkeypatch.context() as patch:
        patch.setattr(artefacts, "write_atomic", full)
        with pytest.raises(InputError, match=r"cannot write .*prompts/text/1-.*: No space left on device"):
            run(*CHAIN)
    assert set(store.states().values()) == {"pending"}
    assert run(*CHAIN).done == 7


def test_a_full_store_stops_a_study_that_then_goes_on(
    run: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(connection: Any, _: object) -> None:
        connection.execute("PRAGMA max_page_count=1")  # no less than there are

    def much(self: Adder, inputs: Mapping[str, Outcome], n: int) -> Any:
        return {"sum": n, "curve": [[epoch, 0.5] for epoch in range(20_000)]}, {}, {}

    with monkeypatch.context() as patch:
        patch.setattr(Adder, "add", much)
        sa.event.listen(sa.Engine, "connect", fill)
        try:
            with pytest.raises(InputError, match=r"study.sqlite: database or disk is full. Free some space and"):
                run(*CHAIN)
        finally:
            sa.event.remove(sa.Engine, "connect", fill)
    assert not store.outcomes([trial.key for trial in CHAIN])
    assert run(*CHAIN).done == 7


def test_a_worker_that_is_killed_costs_nothing(run: Run, store: Store, tmp_path: Path) -> None:
    dies = Trial("train", {"do": "die", "log": str(tmp_path / "log"), "times": 1}, {}, (), adds(0).labels)
    made: list[Trial] = []
    ended = run(
        dies,
        FIRST,
        SECOND,
        engine=lambda _: ProcessEngine(Resources(jobs=1), make_worker=Adder),
        mirror=lambda trial, _: made.append(trial),
    )
    assert (ended.done, ended.failed) == (3, 0)
    assert Counter(made) == Counter([dies, FIRST, SECOND])
    assert len((tmp_path / "log").read_text().split()) == 2


# real trials


@pytest.fixture
def place(tmp_path: Path, image_folder: Path, tiny_vit_folder: Path, tiny_study: TinyStudy) -> tuple[Path, Path, Any]:
    """Data, weights and a study of one trial on them."""
    data, model = tmp_path / "photos", tmp_path / "vit"
    shutil.copytree(image_folder, data)
    shutil.copytree(tiny_vit_folder, model)
    target = {"task": str(data), "n_train": 16, "n_val": 8, "n_test": 16}
    return data, model, tiny_study(backbones=[f"dir:{model}"], targets=[target], methods=["linear"], seeds=[0])


def alter(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(model / "model.safetensors")
    next(iter(tensors.values())).add_(1)
    save_file(tensors, model / "model.safetensors", {"format": "pt"})


def test_what_a_study_rests_on_may_not_change(place: Any, tmp_path: Path) -> None:
    data, model, spec = place
    store = Store(tmp_path, "tiny")
    run_study(plan_study(spec), store, InlineEngine(Resources()))
    found = store.records()

    def refused(told: str) -> None:
        with pytest.raises(InputError, match=told):
            run_study(plan_study(spec), store, InlineEngine(Resources()))
        assert store.records() == found

    first, second = data / "dark" / "00.png", data / "dark" / "01.png"
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    refused(f"data {data} changed since study tiny began: dark/00.png was altered. Put it back as it was, or start")
    first.unlink()
    refused(f"data {data} changed since study tiny began: dark/00.png is missing. Put it back")
    first.write_bytes(kept)
    shutil.copy(second, data / "light" / "new.png")
    refused(f"data {data} changed since study tiny began: light/new.png is new. Put it back")
    (data / "light" / "new.png").unlink()
    assert run_study(plan_study(spec), store, InlineEngine(Resources())).done == 0
    alter(model)
    refused(f"weights dir:{model} changed since study tiny began: its sha256 was")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda data, model: flip(data / "dark" / "00.png"), "data .*photos changed since the study was planned. Put"),
        (lambda data, model: shutil.rmtree(data), "data .*photos changed since the study was planned. Put"),
        (lambda data, model: alter(model), "dir:.*vit has other weights than the study was planned with. Put"),
        (lambda data, model: shutil.rmtree(model), "there is no folder .*vit to load a backbone from. Check"),
    ],
    ids=["data altered", "data removed", "weights altered", "weights removed"],
)
def test_what_changes_after_the_plan_is_seen(
    place: Any, tmp_path: Path, harm: Callable[[Path, Path], None], told: str
) -> None:
    data, model, spec = place
    plan = plan_study(spec)
    shutil.copytree(data, tmp_path / "kept" / "photos")
    shutil.copytree(model, tmp_path / "kept" / "vit")
    harm(data, model)
    store = Store(tmp_path, "tiny")
    with pytest.raises(InputError, match=told):
        run_study(plan, store, InlineEngine(Resources()))
    assert set(store.states().values()) == {"pending"}
    for folder in (data, model):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "kept" / folder.name, folder)
    assert run_study(plan_study(spec), store, InlineEngine(Resources())).done == 1


def test_no_clock_decides_anything(place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [2_000_000_000.0]

    def backwards() -> float:
        clock[0] -= 86_400
        return clock[0]

    class Backwards(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=backwards())

    monkeypatch.setattr(time, "time", backwards)
    monkeypatch.setattr(work, "datetime", Backwards)
    spec = place[2].model_copy(update={"seeds": (0, 1)})
    store = Store(tmp_path, "tiny")
    plan = plan_study(spec)
    assert run_study(plan, store, InlineEngine(Resources())).done == 2
    started = [record.measured["started"] for record in store.records() if record.measured]
    assert started == sorted(started, reverse=True)
    assert all(record.measured["seconds"] >= 0 for record in store.records() if record.measured)
    other = Store(tmp_path, "tiny")
    store.redo([plan.trials[0].key])
    with store.driving(), other.driving():
        assert store.claim([plan.trials[0].key])
        assert other.claim([plan.trials[0].key]) is None
    assert run_study(plan, store, InlineEngine(Resources())).done == 1


def test_a_trial_that_runs_out_of_memory_takes_a_smaller_batch(
    place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, batches = KINDS["train"], []
    errors = (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    )

    def narrow(task: work.Work) -> Outcome:
        seed = task.trial.identity["seed"]
        batches.append((seed, 8 // task.shrink))
        if seed == 3 or task.shrink < 4:
            raise errors[seed % 3]
        return train(task)

    method = {"method": "vpt", "prompt_length": 2}
    plan = plan_study(StudySpec.model_validate(place[2].model_dump() | {"methods": [method], "seeds": [3, 0, 1, 2]}))
    store = Store(tmp_path, "tiny")
    with monkeypatch.context() as patch:
        patch.setitem(KINDS, "train", narrow)
        ended = run_study(plan, store, InlineEngine(Resources()))
    assert batches == [(3, 8), (3, 4), (3, 2), (3, 1), *((seed, size) for seed in range(3) for size in (8, 4, 2))]
    assert (ended.done, ended.failed) == (3, 1)
    failed, *done = store.records()
    assert "CUDA out of memory" in str(failed.error)
    assert "Traceback" in str(failed.traceback)
    for record in done:
        assert record.result is not None
        assert record.result["notes"] == ["out of memory: batch size divided by 4"]
    assert store.redo([failed.key], "failed") == 1
    assert run_study(plan, store, InlineEngine(Resources())).done == 1
    assert store.records()[1:] == done
