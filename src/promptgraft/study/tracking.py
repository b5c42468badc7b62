"""Mirrors of a study's results: TensorBoard and MLflow show what the store holds; they are never read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from promptgraft.errors import InputError
from promptgraft.files import canonical_json
from promptgraft.registry import Registry
from promptgraft.study.trial import Outcome, Trial

Mirror = Callable[[Trial, Outcome], None]

TRACKERS: Registry[Callable[[Path, str], Mirror]] = Registry(
    "tracker",
    {
        "tensorboard": "promptgraft.study.tracking:tensorboard",
        "mlflow": "promptgraft.study.tracking:mlflow",
    },
)


def tensorboard(folder: Path, study: str) -> Mirror:
    """Writes scalars and settings under `tensorboard/` in the study's folder, one run per trial.

    Raises:
        InputError: tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise _missing("tensorboard") from error

    def mirror(trial: Trial, outcome: Outcome) -> None:
        with SummaryWriter(str(folder / "tensorboard" / f"{_name(trial)}-{trial.key[:8]}")) as writer:
            for epoch, train_loss, val_loss, val_accuracy in outcome.result.get("curve", ()):
                for name, value in (
                    ("train/loss", train_loss),
                    ("val/loss", val_loss),
                    ("val/accuracy", val_accuracy),
                ):
                    if value is not None:
                        writer.add_scalar(name, value, epoch)
            for name, value in _numbers(outcome).items():
                writer.add_scalar(f"trial/{name}", value, 0)
            writer.add_text("trial", f"`{canonical_json(dict(trial.labels) | {'key': trial.key})}`")

    return mirror


def mlflow(folder: Path, study: str) -> Mirror:
    """Logs one MLflow run per trial, in the experiment of the study's name, at MLFLOW_TRACKING_URI.

    Raises:
        InputError: mlflow is not installed, or its server cannot be reached.
    """
    try:
        from mlflow.client import MlflowClient
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise _missing("mlflow") from error
    try:
        client = MlflowClient()
        known = client.get_experiment_by_name(study)
        experiment = client.create_experiment(study) if known is None else known.experiment_id
    except MlflowException as error:
        raise InputError(f"mlflow: {str(error).splitlines()[0]} Check MLFLOW_TRACKING_URI.") from error

    def mirror(trial: Trial, outcome: Outcome) -> None:
        run = client.create_run(experiment, run_name=f"{_name(trial)}-{trial.key[:8]}").info.run_id
        metrics = [Metric(name, value, 0, 0) for name, value in _numbers(outcome).items()]
        for epoch, train_loss, val_loss, val_accuracy in outcome.result.get("curve", ()):
            lines = (("train_loss", train_loss), ("val_loss", val_loss), ("curve_val_accuracy", val_accuracy))
            metrics += [Metric(name, value, 0, epoch) for name, value in lines if value is not None]
        params = [Param(name, str(value)) for name, value in trial.labels.items() if value is not None]
        tags = [RunTag("trial", trial.key), RunTag("kind", trial.kind)]
        client.log_batch(run, metrics=metrics, params=params, tags=tags)
        client.set_terminated(run)

    return mirror


def _numbers(outcome: Outcome) -> dict[str, float]:
    """The single numbers of a result, and what they cost."""
    names = ("val_accuracy", "test_accuracy", "parameters", "epochs")
    found: dict[str, Any] = {name: outcome.result.get(name) for name in names}
    found |= {name: outcome.measured.get(name) for name in ("seconds", "peak_memory")}
    return {name: float(value) for name, value in found.items() if value is not None}


def _name(trial: Trial) -> str:
    labels = trial.labels
    parts = [labels.get("method") or labels.get("estimator"), labels.get("source"), labels["target"], labels["seed"]]
    text = "-".join(str(part) for part in parts if part is not None)
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text)


def _missing(name: str) -> InputError:
    return InputError(f"`--track {name}` needs {name}: pip install 'promptgraft[tracking]'.")
