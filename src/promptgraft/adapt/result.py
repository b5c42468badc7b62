"""The contents of `result.json`: the winner, every candidate, the test, and everything that made them."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptgraft.adapt.halving import OUT_OF_TIME
from promptgraft.adapt.plan import LeftOut, Ranking
from promptgraft.adapt.verdict import verdict
from promptgraft.backbones.base import Backbone
from promptgraft.card import Score
from promptgraft.intervals import accuracy
from promptgraft.tasks.base import Task
from promptgraft.tuning.adapted import versions
from promptgraft.tuning.candidate import Candidate
from promptgraft.tuning.fit import storable

SHOWN_ERRORS = 40
NO_EVIDENCE = "No transfer has been measured with this library yet, so a rank is a guess to be tried, not a finding."


def build_result(
    task: Task,
    backbone: Backbone,
    candidates: Sequence[Candidate],
    left_out: Sequence[LeftOut],
    winner: Candidate,
    differences: Mapping[Candidate, Score],
    probabilities: NDArray[np.float64],
    ranking: Ranking | None,
    named: Mapping[str, str],
    record: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything that a run found, as JSON can hold it.

    Args:
        task: with its test split.
        backbone: the frozen model.
        candidates: all that started, the linear probe first.
        left_out: those that did not.
        winner: the chosen one.
        differences: validation accuracy less the linear probe's, by candidate.
        probabilities: of the retrained winner on the test split, (N, C).
        ranking: of the library, if it holds a fitting prompt.
        named: id of a source prompt -> its name in the library.
        record: what else made the result: recipe, seed, budget, command, seconds.
    """
    linear = candidates[0]
    rows = [
        *(_row(candidate, candidate is winner, differences.get(candidate), named) for candidate in candidates),
        *map(_left_out_row, left_out),
    ]
    return {
        "format_version": 1,
        "promptgraft": versions()["promptgraft"],
        "task": {
            **task.info.model_dump(mode="json"),
            "n_val": len(task.val),
            "n_test": len(task.test),
            "notes": list(task.notes),
        },
        "backbone": backbone.info.model_dump(mode="json"),
        "method": winner.method.name,
        "layers": winner.shown_layers,
        "source": winner.source,
        "val_accuracy": _dump(winner.val_score()),
        "test_accuracy": _dump(accuracy(probabilities.argmax(1) == task.test.labels)),
        "linear_probe": {"val_accuracy": _dump(linear.val_score())},
        "verdict": verdict(winner, linear, candidates) + _cut_short(rows),
        "candidates": rows,
        "ranking": [] if ranking is None else ranking.rows(),
        "ranking_evidence": None if ranking is None else _evidence(ranking),
        "confusion": _confusion(probabilities, task),
        "errors": _errors(probabilities, task),
        "versions": versions(),
        "device": str(backbone.device),
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **record,
    }


def _evidence(ranking: Ranking) -> str:
    return NO_EVIDENCE if ranking.evidence is None else f"{ranking.evidence}."


def _row(candidate: Candidate, winner: bool, difference: Score | None, named: Mapping[str, str]) -> dict[str, Any]:
    weights = candidate.model.prompt.facts.get("weights", {})
    history = [asdict(line) for line in storable(candidate.history)]
    return {
        "method": candidate.method.name,
        "layers": candidate.shown_layers,
        "source": candidate.source,
        "weights": {named[source]: weight for source, weight in weights.items()},
        "status": candidate.status,
        "reason": candidate.reason,
        "val_accuracy": _dump(candidate.val_score()),
        "difference_to_linear": _dump(difference),
        "parameters": candidate.parameters,
        "seconds": round(candidate.seconds, 2),
        "epochs": candidate.epoch,
        "best_epoch": candidate.best_epoch,
        "history": history,
        "winner": winner,
    }


def _cut_short(rows: Sequence[Mapping[str, Any]]) -> str:
    """A closing sentence where the race was not run to its end."""
    count = sum(OUT_OF_TIME in (row["reason"] or "") for row in rows)
    return f" {OUT_OF_TIME.capitalize()} for {count} candidate{'s' * (count > 1)}." if count else ""


def _left_out_row(left_out: LeftOut) -> dict[str, Any]:
    plan = left_out.plan
    return {
        "method": plan.method,
        "layers": None if plan.sources else plan.layers,
        "source": plan.source_name,
        "weights": {},
        "status": left_out.status,
        "reason": left_out.reason,
        "val_accuracy": None,
        "difference_to_linear": None,
        "parameters": None,
        "seconds": None,
        "epochs": 0,
        "best_epoch": None,
        "history": [],
        "winner": False,
    }


def _confusion(probabilities: NDArray[np.float64], task: Task) -> dict[str, Any]:
    """Counts on the test split: rows are true classes, columns predicted ones."""
    matrix = np.zeros((len(task.classes), len(task.classes)), dtype=int)
    np.add.at(matrix, (task.test.labels, probabilities.argmax(1)), 1)
    return {"matrix": matrix.tolist(), "classes": list(task.classes)}


def _errors(probabilities: NDArray[np.float64], task: Task) -> list[dict[str, Any]]:
    """The test examples that went wrong, the most confident first."""
    predicted = probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != task.test.labels)
    wrong = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:SHOWN_ERRORS]
    return [
        {
            "name": task.test.names[i],
            "true": task.classes[task.test.labels[i].item()],
            "predicted": task.classes[predicted[i].item()],
            "probability": float(probabilities[i, predicted[i]]),
            "text": _text(task.test.inputs[i]) if task.modality == "text" else None,
            "index": i,
        }
        for i in wrong.tolist()
    ]


def _text(item: Any) -> str:
    return item if isinstance(item, str) else " / ".join(item)


def _dump(score: Score | None) -> dict[str, Any] | None:
    return None if score is None else score.model_dump()
