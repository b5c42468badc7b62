"""Why a finished run learned little: its scores, its learning curve, and how far its prompt moved."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from promptgraft.card import Score
from promptgraft.doctor.prompt import STILL, compare_scores, known_start
from promptgraft.errors import PromptFileError
from promptgraft.files import canonical_json, read_file, read_json
from promptgraft.prompt import SoftPrompt
from promptgraft.readme import printable
from promptgraft.tasks.findings import SEVERITIES, Finding, counted
from promptgraft.tuning.adapted import INFO_LIMIT, PROMPT_FOLDER, AdaptedInfo, read_info
from promptgraft.tuning.fit import Epoch
from promptgraft.tuning.method import METHODS

RESULT_FILE = "result.json"
ROSE, FLAT = 1.1, 0.98
"""Last training loss over the first: from here it rose, or up to here it did not fall."""
FEW = 100
"""Validation examples below which an accuracy is rough."""


@dataclass(frozen=True)
class RunCheck:
    """What is known of a run.

    scores: by split; "val_head" is the linear head without the prompt. drift: |prompt - start| / |start|, None where
    the start is not known. curve: epoch by epoch, of what `curve_of` says: the model's own, or, where `adapt` found
    nothing better than the head alone, that of the best other candidate. best_epoch: of the curve, the one that was
    kept, counted from 0, the start.
    """

    path: str
    task: str
    method: str
    epochs: int
    scores: dict[str, Score]
    drift: float | None
    curve_of: str
    curve: tuple[Epoch, ...]
    best_epoch: int | None
    findings: tuple[Finding, ...]


def check_run(folder: Path, *, library: str | None = None) -> RunCheck:
    """Look over the folder of a model that `adapt`, `tune` or `transfer` wrote; the backbone is not loaded.

    Args:
        folder: of the model; what `adapt` wrote has all candidates in its `result.json`.
        library: where a prompt's parent is looked for.

    Raises:
        PromptFileError: the folder holds no adapted model, or a damaged one.
    """
    (info, _), result = read_info(folder), _result(folder)
    prompt = SoftPrompt.load(folder / PROMPT_FOLDER) if (folder / PROMPT_FOLDER).exists() else None
    scores = _scores(info, result)
    shown = _curve(info, result)
    head_only = METHODS[info.method].head_only
    drift = None if prompt is None else _drift(prompt, library)
    findings = compare_scores(scores) if prompt is not None else []
    told = check_curve(shown.history, shown.best_epoch, info.training.recipe)
    if head_only:
        cure = f"The curve is that of {shown.label}, the best of the others." if shown.history else "It has no curve."
        findings.append(Finding("note", f"method {info.method!r} trains nothing but a head", cure))
        told = [replace(finding, what=f"{shown.label}: {finding.what}") for finding in told]
    elif not shown.history:
        what = "no learning curve was kept"
        findings.append(Finding("note", what, "A model that is trained anew keeps it."))
    findings += told
    findings += _predictions(result.confusion)
    if drift is not None and drift < STILL:
        what = f"the prompt moved by {drift:.1%} of its start's norm"
        findings.append(Finding("warning", what, "Train longer, or raise the recipe's lr."))
    if 0 < (size := scores["val"].n if "val" in scores else 0) < FEW:
        what = f"{counted(size, 'validation example')}: its accuracy is rough"
        findings.append(Finding("note", what, "Ask for more with --n-val, or go by several seeds."))
    for row in result.candidates:
        if row.status == "failed":
            findings.append(Finding("warning", f"candidate {row.method} failed: {row.reason}", ""))
    return RunCheck(
        path=str(folder),
        task=info.task.name,
        method=info.method,
        epochs=info.training.epochs,
        scores=scores,
        drift=drift,
        curve_of=shown.label,
        curve=shown.history,
        best_epoch=shown.best_epoch,
        findings=tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
    )


def check_curve(curve: Sequence[Epoch], best: int | None, recipe: Mapping[str, Any]) -> list[Finding]:
    """What a learning curve tells: loss that rose or stood still, a start that nothing beat, an end too soon.

    Args:
        curve: epoch 0 is the start, before any step.
        best: the epoch that was kept.
        recipe: how it was trained, for its learning rate.
    """
    losses = [line.train_loss for line in curve if line.train_loss is not None]
    if len(losses) < 2:
        return []
    lr = recipe.get("lr")
    findings, rate = [], f"lr {lr:g}" if isinstance(lr, int | float) else "its lr"
    fell = losses[-1] / max(losses[0], 1e-12)
    if fell > ROSE:
        what = f"the training loss rose from {losses[0]:.3g} to {losses[-1]:.3g} with {rate}"
        findings.append(Finding("warning", what, "The learning rate is too high: try a third of it."))
    elif fell > FLAT:
        what = f"the training loss stood still: {losses[0]:.3g} to {losses[-1]:.3g} with {rate}"
        findings.append(Finding("warning", what, "Raise the learning rate threefold, or train longer."))
    last = curve[-1].epoch
    if best == 0:
        what = f"no epoch of {last} was better on validation than the start, which was kept"
        cure = "The head alone does as well here; else lower the learning rate, or take more validation examples."
        findings.append(Finding("warning", what, cure))
    elif best == last and recipe.get("keep", "best") == "best":
        what = f"the last epoch, {last}, was the best on validation"
        findings.append(Finding("note", what, "More epochs may help: --epochs."))
    validation = [line.val_loss for line in curve if line.val_loss is not None]
    if validation and fell <= FLAT and validation[-1] > ROSE * min(validation) and min(validation) < validation[0]:
        what = f"the validation loss rose again, from {min(validation):.3g} to {validation[-1]:.3g}"
        findings.append(Finding("note", what, "It overfits: a shorter prompt, more data, or weight decay."))
    return findings


class _Read(BaseModel):
    """A part of `result.json`; what is not looked at is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Candidate(_Read):
    method: str
    layers: str | None = None
    source: str | None = None
    winner: bool = False
    status: str | None = None
    reason: str | None = None
    val_accuracy: Score | None = None
    best_epoch: int | None = None
    history: tuple[Epoch, ...] = ()

    @property
    def label(self) -> str:
        """Such as "vpt deep" or "initial of vision/digits"."""
        named = self.method if self.layers is None else f"{self.method} {self.layers}"
        return named if self.source is None else f"{named} of {self.source}"


class _Probe(_Read):
    val_accuracy: Score | None = None


class _Confusion(_Read):
    """matrix: counts, true classes in rows, predicted ones in columns. classes: their names."""

    matrix: tuple[tuple[int, ...], ...] = ()
    classes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_square(self) -> "_Confusion":
        if {len(self.classes)} != {len(self.matrix), *map(len, self.matrix)}:
            raise ValueError("the matrix has not a row and a column for each class")
        return self


class _Result(_Read):
    val_accuracy: Score | None = None
    linear_probe: _Probe = _Probe()
    candidates: tuple[_Candidate, ...] = ()
    confusion: _Confusion = _Confusion()


def _result(folder: Path) -> _Result:
    """What `adapt` wrote; empty where it did not."""
    path = folder / RESULT_FILE
    try:
        return _Result.model_validate_json(canonical_json(read_json(read_file(path, INFO_LIMIT))), strict=True)
    except FileNotFoundError:
        return _Result()
    except (OSError, ValueError) as error:
        first = printable(str(error).partition("\n")[0])[:200]
        raise PromptFileError(f"{path} is damaged ({first}). Get an unaltered copy.") from error


def _curve(info: AdaptedInfo, result: _Result) -> _Candidate:
    """What the learning curve is shown of: the winner of a race, else the best that was trained; else the model."""
    trained = [row for row in result.candidates if row.history]
    if not trained:
        return _Candidate(
            method=info.method,
            layers=info.layers if METHODS[info.method].layers else None,  # as a race's rows have it
            source=info.source,
            best_epoch=info.best_epoch,
            history=info.curve,
        )
    return max(trained, key=lambda row: (row.winner, -1.0 if row.val_accuracy is None else row.val_accuracy.value))


def _scores(info: AdaptedInfo, result: _Result) -> dict[str, Score]:
    scores = dict(info.training.scores)
    for name, score in (("val", result.val_accuracy), ("val_head", result.linear_probe.val_accuracy)):
        if score is not None:
            scores.setdefault(name, score)
    return scores


def _drift(prompt: SoftPrompt, library: str | None) -> float | None:
    start = known_start(prompt.card, library)
    return None if start is None else ((prompt.tensor - start).norm() / start.norm().clamp(min=1e-12)).item()


def _predictions(confusion: _Confusion) -> list[Finding]:
    """Whether one class takes all answers on the test split."""
    columns = [sum(column) for column in zip(*confusion.matrix, strict=True)]
    named = list(itertools.compress(confusion.classes, columns))
    if len(columns) < 2 or len(named) != 1:
        return []
    what = f"all {sum(columns):,} test examples are taken for {named[0]!r}"
    return [Finding("error", what, "Nothing was learned: see `promptgraft doctor data`, then to the learning rate.")]
