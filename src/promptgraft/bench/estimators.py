"""How well estimators that compare prompts predict the transfer that was measured between them.

The ground truth is a folder shaped like the published one of Su et al., "On Transferability of Prompt Tuning for
Natural Language Processing": `<model>/<task>.pt`, and `transfer_accuracy.tsv` with the accuracy of every source prompt
on every target task of the same model.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from promptgraft.errors import InputError
from promptgraft.exchange.thunlp import TASKS, dead_rows, read_rows
from promptgraft.files import path_text
from promptgraft.transferability.base import ESTIMATORS, Evidence
from promptgraft.transferability.evaluate import kendall, spearman
from promptgraft.transferability.resampling import agreement_interval

TABLE = "transfer_accuracy.tsv"
KEPT = " (dead rows kept)"

Floats = NDArray[np.float64]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Agreement:
    """One estimator on one model: means over targets of rank correlations x 100, the target's own prompt left out.

    low, high: the 95 % interval of `spearman`, by the bootstrap over targets and sources; None where an estimator ties
    all sources of a target, which counts as a correlation of 0.
    """

    model: str
    estimator: str
    spearman: float
    kendall: float
    low: float | None
    high: float | None
    targets: int


@dataclass(frozen=True)
class Measured:
    """One model: prompts by task, and the accuracy of M sources on T targets, (T, M), NaN where there is none."""

    model: str
    prompts: Mapping[str, NDArray[np.float32]]
    accuracy: pd.DataFrame


def default_folder() -> Path:
    """The published prompts: `data/thunlp` in the folder PROMPTGRAFT_SHARED, else in `../shared`."""
    return Path(os.environ.get("PROMPTGRAFT_SHARED") or "../shared") / "data" / "thunlp"


def read_measured(folder: Path) -> list[Measured]:
    """Read every model of a folder that has both prompts and accuracies.

    A model or a task that has only one of the two is left out, with a warning. So is a target on which all sources
    score alike.

    Raises:
        InputError: the folder, its table or a prompt is missing or of no use; or no model is left.
    """
    table = _read_table(folder / TABLE)
    files = {path.name: sorted(path.glob("*.pt")) for path in sorted(folder.iterdir()) if path.is_dir()}
    found = []
    for model in sorted(files.keys() | set(table["model"])):
        prompts = {path.stem: path for path in files.get(model, [])}
        rows = table[table["model"] == model]
        known = rows["target"].isin(prompts) & rows["source"].isin(prompts) & (rows["target"] != rows["source"])
        lacking = sorted({*rows["target"], *rows["source"]} - prompts.keys())
        if lacking and prompts:
            _leave_out(f"{model}: no prompt of {', '.join(lacking)}")
        accuracy = rows[known].pivot(index="target", columns="source", values="accuracy")
        ranked = accuracy.nunique(axis=1) > 1
        if not ranked.any():
            _leave_out(f"{model}: no accuracies of its prompts" if prompts else f"{model}: no prompts")
            continue
        if not ranked.all():
            _leave_out(f"{model}: all sources are alike on {', '.join(accuracy.index[~ranked])}")
        needed = sorted({*accuracy.index[ranked], *accuracy.columns})
        found.append(Measured(model, {name: read_rows(prompts[name]) for name in needed}, accuracy[ranked]))
    if not found:
        raise InputError(f"{path_text(folder)} has no model with both prompts and accuracies in {TABLE}.")
    return found


def agreements(measured: Measured, progress: Progress = lambda note: None) -> list[Agreement]:
    """Every registered estimator that looks at prompts only, and `volume` where all training sizes are known.

    Where rows of the model's prompts are dead, each estimator is run without them, and with them under its name with
    " (dead rows kept)".

    Args:
        measured: one model.
        progress: called with each name in turn.

    Returns:
        One row per estimator, best `spearman` first.
    """
    dead = list(dead_rows(measured.model))
    versions = {"": {name: np.delete(rows, dead, axis=0) for name, rows in measured.prompts.items()}}
    if dead:
        versions[KEPT] = dict(measured.prompts)
    found = []
    for name in ESTIMATORS:
        for suffix, prompts in versions.items() if ESTIMATORS[name].needs in ("prompt", "target prompt") else ():
            progress(f"{measured.model} {name}")
            scores = _scores(name, prompts, measured.accuracy)
            if scores is not None:
                found.append(_agreement(measured, name + suffix, scores))
    if all(source in TASKS for source in measured.accuracy.columns):
        counts = np.array([TASKS[source].n_train for source in measured.accuracy.columns], dtype=np.float64)
        found.append(_agreement(measured, "volume", np.tile(counts, (len(measured.accuracy), 1))))
    return sorted(found, key=lambda row: -row.spearman)


class _NotOfPromptsError(Exception):
    """An estimator asked for what no folder of prompts has: tokens or neurons of a model."""


def _absent(*_: object) -> NDArray[np.float32]:
    raise _NotOfPromptsError


def _scores(name: str, prompts: Mapping[str, NDArray[np.float32]], accuracy: pd.DataFrame) -> Floats | None:
    """Scores of sources on targets, (T, M), NaN for a target's own prompt; None where prompts do not suffice."""
    scores = pd.DataFrame(np.nan, accuracy.index, accuracy.columns)
    for target in accuracy.index:
        others = [source for source in accuracy.columns if source != target]
        evidence = Evidence(
            prompts=[prompts[source] for source in others],
            cards=[],
            embed_patches=_absent,
            tune_prompt=partial(prompts.__getitem__, target),
            activate=_absent,
        )
        try:
            scores.loc[target, others] = ESTIMATORS[name].score(evidence)
        except _NotOfPromptsError:
            return None
    return scores.to_numpy(dtype=np.float64)


def _agreement(measured: Measured, name: str, scores: Floats) -> Agreement:
    reached = measured.accuracy.to_numpy(dtype=np.float64)
    there = np.isfinite(scores) & np.isfinite(reached)
    pairs = [(ours[known], theirs[known]) for ours, theirs, known in zip(scores, reached, there, strict=True)]
    ranked = [pair for pair in pairs if all(len(values) > 1 and np.ptp(values) > 0 for values in pair)]
    interval = None
    if len(ranked) == len(pairs):
        interval = agreement_interval(scores, reached, measure="spearman")
    return Agreement(
        model=measured.model,
        estimator=name,
        spearman=sum(spearman(*pair) for pair in ranked) / len(pairs),
        kendall=sum(kendall(*pair) for pair in ranked) / len(pairs),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        targets=len(pairs),
    )


def _read_table(path: Path) -> pd.DataFrame:
    cure = f"--data takes a folder with a sub-folder of .pt prompts per model and a {TABLE}."
    if not path.is_file():
        raise InputError(f"there is no file {path_text(path)}. {cure} PROMPTGRAFT_SHARED moves the default.")
    columns = {"model": str, "target": str, "source": str, "accuracy": float}
    try:
        table = pd.read_csv(path, sep="\t", dtype=columns, keep_default_na=False)
        table = table[list(columns)]
    except (KeyError, ValueError, OSError) as error:  # ValueError: also what pandas raises of its own
        raise InputError(
            f"{path_text(path)} is not a table with the tab-separated columns {', '.join(columns)} ({error}). {cure}"
        ) from error
    if not np.isfinite(table["accuracy"]).all():
        raise InputError(f"{path_text(path)} holds an accuracy that is not finite. Leave such lines out.")
    twice = table[table.duplicated(["model", "target", "source"])]
    if len(twice):
        model, target, source = twice.iloc[0][["model", "target", "source"]]
        raise InputError(f"{path_text(path)} has two accuracies of {model} from {source} to {target}. Keep one.")
    return table


def _leave_out(what: str) -> None:
    warnings.warn(f"left out of the bench: {what}", UserWarning, stacklevel=3)
