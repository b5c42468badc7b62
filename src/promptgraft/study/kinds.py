"""What each kind of trial computes. A result holds only what its trial's key determines: no times, no places."""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from promptgraft.card import Score
from promptgraft.errors import InputError, TrainingError
from promptgraft.files import cache_root, content_key
from promptgraft.intervals import accuracy
from promptgraft.study import tpe
from promptgraft.study.trial import Kind, Outcome
from promptgraft.study.work import Work, pack_prompt
from promptgraft.tasks.embedded import EmbeddedSplit, join
from promptgraft.transferability.base import ESTIMATORS
from promptgraft.transferability.gather import gather_evidence
from promptgraft.tuning.adapted import Naming, adapted_from
from promptgraft.tuning.candidate import Candidate
from promptgraft.tuning.method import METHODS, Setting
from promptgraft.tuning.recipes import Recipe


def train(work: Work) -> Outcome:
    """A method on a target: trained on train, its epoch chosen on val, tested once."""
    with _candidate(work, _recipe(work), work.data.train, _val(work)) as candidate:
        candidate.advance()
        return Outcome(_trained(work, candidate) | _tested(work, candidate))


def source(work: Work) -> Outcome:
    """As `train`; keeps the prompt."""
    with _candidate(work, _recipe(work), work.data.train, _val(work)) as candidate:
        candidate.advance()
        result = _trained(work, candidate) | _tested(work, candidate)
        val = candidate.val_score()
        scores: dict[str, Score] = {} if val is None else {"val": val}
        scores["test"] = accuracy(unpack_answers(result["test_correct"], result["test_n"]))
        info = work.data.task.info
        adapted = adapted_from(candidate, info, Naming(f"{info.modality}/{info.name}"), scores)
        assert adapted.prompt is not None
        result["prompt_sha256"] = content_key(adapted.prompt.tensor.flatten().tolist())
        return Outcome(result, artefacts=pack_prompt(adapted.prompt))


def head(work: Work) -> Outcome:
    """The linear probe on a source's own task, and what always saying the most frequent class would reach."""
    train, val, test = (part.labels for part in (work.data.train, work.data.val, work.data.test))
    frequent = int(torch.bincount(train).argmax())
    shares = {
        f"{name}_majority": float((labels == frequent).double().mean()) if len(labels) else None
        for name, labels in (("val", val), ("test", test))
    }
    with _candidate(work, _recipe(work), work.data.train, _val(work)) as candidate:
        return Outcome(_trained(work, candidate) | _tested(work, candidate) | {"train_n": len(train)} | shares)


def search(work: Work) -> Outcome:
    """One setting of a search: trained on train and measured on val, which alone decides."""
    if not len(work.data.val):
        raise InputError(f"task {work.data.task.name} has no validation examples to choose by. Ask for some: n_val.")
    identity = work.trial.identity
    chain = tpe.Chain(identity["tpe"], _earlier(work)) if "tpe" in identity else None
    if chain is not None and chain.spent:
        return Outcome({"setting": None, "notes": ["the search has used up its epochs"]})
    setting = identity["setting"] if chain is None else chain.setting
    try:
        return _try_setting(work, setting, chain)
    except TrainingError as error:  # it tells the search something too
        lost: dict[str, Any] = {"value": None, "loss": None, "stopped": True, "curve": []}
        return Outcome({"setting": dict(setting), **lost, "notes": [f"diverged: {error}"]})


def _try_setting(work: Work, setting: Mapping[str, Any], chain: tpe.Chain | None) -> Outcome:
    with _candidate(work, _recipe(work, setting), work.data.train, work.data.val) as candidate:
        candidate.advance(candidate.epoch)  # one that was stopped after its last epoch has ended
        told = 1
        while chain is not None and candidate.status == "running":
            # the epochs of an earlier sitting bear on the decision too
            behind = [chain.behind(line.epoch, line.val_accuracy) for line in candidate.history[told:]]
            told = len(candidate.history)
            if behind and behind[-1]:
                candidate.stop("stopped early")
            else:
                candidate.advance(candidate.epoch + 1)
        candidate.advance()
        result = _trained(work, candidate) | {"setting": dict(setting), "probe": candidate.probe}
        value, minus_loss = candidate.standing()
        stopped = candidate.status == "stopped early"
        return Outcome(result | {"value": value, "loss": finite(-minus_loss), "stopped": stopped})


def final(work: Work) -> Outcome:
    """The best setting of a search, trained anew on train and val together for as long as val chose, tested once."""
    tried = [work.inputs[key].result for key in work.trial.identity["searched"]]
    tried = [result for result in tried if result["setting"] is not None and not result["stopped"]]
    if not tried:
        raise TrainingError("every setting of the search diverged. Search over lower learning rates.")
    best = best_setting(tried)
    recipe = _recipe(work, best["setting"])
    both = join(work.data.train, work.data.val)
    probe = None if best["probe"] is None else tuple(best["probe"])  # none where the head starts at random
    with _candidate(work, recipe, both, None, probe) as candidate:
        candidate.advance(best["epochs"] if recipe.keep == "best" else None)
        result = _trained(work, candidate) | _tested(work, candidate)
    chosen = {"setting": best["setting"], "val_accuracy": best["val_accuracy"], "curve": best["curve"]}
    return Outcome(result | chosen)


def best_setting(tried: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The result of the highest selection accuracy; of equals the lower loss, then the first."""
    return max(tried, key=lambda result: (result["value"], -math.inf if result["loss"] is None else -result["loss"]))


def estimate(work: Work) -> Outcome:
    """An estimator's score of each source, in the trial's order; None where it has none."""
    identity = work.trial.identity
    key = content_key(identity["sources"], identity["task"], identity["backbone"], identity["seed"])
    evidence = work.shared.get_or_make(
        key, lambda: gather_evidence(work.sources, work.backbone, work.data, seed=identity["seed"])
    )
    scores = ESTIMATORS[identity["estimator"]].score(evidence)
    return Outcome({"scores": [finite(float(score)) for score in scores]})


KINDS: dict[Kind, Callable[[Work], Outcome]] = {
    "source": source,
    "head": head,
    "train": train,
    "search": search,
    "final": final,
    "estimate": estimate,
}


def finite(value: float | None) -> float | None:
    """A number that JSON can hold, or None."""
    return value if value is not None and math.isfinite(value) else None


def pack_answers(correct: NDArray[np.bool_]) -> str:
    """Which of N answers were right, eight to a byte, as base64."""
    return base64.b64encode(np.packbits(correct).tobytes()).decode()


def unpack_answers(text: str, count: int) -> NDArray[np.bool_]:
    """What `pack_answers` was given, (N,)."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=count).astype(bool)


def _recipe(work: Work, changes: Mapping[str, Any] | None = None) -> Recipe:
    recipe = Recipe.model_validate({**work.trial.identity["recipe"], **(changes or {})})
    return recipe.model_copy(update={"batch_size": max(recipe.batch_size // work.shrink, 1)})


class _candidate:  # noqa: N801 (used like a function)
    """A candidate that goes on from its checkpoint, which outlives the block only where that is interrupted."""

    def __init__(
        self,
        work: Work,
        recipe: Recipe,
        train: EmbeddedSplit,
        val: EmbeddedSplit | None,
        probe: tuple[float, float] | None = None,
    ) -> None:
        self._path: Path = cache_root() / "runs" / f"study-{work.trial.key}-{work.shrink}.safetensors"
        identity = work.trial.identity
        setting = Setting(
            work.backbone,
            train,
            identity.get("prompt_length", 10),
            identity.get("layers", "deep"),
            identity["seed"],
            _sources(work),
        )
        method, classes = METHODS[identity["method"]], len(work.data.task.classes)
        self._parts = (method, setting, val, classes, recipe)
        self._probe = probe

    def _make(self) -> Candidate:
        return Candidate(*self._parts, checkpoint=self._path, probe=self._probe)

    def __enter__(self) -> Candidate:
        try:
            return self._make()
        except InputError:
            if not self._path.exists():
                raise
            self._path.unlink()  # a damaged checkpoint costs the epochs that it held
            return self._make()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, TrainingError):
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


def _val(work: Work) -> EmbeddedSplit | None:
    return work.data.val if len(work.data.val) else None


def _sources(work: Work) -> tuple[Any, ...]:
    """The sources that the method takes."""
    return tuple(work.sources[place] for place in _taken(work))


def _taken(work: Work) -> list[int]:
    """Which of the trial's sources it takes: all, the best of an estimate's ranking, or the one at a place of it."""
    choice = work.trial.identity.get("choice")
    if choice is None:
        return list(range(len(work.sources)))
    return ranked_sources(work)[: choice["top"]] if "top" in choice else [chosen_source(work)]


def chosen_source(work: Work) -> int:
    """Which of the trial's sources stands at its place in the estimate's ranking."""
    place: int = work.trial.identity["choice"]["rank"]
    return ranked_sources(work)[place - 1]


def ranked_sources(work: Work) -> list[int]:
    """The trial's sources in the order of the estimate's ranking; those without a score stand last."""
    choice = work.trial.identity["choice"]
    estimated = work.inputs[choice["estimate"]].result["scores"]
    scores = [estimated[place] for place in choice["places"]]
    return sorted(range(len(scores)), key=lambda i: (scores[i] is None, -(scores[i] or 0.0), i))


def _trained(work: Work, candidate: Candidate) -> dict[str, Any]:
    score = candidate.val_score()
    result: dict[str, Any] = {
        "val_accuracy": None if score is None else score.value,
        "val_n": 0 if score is None else score.n,
        "parameters": candidate.parameters,
        "epochs": candidate.best_epoch,
        "curve": [
            [line.epoch, finite(line.train_loss), finite(line.val_loss), line.val_accuracy]
            for line in candidate.history
        ],
    }
    names = [work.trial.places["sources"][place] for place in _taken(work)]
    if candidate.method.sources == "several":
        prompt = candidate.model.prompt
        told = {
            "weights": prompt.source_weights(candidate.setting.train),
            "gradient_cosines": prompt.facts.get("gradient_cosines"),
        }
        result |= {"sources": names} | {name: value for name, value in told.items() if value is not None}
    elif "choice" in work.trial.identity:
        result["source"] = names[0]
    return result


def _tested(work: Work, candidate: Candidate) -> dict[str, Any]:
    test = work.data.test
    if not len(test):
        raise InputError(f"task {work.data.task.name} has no test examples. Ask for some: n_test.")
    logits = candidate.logits(test)
    if not bool(torch.isfinite(logits).all()):
        raise TrainingError(f"{candidate.label} answers with numbers that are not finite. Lower the learning rate.")
    correct = (logits.argmax(1) == test.labels).numpy()
    return {"test_accuracy": float(correct.mean()), "test_n": len(correct), "test_correct": pack_answers(correct)}


def _earlier(work: Work) -> list[Mapping[str, Any]]:
    """Results of the settings that the search tried before this one."""
    number = work.trial.identity["tpe"]["number"]
    return [work.inputs[key].result for key in work.trial.needs[len(work.trial.needs) - number :]]
