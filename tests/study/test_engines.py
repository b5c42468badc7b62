import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from drivers import hear_interrupts
from stand_in import StandIn, order

from promptgraft.errors import InputError
from promptgraft.study.engines import inline
from promptgraft.study.engines.base import ENGINES, LOST_AT_MOST, Engine, Resources
from promptgraft.study.trial import Failure, Outcome, Trial

PARALLEL = sorted(set(ENGINES) - {"inline"})
MakeEngine = Callable[..., Engine]
HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def local_ray() -> Generator[None, None, None]:
    """A Ray of this machine for all tests of this file."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", HERE)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture
def make_engine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> MakeEngine:
    """`make_engine(name, **resources)`: an engine with the stand-in for a worker."""

    def make(name: str, **resources: Any) -> Engine:
        if name == "inline":
            monkeypatch.setattr(inline, "Worker", StandIn)
            return ENGINES[name](Resources(**resources))
        if name == "ray":
            request.getfixturevalue("local_ray")
        return ENGINES[name](Resources(**resources), make_worker=StandIn)

    return make


def run(engine: Engine, *trials: Trial, inputs: Mapping[str, Outcome] | None = None) -> list[Any]:
    """What trials make, in their order; as many at a time as there are slots."""
    ended: dict[Trial, Outcome | Failure] = {}
    waiting = list(trials)
    while len(ended) < len(trials):
        while waiting and len(trials) - len(waiting) - len(ended) < engine.slots:
            engine.submit(waiting.pop(0), inputs or {})
        ended.update(engine.wait(timeout=60))
    return [ended[trial] for trial in trials]


def gone(pid: int, within: float = 10) -> bool:
    for _ in range(int(within / 0.1)):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def awaited(log: Path, engine: Engine | None = None) -> tuple[int, Path]:
    """Process and temporary folder of a trial that sleeps, as soon as it does."""
    for _ in range(600):
        if log.exists():
            pid, folder = log.read_text().split()
            return int(pid), Path(folder)
        if engine is None:
            time.sleep(0.1)
        else:
            assert not list(engine.wait(timeout=0.1))
    raise AssertionError("the trial did not start")


@pytest.mark.parametrize("name", ENGINES)
def test_trials_make_what_they_make_inline(make_engine: MakeEngine, name: str) -> None:
    inputs = {
        "small": Outcome({"sum": 1}, artefacts={"content": b"small"}),
        "large": Outcome({"sum": 10}, artefacts={"content": bytes(300_000)}),
    }
    trials = [order("add", n=100, size=number) for number in range(4)]
    with make_engine(name, jobs=2) as engine:
        made = run(engine, *trials, inputs=inputs)
        assert engine.slots == (1 if name == "inline" else 2)
        assert run(engine, order("fail")) == [Failure("no", "Traceback: no", changed=True)]
        assert list(engine.wait(timeout=0)) == []
    for number, outcome in enumerate(made):
        assert outcome.result == {"sum": 111, "keys": ["small", "large"]}
        assert outcome.artefacts == {"content": b"small" + bytes(300_000 + number)}
    if name != "inline":
        assert os.getpid() not in {outcome.measured["pid"] for outcome in made}


@pytest.mark.parametrize("name", PARALLEL)
def test_trials_run_at_the_same_time_and_workers_stay(make_engine: MakeEngine, name: str, tmp_path: Path) -> None:
    a, b, c, d = (str(tmp_path / letter) for letter in "abcd")
    with make_engine(name, jobs=2) as engine:
        first = run(engine, order("meet", mine=a, other=b), order("meet", mine=b, other=a))
        second = run(engine, order("meet", mine=c, other=d), order("meet", mine=d, other=c))
    pids = [{outcome.result["pid"] for outcome in made} for made in (first, second)]
    assert len(pids[0]) == 2
    assert pids[0] == pids[1]


@pytest.mark.parametrize("name", PARALLEL)
def test_a_trial_whose_worker_is_killed_is_run_again(make_engine: MakeEngine, name: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with make_engine(name, jobs=1) as engine:
        (outcome,) = run(engine, order("die", log=str(log), times=LOST_AT_MOST - 1))
    assert outcome.result == {"done": True}
    assert len(set(log.read_text().split())) == LOST_AT_MOST


@pytest.mark.parametrize("name", PARALLEL)
def test_a_trial_that_always_kills_its_worker_fails_alone(make_engine: MakeEngine, name: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with make_engine(name, jobs=1) as engine:
        failure, outcome = run(engine, order("die", log=str(log), times=99), order("add", n=1))
    assert failure.message.startswith(f"its worker died {LOST_AT_MOST} times")
    assert "Run fewer trials at a time" in failure.message
    assert len(log.read_text().split()) == LOST_AT_MOST
    assert outcome.result["sum"] == 1


@pytest.mark.parametrize("name", PARALLEL)
def test_leaving_stops_what_runs(make_engine: MakeEngine, name: str, tmp_path: Path) -> None:
    with make_engine(name, jobs=2) as engine:
        engine.submit(order("sleep", log=str(tmp_path / "log")), {})
        pid, folder = awaited(tmp_path / "log", engine)
        assert folder.exists()
    assert gone(pid)
    if name == "processes":
        assert not folder.exists()


@pytest.mark.parametrize("name", PARALLEL)
def test_workers_get_threads_device_and_settings(
    make_engine: MakeEngine, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PROMPTGRAFT_CACHE", "somewhere")
    with make_engine(name, jobs=1, threads=2, device="meta") as engine:
        (outcome,) = run(engine, order("shout"))
    settings = {"OMP_NUM_THREADS": "2", "PROMPTGRAFT_PROGRESS": "0", "PROMPTGRAFT_CACHE": "somewhere"}
    assert outcome.result == settings
    assert outcome.measured == {"threads": 2, "device": "meta"}
    assert "a trial says something" not in capfd.readouterr().out


DRIVER = """  # no `if __name__ == "__main__"`: scripts and notebooks have none either
import sys
sys.path.insert(0, {here!r})
from stand_in import StandIn, order
from promptgraft.study.engines.base import ENGINES, Resources
with ENGINES[{name!r}](Resources(jobs=1), make_worker=StandIn) as engine:
    engine.submit(order("add", n=1), {{}})
    print([outcome.result["sum"] for _, outcome in engine.wait()], flush=True)
    engine.submit(order("sleep", log={log!r}), {{}})
    list(engine.wait())
"""


@pytest.fixture
def drive(tmp_path: Path) -> Generator[Callable[[str], AbstractContextManager[subprocess.Popen[str]]], None, None]:
    """`drive(name)`: another process whose engine is at a trial that sleeps, its script read from standard input."""
    drivers = []

    def start(name: str) -> subprocess.Popen[str]:
        if name == "ray":
            pytest.importorskip("ray")
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        driver = subprocess.Popen(
            [sys.executable, "-"], text=True, cwd=tmp_path, start_new_session=True, preexec_fn=hear_interrupts, **pipes
        )
        drivers.append(driver)
        assert driver.stdin is not None
        driver.stdin.write(DRIVER.format(here=HERE, name=name, log=str(tmp_path / "log")))
        driver.stdin.close()
        driver.stdin = None
        return driver

    yield start  # type: ignore[misc]
    for driver in drivers:
        driver.kill()
        driver.communicate()


@pytest.mark.parametrize("name", PARALLEL)
def test_workers_end_with_a_driver_that_is_killed(drive: Any, name: str, tmp_path: Path) -> None:
    driver = drive(name)
    pid, folder = awaited(tmp_path / "log")
    driver.kill()
    assert gone(pid)
    assert driver.communicate(timeout=20)[0].startswith("[1]\n")  # Ray may add that it lost the worker
    if name == "processes":
        assert not folder.exists()


def test_ctrl_c_is_for_the_driver(drive: Any, tmp_path: Path) -> None:
    driver = drive("processes")
    pid, _ = awaited(tmp_path / "log")
    os.killpg(driver.pid, signal.SIGINT)
    _, noise = driver.communicate(timeout=20)
    assert driver.returncode == -signal.SIGINT
    assert noise.count("Traceback") == 1
    assert noise.rstrip().endswith("KeyboardInterrupt")
    assert gone(pid, within=1)


def test_ray_says_what_it_cannot_do(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"a trial takes 1 CPUs and 8 GPUs, and no node"), make_engine("ray", gpus=8):
        pass
    with pytest.raises(InputError, match="--gpus-per-trial 1"):
        make_engine("ray", device="cuda")
    with make_engine("ray", threads=2) as engine:
        assert engine.slots == 1  # of 2 cores
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "promptgraft.study.engines.ray")
    with pytest.raises(InputError, match=r"needs Ray: pip install 'promptgraft\[ray\]'"):
        ENGINES["ray"]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1", "ray://nowhere.invalid:1"])
def test_ray_names_an_address_that_does_not_answer(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    engine = ENGINES["ray"](Resources(address=address))
    with (
        pytest.raises(InputError, match=f"cannot join the Ray cluster at {address}: .* Name a head that answers"),
        engine,
    ):
        pass


@pytest.mark.parametrize(
    ("node", "resources", "room"),
    [
        ({"CPU": 5.0}, Resources(threads=2), 2),
        ({"CPU": 8.0, "GPU": 2.0}, Resources(gpus=0.3), 6),
        ({"CPU": 8.0, "GPU": 1.0}, Resources(gpus=0.1), 8),
        ({"CPU": 8.0, "GPU": 5.0}, Resources(gpus=2), 2),
        ({"CPU": 8.0}, Resources(gpus=1), 0),
    ],
)
def test_room_on_a_node(node: dict[str, float], resources: Resources, room: int) -> None:
    pytest.importorskip("ray")
    from promptgraft.study.engines.ray import _room

    assert _room(node, resources) == room


def test_jobs_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    assert Resources().jobs_here() == 8
    assert Resources(threads=3).jobs_here() == 2
    assert Resources(threads=9).jobs_here() == 1
    assert Resources(jobs=5, threads=9).jobs_here() == 5
    assert Resources(device="cuda").jobs_here() == 1
