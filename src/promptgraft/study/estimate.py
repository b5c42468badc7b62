"""What a study will cost, from trials of the same kind that are done, else from a short probe on this machine.

The probe times forward passes and training steps on a few real examples, and the fit of a head; a trial's time is
composed of these. It is a guess of the right size, not a promise.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from promptgraft.backbones.base import Tokens
from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.files import canonical_json
from promptgraft.progress import progress_bar
from promptgraft.study.memory import peak_memory, reset_peak_memory
from promptgraft.study.plan import Plan
from promptgraft.study.probing import seconds_to_tell
from promptgraft.study.trial import Trial
from promptgraft.study.work import Worker
from promptgraft.tasks.base import Task
from promptgraft.transferability.base import ESTIMATORS
from promptgraft.tuning.head import fit_linear_grid
from promptgraft.tuning.method import METHODS
from promptgraft.tuning.recipes import Recipe

_EXAMPLES = 8
_HEAD_EPOCHS = 100  # of `fit_linear_grid`


@dataclass(frozen=True)
class Cost:
    """What one kind of trial costs.

    seconds: of one trial. memory: bytes at its peak. basis: `measured` on trials that are done, or `probe`.
    """

    kind: str
    what: str
    trials: int
    done: int
    seconds: float
    memory: int | None
    basis: str

    @property
    def left(self) -> float:
        """Seconds of all that is not done."""
        return self.seconds * (self.trials - self.done)


@dataclass(frozen=True)
class _Probe:
    """Seconds per example, and bytes: before any example, and for each example of a batch."""

    forward: float
    step: float
    memory: float
    memory_per_example: float


class Estimator:
    """Estimates costs on this machine.

    Args:
        threads: of a trial.
        device: where trials run.
    """

    def __init__(self, threads: int, device: str) -> None:
        self._worker = Worker(threads=threads, device=device)
        self._probes: dict[str, _Probe] = {}

    def costs(self, plan: Plan, done: Mapping[str, Mapping[str, Any]]) -> list[Cost]:
        """Costs by kind and method.

        Args:
            plan: the study's trials.
            done: what was measured on those that are done, by key.

        Raises:
            InputError: a target cannot be read or divided as asked.
        """
        groups: dict[tuple[str, str], list[Trial]] = {}
        for trial in plan.trials:
            groups.setdefault((trial.kind, trial.labels.get("method") or trial.labels["estimator"]), []).append(trial)
        with progress_bar("probing", len(groups), "kind") as bar:
            costs = []
            for (kind, what), trials in groups.items():
                bar.note(what)
                costs.append(self._cost(kind, what, trials, done))
                bar.advance()
        return costs

    def disk(self, plan: Plan) -> int:
        """Bytes of image tokens that the study keeps in the cache."""
        sizes = {}
        for trial in plan.trials:
            if trial.kind == "facts":  # keeps no tokens
                continue
            identity = trial.identity
            key = canonical_json([identity["backbone"], identity["task"]])
            if key not in sizes:
                sizes[key] = self._token_bytes(trial)
        return sum(sizes.values())

    def _cost(self, kind: str, what: str, trials: Sequence[Trial], done: Mapping[str, Mapping[str, Any]]) -> Cost:
        known = [done[trial.key] for trial in trials if trial.key in done]
        if known:
            seconds = sum(measured["seconds"] for measured in known) / len(known)
            peaks = [m["peak_memory"] for m in known if m.get("peak_memory") is not None]
            return Cost(kind, what, len(trials), len(known), seconds, max(peaks, default=None), "measured")
        # one trial stands for those of its target: their seeds and settings cost the same
        by_target = {(trial.labels["backbone"], trial.labels["target"]): trial for trial in trials}
        probed = {where: self._seconds(trial) for where, trial in by_target.items()}
        total = sum(probed[trial.labels["backbone"], trial.labels["target"]][0] for trial in trials)
        memory = max(memory for _, memory in probed.values())
        return Cost(kind, what, len(trials), 0, total / len(trials), memory, "probe")

    def _seconds(self, trial: Trial) -> tuple[float, int]:
        """Seconds and bytes of one trial, composed of what was probed."""
        if trial.kind == "facts":
            return seconds_to_tell(trial, self._worker.prober), peak_memory(self._worker.device) or 0
        backbone = self._worker.backbone(trial)
        task = self._worker.task(trial)
        sizes = {name: len(getattr(task, name)) for name in ("train", "val", "test")}
        if trial.kind == "estimate":
            probe = self._probe(trial, backbone, task, 1, 1)
            for_each = ESTIMATORS[trial.identity["estimator"]].needs == "features"
            passes = len(trial.identity["sources"]) if for_each else 2
            return passes * probe.forward * min(sizes["train"], 1000), int(probe.memory)
        recipe = Recipe.model_validate(trial.identity["recipe"] | _numbers(trial.identity.get("setting", {})))
        layers, length = trial.places.get("shape") or (
            1 if trial.identity.get("layers") == "shallow" or backbone.info.pool == "mask" else backbone.info.depth,
            trial.identity.get("prompt_length", 1),
        )
        probe = self._probe(trial, backbone, task, layers, length)
        memory = int(probe.memory + probe.memory_per_example * recipe.batch_size)
        seen = sizes["train"] + sizes["val"]
        seconds = probe.forward * (seen + sizes["test"]) + self._head_seconds(
            sizes["train"], len(task.classes), backbone
        )
        training = recipe.epochs * (probe.step * sizes["train"] + probe.forward * sizes["val"])
        if METHODS[trial.identity["method"]].sources == "several":
            taken = trial.identity.get("choice", {}).get("top", len(trial.places["sources"]))
            # what is looked at before: gradients under each source, or a prompt of the target's own; and projections
            seconds += taken * probe.step * sizes["train"] + min(trial.places["projected"], taken) * training
        if not METHODS[trial.identity["method"]].head_only:
            seconds += training
        return seconds, memory

    def _probe(self, trial: Trial, backbone: TransformerBackbone, task: Task, layers: int, length: int) -> _Probe:
        tokens = backbone.embed([task.train.inputs[i] for i in range(min(_EXAMPLES, len(task.train)))])
        key = canonical_json([trial.identity["backbone"], list(tokens.values.shape), layers, length])
        if key not in self._probes:
            self._probes[key] = _measure(backbone, tokens, layers, length, self._worker.device)
        return self._probes[key]

    @staticmethod
    def _head_seconds(n: int, classes: int, backbone: TransformerBackbone) -> float:
        features = torch.randn(min(n, 256), backbone.info.dim)
        labels = torch.arange(len(features)) % classes
        started = time.perf_counter()
        fit_linear_grid(features, labels, (features, labels), classes, epochs=1)
        return (time.perf_counter() - started) * _HEAD_EPOCHS * n / len(features)

    def _token_bytes(self, trial: Trial) -> int:
        backbone = self._worker.backbone(trial)
        if backbone.info.modality != "vision":
            return 0
        task = self._worker.task(trial)
        one = backbone.embed([task.train.inputs[0]]).values
        return one.nbytes * (len(task.train) + len(task.val) + len(task.test))


def _measure(backbone: TransformerBackbone, tokens: Tokens, layers: int, length: int, device: str) -> _Probe:
    width = backbone.info.embed_dim if layers == 1 else backbone.info.dim
    prompt = (torch.randn(layers, length, width) * 0.02).to(backbone.device).requires_grad_()
    few = Tokens(tokens.values[:1], None if tokens.mask is None else tokens.mask[:1])
    reset_peak_memory(device)
    torch.autograd.backward(backbone.run(few, prompt).sum())  # also warms up
    low = peak_memory(device) or 0
    reset_peak_memory(device)
    started = time.perf_counter()
    torch.autograd.backward(backbone.run(tokens, prompt).sum())
    step = (time.perf_counter() - started) / len(tokens)
    high = peak_memory(device) or 0
    started = time.perf_counter()
    with torch.no_grad():
        backbone.run(tokens, prompt).cpu()
    forward = (time.perf_counter() - started) / len(tokens)
    return _Probe(forward, step, low, max(high - low, 0) / max(len(tokens) - 1, 1))


def _numbers(setting: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a setting that bear on its cost."""
    return {name: setting[name] for name in ("epochs", "batch_size") if name in setting}
