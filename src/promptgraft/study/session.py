"""Run the study in a folder: what `promptgraft study run` does, for Python."""

from collections.abc import Sequence
from pathlib import Path

from promptgraft.study.document import read_spec
from promptgraft.study.drive import Summary, run_study
from promptgraft.study.engines.base import ENGINES, Resources
from promptgraft.study.folder import study_document
from promptgraft.study.plan import plan_study
from promptgraft.study.store import Store
from promptgraft.study.tracking import TRACKERS


def run_folder(
    folder: Path,
    *,
    on: str = "inline",
    jobs: int | None = None,
    device: str = "cpu",
    gpus: float = 0.0,
    url: str | None = None,
    track: Sequence[str] = (),
) -> Summary:
    """Run what is missing of the study in `folder`; stopped or killed, the same call goes on.

    Args:
        folder: holds `study.yaml`.
        on: `inline`, `processes`, `ray` (starts a local one), or `ray://host:port` to join a cluster.
        jobs: trials at a time; None for as many as there is room for.
        device: such as `cpu` or `cuda`.
        gpus: share of a GPU that each trial takes (Ray); trials then run on `cuda`.
        url: of a PostgreSQL database instead of `study.sqlite`.
        track: names of trackers that are shown every result.

    Raises:
        InputError: names the thing and the cure.
    """
    spec = read_spec(study_document(folder))
    name, address = ("ray", on) if on.startswith("ray://") else (on, None)
    engine = ENGINES[name]
    mirrors = tuple(TRACKERS[tracker](folder, spec.study) for tracker in track)
    plan = plan_study(spec)
    device = "cuda" if gpus and device == "cpu" else device
    resources = Resources(jobs=jobs, threads=spec.threads, device=device, gpus=gpus, address=address)
    return run_study(plan, Store(folder, spec.study, url), engine(resources), mirrors)
