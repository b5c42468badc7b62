"""The adapted classifier: a frozen backbone, a prompt, a head, and what made them."""

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from promptgraft.backbones.base import Backbone, Tokens
from promptgraft.backbones.load import load_backbone
from promptgraft.card import BackboneInfo, PromptCard, PromptInfo, Score, Section, TaskInfo, TrainingInfo
from promptgraft.errors import CompatibilityError, InputError, PromptFileError, TrainingError
from promptgraft.files import atomic_folder, canonical_json, read_file, read_json
from promptgraft.intervals import accuracy
from promptgraft.progress import progress_bar
from promptgraft.prompt import SoftPrompt
from promptgraft.readme import printable
from promptgraft.tasks.base import Split
from promptgraft.tasks.embedded import EmbeddedSplit, NoInputs, embed_inputs
from promptgraft.tuning.candidate import Candidate
from promptgraft.tuning.edit import Edit
from promptgraft.tuning.fit import Epoch, storable
from promptgraft.tuning.method import METHODS, Layers, Setting

MODEL_FILE, HEAD_FILE, EDIT_FILE, PROMPT_FOLDER = "adapted.json", "head.safetensors", "edit.safetensors", "prompt"
FORMAT_VERSION = 1
INFO_LIMIT, TENSOR_LIMIT = 1 << 25, 1 << 34
"""Bytes of `adapted.json`, and of a file of tensors: all weights of a model of 4 thousand million, trained anew."""


class AdaptedInfo(Section):
    """What `adapted.json` holds: the task, the exact backbone, the method, and how it was trained.

    layers, prompt_length: of the prompt, None where there is none. curve: epoch by epoch, empty for a head alone.
    best_epoch: the one that was kept, None where there is no curve.
    """

    format_version: int = FORMAT_VERSION
    task: TaskInfo
    backbone: BackboneInfo
    method: str
    layers: Layers | None
    prompt_length: int | None = None
    source: str | None
    training: TrainingInfo
    versions: dict[str, str]
    curve: tuple[Epoch, ...] = ()
    best_epoch: int | None = None


class Contents(Section):
    """sha256 of the head's file, id of the prompt, sha256 of the edit's file; None for those that are not there."""

    head: str
    prompt: str | None
    edit: str | None = None


class _Stored(AdaptedInfo):
    contents: Contents


class Adapted:
    """A classifier for one task.

    Args:
        backbone: the frozen model.
        info: what made the classifier.
        head: weight (C, F) and bias (C,); F is the backbone's width, but for an edit that reads other features.
        prompt: the prompt grafted on, None for a linear probe and for an edit.
        edit: the change of the backbone, None for the others.
    """

    def __init__(
        self,
        backbone: Backbone,
        info: AdaptedInfo,
        head: tuple[Tensor, Tensor],
        prompt: SoftPrompt | None,
        edit: Edit | None = None,
    ) -> None:
        self.backbone = backbone
        self.info = info
        self.prompt = prompt
        self.edit = edit
        self._weight, self._bias = head
        self._tensor = None if prompt is None else prompt.tensor

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the probabilities' columns."""
        return self.info.task.classes

    def predict_proba(self, inputs: Sequence[Any]) -> NDArray[np.float64]:
        """Class probabilities (N, C) of images, texts or pairs of texts.

        Raises:
            InputError: one text instead of a list of texts.
            TrainingError: a probability is not finite, since a parameter is too large.
        """
        if isinstance(inputs, str):
            raise InputError(f"inputs must be a list, got the text {inputs[:40]!r}. Write [text] for a single one.")
        return self._probabilities(embed_inputs(self.backbone, inputs), len(inputs))

    def predict(self, inputs: Sequence[Any]) -> NDArray[np.str_]:
        """Names (N,) of the most probable classes."""
        names: NDArray[np.str_] = np.array(self.classes)[self.predict_proba(inputs).argmax(1)]
        return names

    def evaluate(self, split: Split | EmbeddedSplit) -> Score:
        """Accuracy on a split with its 95 % interval.

        Raises:
            InputError: the split is empty.
        """
        return accuracy(self.probabilities(split).argmax(1) == np.asarray(split.labels))

    def score(self, split: Split | EmbeddedSplit) -> float:
        """Accuracy on a split, in [0, 1]."""
        return self.evaluate(split).value

    def probabilities(self, split: Split | EmbeddedSplit) -> NDArray[np.float64]:
        """Class probabilities (N, C) of a split."""
        if isinstance(split, EmbeddedSplit):
            return self._probabilities(split.batches(), len(split))
        return self._probabilities(embed_inputs(self.backbone, split.inputs), len(split))

    def logits(self, tokens: Tokens) -> Tensor:
        """Logits (B, C) of embedded inputs, on the CPU."""
        if self.edit is None:
            features = self.backbone.run(tokens, self._tensor)
        else:
            features = self.edit.features(self.backbone, tokens)
        return torch.addmm(self._bias, features.cpu().float(), self._weight.T)

    def with_score(self, split: str, score: Score) -> "Adapted":
        """The same classifier with one more score in its card, such as that on the test split."""
        known = self.info.training
        training = known.model_copy(update={"scores": {**known.scores, split: score}})
        prompt = self.prompt
        if prompt is not None and prompt.card.training is not None:
            prompt = SoftPrompt(
                prompt.tensor,
                prompt.card.model_copy(update={"training": training}),
                head=prompt.head,
                state=prompt.state,
            )
        info = self.info.model_copy(update={"training": training})
        return Adapted(self.backbone, info, (self._weight, self._bias), prompt, self.edit)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the classifier's folder, whole or not at all.

        Raises:
            InputError: the folder exists and is not empty, or cannot be written.
        """
        with atomic_folder(Path(folder)) as temporary:
            self.write_into(temporary)
        return Path(folder)

    def write_into(self, folder: Path) -> None:
        """Write the classifier's files into an existing folder."""
        head = save_tensors({"head.weight": self._weight.contiguous(), "head.bias": self._bias.contiguous()})
        contents = {
            "head": hashlib.sha256(head).hexdigest(),
            "prompt": None if self.prompt is None else self.prompt.id,
        }
        if self.edit is not None:
            state = {name: value.detach().cpu().contiguous() for name, value in self.edit.state_dict().items()}
            edit = save_tensors(state)
            contents["edit"] = hashlib.sha256(edit).hexdigest()
            (folder / EDIT_FILE).write_bytes(edit)
        document = self.info.model_dump(mode="json") | {"contents": contents}
        text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / MODEL_FILE).write_text(text + "\n", encoding="utf-8")
        (folder / HEAD_FILE).write_bytes(head)
        if self.prompt is not None:
            self.prompt.save(folder / PROMPT_FOLDER)

    def _probabilities(self, batches: Iterator[Tokens], count: int) -> NDArray[np.float64]:
        logits = [torch.zeros(0, len(self.classes))]
        unit = "img" if self.info.task.modality == "vision" else "text"
        with torch.no_grad(), progress_bar("predicting", count, unit) as bar:
            for tokens in batches:
                logits.append(self.logits(tokens))
                bar.advance(len(tokens))
        probabilities = torch.cat(logits).double().softmax(1)
        if not probabilities.isfinite().all():
            raise TrainingError(
                f"the {self.info.method} model of {self.info.task.name} gives answers that are not finite: its "
                f"numbers are too large for {self.backbone.dtype}. Train it with a lower learning rate."
            )
        return np.asarray(probabilities.numpy())


def load_adapted(folder: str | os.PathLike[str], *, device: str = "cpu", dtype: str = "float32") -> Adapted:
    """Load a classifier that `Adapted.save` or `promptgraft adapt` wrote.

    Raises:
        PromptFileError: a file is missing, cut or altered.
        CompatibilityError: the backbone's weights are not those that the classifier was made with.
    """
    folder = Path(folder)
    info, contents = read_info(folder)
    tensors = _tensors(folder, HEAD_FILE, contents.head)
    state = None if contents.edit is None else _tensors(folder, EDIT_FILE, contents.edit)
    head = tuple(tensors.get(name, torch.empty(0)) for name in ("head.weight", "head.bias"))
    own = state is not None or info.backbone.pool == "mask"  # ALBERT's masked-language head narrows its features
    width = head[0].shape[-1] if own and head[0].ndim else info.backbone.dim
    if [part.shape for part in head] != [(len(info.task.classes), width), (len(info.task.classes),)]:
        raise PromptFileError(
            f"the head in {folder} does not fit its {len(info.task.classes)} classes. Get an unaltered copy."
        )
    prompt = SoftPrompt.load(folder / PROMPT_FOLDER) if (folder / PROMPT_FOLDER).exists() else None
    if (None if prompt is None else prompt.id) != contents.prompt:
        found = "lacks its" if prompt is None else "has another model's"
        raise PromptFileError(f"{folder} {found} {PROMPT_FOLDER}/ folder. Get an unaltered copy.")
    backbone = reload_backbone(info.backbone, device=device, dtype=dtype)
    edit = None if state is None else _restore_edit(folder, info, backbone, state)
    return Adapted(backbone, info, (head[0], head[1]), prompt, edit)


def read_info(folder: Path) -> tuple[AdaptedInfo, Contents]:
    """What `adapted.json` says of a classifier and of the files beside it, without reading these.

    Raises:
        PromptFileError: it is missing, damaged or of a newer format.
    """
    try:
        document = read_json(_read_file(folder, MODEL_FILE, INFO_LIMIT))
        version = document.get("format_version") if isinstance(document, dict) else None
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise PromptFileError(f"{folder} was made by a newer promptgraft: pip install -U promptgraft.")
        stored = _Stored.model_validate_json(canonical_json(document), strict=True)
    except ValueError as error:
        raise _damaged(folder, error) from error
    info = AdaptedInfo.model_validate(stored.model_dump(exclude={"contents"}))
    return info, stored.contents


def _tensors(folder: Path, name: str, sha256: str) -> dict[str, Tensor]:
    """The tensors of a file that has not been altered, finite, as float32."""
    data = _read_file(folder, name, TENSOR_LIMIT)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise PromptFileError(f"{folder / name} was cut or altered. Get an unaltered copy.")
    try:
        tensors = {key: values.float() for key, values in load_tensors(data).items()}
    except Exception as error:  # of a header or a type that safetensors or torch stumbles on
        raise _damaged(folder, error) from error
    for key, values in tensors.items():
        if not values.isfinite().all():
            raise PromptFileError(
                f"{folder / name}: tensor {printable(key)[:100]!r} holds a value that is not finite. Train it again."
            )
    return tensors


def _read_file(folder: Path, name: str, limit: int) -> bytes:
    try:
        return read_file(folder / name, limit, inside=folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PromptFileError(f"{folder} holds no adapted model: {name} is missing.") from error
    except OSError as error:
        raise PromptFileError(f"cannot read {folder / name}: {error.strerror or error}.") from error


def _damaged(folder: Path, error: Exception) -> PromptFileError:
    first = printable(str(error).partition("\n")[0])[:200]
    return PromptFileError(f"the adapted model in {folder} is damaged ({first}). Get an unaltered copy.")


def _restore_edit(folder: Path, info: AdaptedInfo, backbone: Backbone, state: dict[str, Tensor]) -> Edit:
    """The edit that a file holds the parameters of: built anew, then filled."""
    nothing, length = NoInputs(), info.prompt_length or 1
    setting = Setting(backbone, nothing, length, info.layers or "deep", info.training.seed)
    method = METHODS[info.method]
    try:
        if length > 1 and length * backbone.info.embed_dim > sum(map(Tensor.numel, state.values())):
            raise ValueError("its prompt is not in it")  # before one of that length is made
        edit = method.build(setting) if method.rebuild is None else method.rebuild(setting, state)
        if not isinstance(edit, Edit):
            raise PromptFileError(f"{folder / EDIT_FILE} is not of method {info.method!r}. Get an unaltered copy.")
        edit.load_state_dict(state)
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:  # other names, other shapes
        raise PromptFileError(
            f"{folder / EDIT_FILE} does not fit method {info.method!r}. Get an unaltered copy."
        ) from error
    return edit.to(backbone.device).eval().requires_grad_(False)


def reload_backbone(info: BackboneInfo, *, device: str = "cpu", dtype: str = "float32") -> Backbone:
    """The very backbone that a card names, with the same preprocessing.

    Raises:
        CompatibilityError: its weights or its preprocessing are others than the card's.
    """
    backbone = load_backbone(
        info.name,
        image_size=info.image_size,
        max_length=info.preprocessing.get("max_length", 128),
        pool=info.pool,
        revision=info.revision,
        device=device,
        dtype=dtype,
    )
    if backbone.info.weights_sha256 != info.weights_sha256:
        raise CompatibilityError(
            f"backbone {info.name} has other weights ({backbone.info.weights_sha256[:12]}) than the model was made "
            f"with ({info.weights_sha256[:12]}). Use the revision it was made with, or adapt again."
        )
    for key, said in info.preprocessing.items():
        found = backbone.info.preprocessing.get(key)
        if found != said and key != "tokenizer":  # transformers renames tokenizer classes
            raise CompatibilityError(
                f"backbone {info.name} prepares its inputs with {key}={found}, the model was made with {said}. "
                "Use the revision it was made with, or adapt again."
            )
    return backbone


@dataclass(frozen=True)
class Naming:
    """What a maker says of a prompt: its name, its licence, and the command that makes it again."""

    name: str
    licence: str = "unspecified"
    command: str | None = None


def adapted_from(candidate: Candidate, task: TaskInfo, naming: Naming, scores: dict[str, Score]) -> Adapted:
    """The classifier that a finished candidate holds, with its card."""
    setting, backbone = candidate.setting, candidate.setting.backbone
    weight, bias = candidate.model.head.folded()
    head = (weight.detach().cpu().float(), bias.detach().cpu().float())
    training = TrainingInfo(
        recipe=candidate.recipe.model_dump(mode="json"),  # as it will be read
        seed=setting.seed,
        epochs=candidate.trainer.epoch if candidate.trainer else 0,
        scores=scores,
        seconds=round(candidate.seconds, 3),
        device=str(backbone.device),
        dtype=str(backbone.dtype).removeprefix("torch."),
    )
    made_by = versions()
    prompt: SoftPrompt | None = None
    tensor: Tensor | None = None
    edit = candidate.model.prompt if isinstance(candidate.model.prompt, Edit) else None
    if edit is None:
        with torch.no_grad():
            tensor = candidate.model.prompt(setting.train.tokens(torch.zeros(1, dtype=torch.long)))
    if tensor is not None:
        tensor = tensor.detach().cpu().float()
        layers, length, dim = tensor.shape
        card = PromptCard(
            name=naming.name,
            task=task,
            backbone=backbone.info,
            prompt=PromptInfo(
                length=length,
                layers=layers,
                dim=dim,
                position=backbone.info.position,
                pool=backbone.info.pool,
                init=candidate.method.start,
                init_args={"seed": setting.seed, **candidate.model.prompt.facts},
            ),
            training=training,
            method=candidate.method.name,
            parents=tuple(source.id for source in setting.sources),
            versions=made_by,
            licence=naming.licence,
            command=naming.command,
        )
        prompt = SoftPrompt(tensor, card, head=head)
    info = AdaptedInfo(
        task=task,
        backbone=backbone.info,
        method=candidate.method.name,
        layers=candidate.shown_layers if tensor is None else ("shallow" if tensor.shape[0] == 1 else "deep"),
        prompt_length=setting.prompt_length if tensor is None and candidate.method.layers else None,
        source=candidate.source,
        training=training,
        versions=made_by,
        curve=storable(candidate.history),
        best_epoch=candidate.best_epoch if candidate.history else None,
    )
    return Adapted(backbone, info, head, prompt, edit)


def versions() -> dict[str, str]:
    """What produced an artefact: promptgraft, torch, transformers, Python."""
    names = ("promptgraft", "torch", "transformers")
    return {**{name: version(name) for name in names}, "python": platform.python_version()}
