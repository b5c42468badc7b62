"""What TensorBoard and MLflow are shown."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from promptgraft.errors import InputError
from promptgraft.study.drive import run_study
from promptgraft.study.engines.base import Resources
from promptgraft.study.engines.inline import InlineEngine
from promptgraft.study.plan import plan_study
from promptgraft.study.spec import StudySpec
from promptgraft.study.store import Store
from promptgraft.study.tracking import TRACKERS
from promptgraft.study.trial import Outcome, Trial

LABELS = {"backbone": "vit", "target": "my/photos", "method": "vpt deep", "source": None, "seed": 1}
TRIAL = Trial("train", {"n": 1}, labels=LABELS)
OUTCOME = Outcome(
    {"val_accuracy": 0.5, "test_accuracy": 0.25, "epochs": 1, "curve": [[0, None, 1.5, 0.25], [1, 0.75, 1.25, 0.5]]},
    {"seconds": 2.0, "peak_memory": None},
)
ESTIMATE = Trial("estimate", {"n": 2}, labels={"target": "photos", "estimator": "norm", "sources": ["a"], "seed": 0})


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    mirror = TRACKERS["tensorboard"](tmp_path, "s")
    mirror(TRIAL, OUTCOME)
    mirror(ESTIMATE, Outcome({"scores": [1.0]}, {"seconds": 1.0}))
    runs = sorted(folder.name for folder in (tmp_path / "tensorboard").iterdir())
    assert runs == sorted([f"vpt_deep-my_photos-1-{TRIAL.key[:8]}", f"norm-photos-0-{ESTIMATE.key[:8]}"])
    read = EventAccumulator(str(tmp_path / "tensorboard" / f"vpt_deep-my_photos-1-{TRIAL.key[:8]}"))
    read.Reload()
    found = {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    assert found == {
        "train/loss": [(1, 0.75)],
        "val/loss": [(0, 1.5), (1, 1.25)],
        "val/accuracy": [(0, 0.25), (1, 0.5)],
        "trial/val_accuracy": [(0, 0.5)],
        "trial/test_accuracy": [(0, 0.25)],
        "trial/epochs": [(0, 1.0)],
        "trial/seconds": [(0, 2.0)],
    }
    assert TRIAL.key.encode() in read.Tensors("trial/text_summary")[0].tensor_proto.string_val[0]


@pytest.fixture
def mlflow_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of a file store of this test's own."""
    pytest.importorskip("mlflow")
    from mlflow.client import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield MlflowClient()


def test_mlflow_reads_what_was_logged(mlflow_client: Any, tmp_path: Path) -> None:
    for _ in range(2):  # the experiment is there the second time
        TRACKERS["mlflow"](tmp_path, "my-study")(TRIAL, OUTCOME)
    experiment = mlflow_client.get_experiment_by_name("my-study")
    runs = mlflow_client.search_runs([experiment.experiment_id])
    assert len(runs) == 2
    run = runs[0]
    assert run.info.run_name == f"vpt_deep-my_photos-1-{TRIAL.key[:8]}"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"backbone": "vit", "target": "my/photos", "method": "vpt deep", "seed": "1"}
    assert {"trial": TRIAL.key, "kind": "train"}.items() <= run.data.tags.items()
    single = {"val_accuracy": 0.5, "test_accuracy": 0.25, "epochs": 1.0, "seconds": 2.0}
    last = {"train_loss": 0.75, "val_loss": 1.25, "curve_val_accuracy": 0.5}
    assert run.data.metrics == single | last
    curve = mlflow_client.get_metric_history(run.info.run_id, "val_loss")
    assert [(point.step, point.value) for point in curve] == [(0, 1.5), (1, 1.25)]


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "nonsense://x"])
def test_an_mlflow_that_does_not_answer_is_named(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match=r"(?s)^mlflow: .*Check MLFLOW_TRACKING_URI\.$"):
        TRACKERS["mlflow"](tmp_path, "s")


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_tracker_that_is_not_installed_names_the_cure(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [m for m in sys.modules if m.split(".")[0] == name or m.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"`--track {name}` needs {name}: pip install 'promptgraft\[tracking\]'"):
        TRACKERS[name](tmp_path, "s")


def test_an_unknown_tracker_is_named() -> None:
    with pytest.raises(InputError, match=r"no tracker named 'tensorbord'\. Did you mean 'tensorboard'\?"):
        TRACKERS["tensorbord"]


def test_every_new_result_is_mirrored_and_a_broken_mirror_stops_nothing(
    tmp_path: Path, tiny_study: Callable[..., StudySpec]
) -> None:
    plan = plan_study(tiny_study(methods=["linear"]))
    store = Store(tmp_path, "tiny")
    shown: list[tuple[str, Any]] = []

    def broken(trial: Trial, outcome: Outcome) -> None:
        raise RuntimeError("the server is down\nand more")

    def working(trial: Trial, outcome: Outcome) -> None:
        shown.append((trial.key, outcome.result))

    with pytest.warns(UserWarning, match="^a tracker missed a result: the server is down$"):
        run_study(plan, store, InlineEngine(Resources()), (broken, working))
    assert shown == [(record.key, record.result) for record in store.records()]
    run_study(plan, store, InlineEngine(Resources()), (working,))
    assert len(shown) == len(plan.trials)  # what was done before is not shown again
    store.close()
