"""What a worker does: it runs one trial at a time, and keeps the model and the data for the next one."""

import gc
import socket
import tempfile
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import torch

from promptgraft.backbones.load import load_backbone
from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.errors import InputError, PromptgraftError
from promptgraft.files import canonical_json
from promptgraft.probing.candidates import load_prober
from promptgraft.prompt import SoftPrompt
from promptgraft.study.facts import data_fact
from promptgraft.study.memory import peak_memory, reset_peak_memory
from promptgraft.study.trial import Failure, Outcome, Trial
from promptgraft.tasks.base import Task
from promptgraft.tasks.embedded import EmbeddedTask, embed_task
from promptgraft.tasks.load import load_task
from promptgraft.tuning.adapted import versions
from promptgraft.tuning.recipes import Recipe

T = TypeVar("T")
BACK = "Put it back as it was, or start a new study in another folder."
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


class ChangedError(PromptgraftError):
    """Data or weights are not to be had as they were when a trial was planned: the others would fail too."""


class OutOfMemory(Exception):  # noqa: N818 (a signal between two functions here)
    """A trial needed more memory than there is."""


class _Kept(OrderedDict[Hashable, Any]):
    """The last few things that were made, the oldest given up first."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def get_or_make(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self:
            while len(self) >= self._size:
                self.popitem(last=False)
            self[key] = make()
        self.move_to_end(key)
        found: T = self[key]
        return found


@dataclass
class Work:
    """A trial with all that it needs at hand.

    data: the target under the trial's backbone. sources: the source prompts that the trial names, in its order.
    inputs: outcomes of the trials that it needs, by key. shrink: the batch size is divided by this much.
    """

    trial: Trial
    backbone: TransformerBackbone
    data: EmbeddedTask
    sources: Sequence[SoftPrompt]
    inputs: Mapping[str, Outcome]
    shared: _Kept
    shrink: int = 1


class Worker:
    """Runs trials, one after another.

    Args:
        threads: for a trial's sums; equal threads, equal bits.
        device: where the model runs.
    """

    def __init__(self, *, threads: int, device: str) -> None:
        torch.set_num_threads(threads)
        self.device, self._versions = device, versions()  # reading the versions takes 5 ms
        self._backbones, self._tasks, self._data = _Kept(2), _Kept(4), _Kept(4)
        self._prompts, self._shared, self._probers = _Kept(64), _Kept(8), _Kept(16)

    def run(self, trial: Trial, inputs: Mapping[str, Outcome]) -> Outcome | Failure:
        """Run a trial; whatever it raises, but for a stop from the keyboard, becomes a `Failure`.

        Args:
            trial: what to do.
            inputs: outcomes of what it needs: of trials by key, of library prompts by id.
        """
        reset_peak_memory(self.device)
        started, clock = datetime.now(UTC), time.perf_counter()
        try:
            outcome = self._with_less_memory(trial, inputs)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            message = lines[0] if isinstance(error, PromptgraftError) else f"{type(error).__name__}: {lines[0]}"
            return Failure(message, traceback.format_exc(), isinstance(error, ChangedError))
        measured = {
            "seconds": round(time.perf_counter() - clock, 4),
            "peak_memory": peak_memory(self.device),
            "device": self._device_name(),
            "host": socket.gethostname(),
            "started": started.isoformat(timespec="seconds"),
            "versions": self._versions,
        }
        return Outcome(outcome.result, measured, outcome.artefacts)

    def _with_less_memory(self, trial: Trial, inputs: Mapping[str, Outcome]) -> Outcome:
        """Run a trial; where memory runs out, again with half the batch, down to one example."""
        shrink = 1
        recipe = trial.identity.get("recipe")
        batch = 1 if recipe is None else Recipe.model_validate(recipe).batch_size
        while True:
            try:
                return self._once(trial, inputs, shrink)
            except OutOfMemory as error:
                if batch // shrink <= 1:
                    raise
                shrink *= 2
                del error
            self._release()

    def _once(self, trial: Trial, inputs: Mapping[str, Outcome], shrink: int) -> Outcome:
        from promptgraft.study.kinds import KINDS
        from promptgraft.study.probing import tell

        try:
            if trial.kind == "facts":
                return tell(trial, self.prober)
            backbone = self.backbone(trial)
            data = self._embedded(trial, backbone)
            sources = [self._prompt(reference, inputs) for reference in trial.identity.get("sources", ())]
            outcome = KINDS[trial.kind](Work(trial, backbone, data, sources, inputs, self._shared, shrink))
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _OUT_OF_MEMORY):
                raise OutOfMemory(str(error).splitlines()[0] if str(error) else "out of memory") from None
            raise
        if shrink > 1:
            outcome.result["notes"] = [
                *outcome.result.get("notes", ()),
                f"out of memory: batch size divided by {shrink}",
            ]
        return outcome

    def _release(self) -> None:
        for kept in (self._data, self._shared):
            kept.clear()
        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def backbone(self, trial: Trial) -> TransformerBackbone:
        """The trial's frozen model.

        Raises:
            ChangedError: its weights are not those that the trial was planned with, or cannot be loaded.
        """
        wanted = trial.identity["backbone"]

        def load() -> TransformerBackbone:
            options = trial.places["backbone"]
            try:
                backbone = load_backbone(**options, device=self.device)
            except InputError as error:
                raise ChangedError(str(error)) from error
            _check_weights(backbone, wanted, options["name"])
            return backbone

        return self._backbones.get_or_make(canonical_json(wanted), load)

    def prober(self, wanted: Mapping[str, Any], options: Mapping[str, Any]) -> TransformerBackbone:
        """A frozen language model that tells facts.

        Raises:
            ChangedError: its weights are not those that the trial was planned with, or cannot be loaded.
        """

        def load() -> TransformerBackbone:
            try:
                backbone = load_prober(**options, device=self.device)
            except InputError as error:
                raise ChangedError(str(error)) from error
            _check_weights(backbone, wanted, options["name"])
            return backbone

        return self._probers.get_or_make(canonical_json(dict(wanted)), load)

    def task(self, trial: Trial) -> Task:
        """The trial's target, divided as it says.

        Raises:
            ChangedError: its data is not that which the trial was planned with.
        """
        name, options = trial.places["name"], dict(trial.identity["task"])
        fingerprint = options.pop("data")

        def load() -> Task:
            place = trial.places["task"]
            changed = ChangedError(f"data {place} changed since the study was planned. {BACK}")
            try:
                task = load_task(place, name=name, **options)
            except InputError as error:
                if _holds(place, fingerprint):
                    raise
                raise changed from error
            if not _holds(place, fingerprint):  # after reading, so that what was read is what was hashed
                raise changed
            return task

        return self._tasks.get_or_make((canonical_json(trial.identity["task"]), name), load)

    def _embedded(self, trial: Trial, backbone: TransformerBackbone) -> EmbeddedTask:
        key = canonical_json([trial.identity["task"], trial.places["name"], trial.identity["backbone"]])
        return self._data.get_or_make(key, lambda: embed_task(backbone, self.task(trial)))

    def _prompt(self, reference: Mapping[str, str], inputs: Mapping[str, Outcome]) -> SoftPrompt:
        key = reference.get("trial") or reference["prompt"]
        return self._prompts.get_or_make(key, lambda: unpack_prompt(inputs[key].artefacts))

    def _device_name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.startswith("cuda") else self.device


def _check_weights(backbone: TransformerBackbone, wanted: Mapping[str, Any], name: str) -> None:
    if backbone.info.weights_sha256 != wanted["weights_sha256"]:
        raise ChangedError(f"backbone {name} has other weights than the study was planned with. {BACK}")


def _holds(place: str, fingerprint: str) -> bool:
    """Whether data is there, and is that which a trial was planned with."""
    try:
        return data_fact(place).value == fingerprint
    except InputError:
        return False


def pack_prompt(prompt: SoftPrompt) -> dict[str, bytes]:
    """A prompt folder's files by name."""
    with tempfile.TemporaryDirectory() as folder:
        prompt.save(Path(folder) / "prompt")
        return {file.name: file.read_bytes() for file in sorted((Path(folder) / "prompt").iterdir())}


def unpack_prompt(files: Mapping[str, bytes]) -> SoftPrompt:
    """The prompt in a prompt folder's files."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / Path(name).name).write_bytes(content)
        return SoftPrompt.load(folder)
