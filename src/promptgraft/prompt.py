"""`SoftPrompt`: a prompt with the card that says what made it, and the folder that it is stored in.

The folder holds `prompt.safetensors` (`prompt`; optional `head.weight`, `head.bias`, `state.*`), `prompt.json` (the
card, the id, the shape and sha256 of every tensor) and a generated `README.md`. Reading it is safe whoever wrote it:
sizes are bounded before anything is read, all is checked against its hash, and nothing is unpickled or run.
"""

import hashlib
import json
import math
import os
import re
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from promptgraft.card import FORMAT_VERSION, PromptCard
from promptgraft.errors import InputError, PromptFileError
from promptgraft.files import atomic_folder, canonical_json, open_file, read_file, read_json
from promptgraft.readme import printable, prompt_readme

if TYPE_CHECKING:  # torch takes a second to import, and listing a library needs no tensor
    from torch import Tensor

    Floats = Tensor | NDArray[np.floating[Any]]

CARD_FILE = "prompt.json"
TENSOR_FILE = "prompt.safetensors"
CARD_LIMIT = 1 << 20  # bytes of prompt.json, and of the header of prompt.safetensors
TENSOR_LIMIT = (
    1 << 30
)  # bytes of tensors; the largest deep prompt in use (48 layers, 200 rows, 8192 wide) takes a third

_METADATA = (
    "promptgraft"  # one key only: safetensors writes several in random order, and equal prompts give equal files
)
_KNOWN_TENSOR = re.compile(r"prompt|head\.(weight|bias)|state\..+", re.DOTALL)


class Head(NamedTuple):
    """The linear classifier that was trained with a prompt: weight (C, D'), bias (C,)."""

    weight: "Tensor"
    bias: "Tensor"


class SoftPrompt:
    """A prompt as a value that never changes.

    The tensors are kept in immutable memory; `tensor`, `head` and `state` hand out copies, so that nothing done to
    them can make `id` untrue.

    Args:
        tensor: (L, P, D) finite floats, kept as float32; L is 1 (shallow) or the backbone's depth (deep).
        card: what made the prompt; its `prompt` section gives L, P and D.
        head: the classifier trained with it, weight (C, D') and bias (C,), for the C classes of the card's task.
        state: float tensors of a module that makes the prompt from the input, by name.

    Raises:
        InputError: a tensor does not agree with the card, or holds a value that is not finite.
    """

    def __init__(
        self,
        tensor: "Floats",
        card: PromptCard,
        *,
        head: "tuple[Floats, Floats] | None" = None,
        state: "Mapping[str, Floats] | None" = None,
    ) -> None:
        given = {"prompt": tensor}
        if head is not None:
            given |= {"head.weight": head[0], "head.bias": head[1]}
        given |= {f"state.{name}": value for name, value in (state or {}).items()}
        self._tensors = {name: _immutable(name, value) for name, value in given.items()}
        self._document, self.card = _own_card(card)
        self._check()

    def _check(self) -> None:
        card, prompt = self.card, self._tensors["prompt"]
        said, backbone = card.prompt, card.backbone
        if prompt.ndim != 3 or 0 in prompt.shape:
            raise InputError(
                f"a prompt is a tensor (layers, length, width) with at least one row; got {prompt.shape}."
            )
        if prompt.shape != (said.layers, said.length, said.dim):
            raise InputError(
                f"the tensor is {prompt.shape}, but the card of {card.name!r} says layers {said.layers}, length "
                f"{said.length}, dim {said.dim}. Write the tensor's shape into the card."
            )
        if said.layers not in (1, backbone.depth):
            raise InputError(
                f"the prompt has {said.layers} layers; backbone {backbone.name} takes 1 (shallow) or {backbone.depth} "
                "(deep)."
            )
        width, widths = (backbone.embed_dim, "embed_dim") if said.layers == 1 else (backbone.dim, "dim")
        if said.dim != width:
            raise InputError(
                f"the prompt is {said.dim} wide; there, backbone {backbone.name} takes {widths} = {width}."
            )
        wrong = np.argwhere(~np.isfinite(prompt))
        if wrong.size:
            layer, row, column = wrong[0]
            raise InputError(
                f"the prompt holds {prompt[layer, row, column]} in layer {layer}, row {row}: training diverged. "
                "Tune it again with a lower learning rate."
            )
        dead = set(said.dead_rows)
        if not dead < set(range(said.length)):
            raise InputError(f"dead rows {sorted(dead)} must be some, not all, of the rows 0 to {said.length - 1}.")
        for name, values in self._tensors.items():
            if not np.isfinite(values).all():
                raise InputError(f"tensor {name!r} holds a value that is not finite: training diverged.")
        if "head.weight" in self._tensors:
            weight, bias, classes = self._tensors["head.weight"], self._tensors["head.bias"], len(card.task.classes)
            if weight.ndim != 2 or weight.shape[0] != classes or bias.shape != (classes,):
                raise InputError(
                    f"head weight {weight.shape} and bias {bias.shape} do not fit the {classes} classes of task "
                    f"{card.task.name}: they must be ({classes}, width) and ({classes},)."
                )

    @property
    def tensor(self) -> "Tensor":
        """The prompt, (L, P, D) float32 on the CPU; a copy."""
        return _tensor(self._tensors["prompt"])

    @property
    def head(self) -> Head | None:
        """The classifier that was trained with the prompt, if it was kept; copies."""
        if "head.weight" not in self._tensors:
            return None
        return Head(_tensor(self._tensors["head.weight"]), _tensor(self._tensors["head.bias"]))

    @property
    def state(self) -> "dict[str, Tensor]":
        """The module state of a prompt that depends on the input, by name; copies."""
        return {
            name.removeprefix("state."): _tensor(values)
            for name, values in self._tensors.items()
            if name.startswith("state.")
        }

    @cached_property
    def id(self) -> str:
        """sha256 (hex) of the tensor's bytes (little-endian float32, C order) and the card's canonical JSON."""
        return hashlib.sha256(self._tensors["prompt"].tobytes() + self._document.encode()).hexdigest()

    def rows(self) -> "Tensor":
        """The rows that are alive, of all layers one under another: (L·P', D), P' = P less the card's dead rows."""
        prompt = self._tensors["prompt"]
        return _tensor(np.delete(prompt, list(self.card.prompt.dead_rows), axis=1).reshape(-1, prompt.shape[2]))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SoftPrompt):
            return NotImplemented
        return self.id == other.id and self._summary() == other._summary()

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self._tensors["prompt"].shape))
        return f"SoftPrompt({self.card.name!r}, {shape}, id {self.id[:12]})"

    def _summary(self) -> dict[str, dict[str, Any]]:
        return {
            name: {"shape": list(values.shape), "sha256": hashlib.sha256(values.tobytes()).hexdigest()}
            for name, values in sorted(self._tensors.items())
        }

    def save(self, folder: str | os.PathLike[str], *, name: str | None = None) -> Path:
        """Write the prompt's folder, whole or not at all, and return its path.

        Args:
            folder: to write; it must not exist, or be empty.
            name: what the README calls the prompt, such as its name in a library; the card's name by default. The card
                stays as it is, and with it the id, by which measured transfers and the cards of children name it.

        Raises:
            InputError: `folder` exists and is not empty, or it cannot be written.
        """
        folder = Path(folder)
        document = json.loads(self._document) | {"id": self.id, "tensors": self._summary()}
        metadata = {_METADATA: canonical_json({"format_version": self.card.format_version, "id": self.id})}
        with atomic_folder(folder) as temporary:
            (temporary / TENSOR_FILE).write_bytes(safetensors.numpy.save(dict(self._tensors), metadata))
            text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
            (temporary / CARD_FILE).write_text(text, encoding="utf-8")
            (temporary / "README.md").write_text(prompt_readme(self.card, self.id, name), encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "SoftPrompt":
        """Read a prompt's folder and check all of it.

        Keys of a newer minor format warn, are ignored, and stay in the prompt when it is saved again.

        Raises:
            PromptFileError: a file is missing, truncated, too large or a link out of the folder; the format is newer;
                a key is missing; the tensor or the card was altered.
        """
        folder = Path(folder)
        stored = _read_card_file(folder)
        arrays = _read_tensor_file(folder, stored)
        prompt, weight, bias = (arrays.pop(name, None) for name in ("prompt", "head.weight", "head.bias"))
        if prompt is None or (weight is None) != (bias is None):
            raise PromptFileError(
                f"{folder} lacks a tensor: it needs 'prompt', and 'head.weight' goes with 'head.bias'."
            )
        try:
            loaded = cls(
                prompt,
                stored.card,
                head=None if weight is None or bias is None else (weight, bias),
                state={name.removeprefix("state."): values for name, values in arrays.items()},
            )
        except InputError as error:
            raise PromptFileError(f"{folder} cannot be used: {error}") from error
        loaded._document = stored.document  # as stored, with the keys that this version does not know
        if loaded.id != stored.id:
            raise PromptFileError(
                f"{folder / CARD_FILE} was altered: its card and tensor give the id {loaded.id[:12]}, it says "
                f"{stored.id[:12]}. {_CURE}"
            )
        return loaded


def read_card(folder: str | os.PathLike[str]) -> tuple[str, PromptCard]:
    """The id, as stored, and the card of a prompt's folder, without reading tensors or checking hashes.

    Raises:
        PromptFileError: the card is missing, unreadable, of a newer format, or lacks a key.
    """
    stored = _read_card_file(Path(folder))
    return stored.id, stored.card


def read_first_layer(folder: str | os.PathLike[str]) -> tuple[PromptCard, NDArray[np.float32]]:
    """The card of a prompt's folder and its rows (P', D) in the first layer, without dead ones; no hash is checked.

    Ten times faster than `SoftPrompt.load`, for what only chooses among prompts that are then loaded.

    Raises:
        PromptFileError: a file is missing, unreadable, or does not hold what it says; a value is not finite.
    """
    folder = Path(folder)
    card, path = _read_card_file(folder).card, folder / TENSOR_FILE
    layers, length, dim = card.prompt.layers, card.prompt.length, card.prompt.dim
    size = 4 * layers * length * dim
    if min(layers, length, dim) < 1 or size > TENSOR_LIMIT:
        raise PromptFileError(f"{folder / CARD_FILE} announces a prompt of {layers} x {length} x {dim}. {_CURE}")
    try:
        with open_file(path) as stream:
            header = int.from_bytes(stream.read(8), "little")
            entry = _parse_json(stream.read(min(header, CARD_LIMIT)), path)["prompt"]
            start, end = entry["data_offsets"]
            said = {"dtype": "F32", "shape": [layers, length, dim], "data_offsets": [start, start + size]}
            if entry != said or os.fstat(stream.fileno()).st_size < 8 + header + end:
                raise ValueError(f"{end} bytes of {str(entry)[:100]}")
            stream.seek(8 + header + start)
            rows = np.frombuffer(stream.read(4 * length * dim), dtype="<f4").reshape(length, dim)
    except (OSError, OverflowError, TypeError, LookupError, ValueError) as error:
        raise PromptFileError(
            f"{path} is missing, damaged, or not as {CARD_FILE} says ({printable(error)}). {_CURE}"
        ) from error
    dead = sorted(set(card.prompt.dead_rows))
    if len(dead) == length or (dead and not 0 <= dead[0] <= dead[-1] < length) or not np.isfinite(rows).all():
        raise PromptFileError(
            f"{folder} names dead rows that it has not, or holds values that are not finite. {_CURE}"
        )
    return card, np.delete(rows, dead, axis=0) if dead else rows


_CURE = "Get an unaltered copy of the folder."


class _TensorEntry(BaseModel):
    shape: tuple[Annotated[int, Field(ge=0)], ...]
    sha256: str


_TENSOR_TABLE = TypeAdapter(dict[str, _TensorEntry])


class _Stored(NamedTuple):
    """What prompt.json holds; `document` is the canonical JSON of the card as stored, unknown keys included."""

    id: str
    card: PromptCard
    document: str
    tensors: dict[str, _TensorEntry]


def _read_card_file(folder: Path) -> _Stored:
    path = folder / CARD_FILE
    content = _parse_json(_read_file(folder, CARD_FILE, CARD_LIMIT), path)
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise PromptFileError(
            f"{path} has format {version}, made by a newer promptgraft (this one reads {FORMAT_VERSION}): "
            "pip install -U promptgraft."
        )
    for key in ("format_version", "id", "tensors"):
        if key not in content:
            raise PromptFileError(f"{path} lacks the key '{key}'. {_CURE}")
    identity, table = content.pop("id"), content.pop("tensors")
    if not isinstance(identity, str) or not re.fullmatch("[0-9a-f]{64}", identity):
        raise PromptFileError(f"{path}: 'id' is not a sha256. {_CURE}")
    try:
        document = canonical_json(content)
        document.encode()
        tensors = _TENSOR_TABLE.validate_json(canonical_json(table), strict=True)
        return _Stored(identity, _parse_card(content, document, path), document, tensors)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)[:3]
        )
        raise PromptFileError(f"{path} is not a valid card: {printable(problems)}. {_CURE}") from error
    except (ValueError, RecursionError) as error:
        raise PromptFileError(f"{path} holds a value that a card cannot hold ({error}). {_CURE}") from error


def _parse_card(content: dict[str, Any], document: str, path: Path) -> PromptCard:
    """Validate a card, `document` as JSON; keys of a newer minor format are left out with a warning."""
    try:
        return PromptCard.model_validate_json(document, strict=True)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    missing = [".".join(map(str, problem["loc"])) for problem in problems if problem["type"] == "missing"]
    if missing:
        raise PromptFileError(f"{path} lacks the key '{missing[0]}'. {_CURE}")
    newer = [problem["loc"] for problem in problems if problem["type"] == "extra_forbidden"]
    if newer:
        names = printable(", ".join(".".join(map(str, location)) for location in newer))
        warnings.warn(f"{path} has keys of a newer promptgraft, which are ignored: {names}", UserWarning, stacklevel=5)
    for *sections, key in newer:
        section: Any = content
        for name in sections:
            section = section[name]
        del section[key]
    return PromptCard.model_validate_json(canonical_json(content), strict=True)


def _read_tensor_file(folder: Path, stored: _Stored) -> dict[str, NDArray[np.float32]]:
    path = folder / TENSOR_FILE
    expected = sum(4 * math.prod(entry.shape) for entry in stored.tensors.values())
    if expected > TENSOR_LIMIT:
        raise PromptFileError(f"{folder / CARD_FILE} announces more than {TENSOR_LIMIT} bytes of tensors. {_CURE}")
    data = _read_file(folder, TENSOR_FILE, 8 + CARD_LIMIT + expected)
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, CARD_LIMIT):
        raise PromptFileError(f"{path} is truncated or not a safetensors file ({len(data)} bytes). {_CURE}")
    if _header_id(data[8 : 8 + length], path) != stored.id:
        raise PromptFileError(f"{path} belongs to another prompt than {CARD_FILE}: their ids differ. {_CURE}")
    try:
        found = dict(safetensors.deserialize(data))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise PromptFileError(f"{path} is truncated or damaged ({printable(error)}). {_CURE}") from error
    if found.keys() != stored.tensors.keys():
        differing = ", ".join(map(repr, sorted(found.keys() ^ stored.tensors.keys())))[:200]
        raise PromptFileError(f"{path} and {CARD_FILE} list different tensors: {differing} is in one only. {_CURE}")
    arrays = {}
    for name, view in sorted(found.items()):
        said = stored.tensors[name]
        if not _KNOWN_TENSOR.fullmatch(name):
            warnings.warn(
                f"{path} has a tensor of a newer promptgraft, which is ignored: {name!r}", UserWarning, stacklevel=4
            )
            continue
        if view["dtype"] != "F32":
            raise PromptFileError(
                f"{path}: tensor {name!r} is {view['dtype']}; a prompt file holds F32. Convert it to float32."
            )
        if tuple(view["shape"]) != said.shape or hashlib.sha256(view["data"]).hexdigest() != said.sha256:
            raise PromptFileError(
                f"{path} was altered: tensor {name!r} is not the one that {CARD_FILE} names. {_CURE}"
            )
        try:
            arrays[name] = np.frombuffer(view["data"], dtype="<f4").reshape(said.shape)
        except ValueError as error:  # too many dimensions, or an empty one beside one that is too long
            raise PromptFileError(
                f"{path}: tensor {name!r} has a shape that no array has ({error}). {_CURE}"
            ) from error
    return arrays


def _header_id(header: bytes, path: Path) -> Any:
    metadata = _parse_json(header, path).get("__metadata__")
    ours = metadata.get(_METADATA) if isinstance(metadata, dict) else None
    if not isinstance(ours, str):
        raise PromptFileError(
            f"{path} was not written by promptgraft: its header names no prompt. `promptgraft convert` imports others."
        )
    return _parse_json(ours, path).get("id")


def _read_file(folder: Path, name: str, limit: int) -> bytes:
    try:
        return read_file(folder / name, limit, inside=folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PromptFileError(f"{folder} is not a prompt folder: it has no file {name}.") from error
    except OSError as error:
        raise PromptFileError(f"cannot read {folder / name}: {error.strerror or error}. {_CURE}") from error


def _parse_json(data: bytes | str, path: Path) -> dict[str, Any]:
    try:
        value = read_json(data)
    except ValueError as error:
        raise PromptFileError(f"{path} does not hold valid JSON ({error}). {_CURE}") from error
    if not isinstance(value, dict):
        raise PromptFileError(f"{path} does not hold a JSON object. {_CURE}")
    return value


def _own_card(card: PromptCard) -> tuple[str, PromptCard]:
    """The canonical JSON of a card, and a copy of the card as a reader of that JSON sees it."""
    try:
        document = canonical_json(card.model_dump())  # mode="json" would turn nan into null
        size = len(document.encode())
        copy = PromptCard.model_validate_json(document)
    except (TypeError, ValueError) as error:
        raise InputError(f"the card of {card.name!r} holds a value that its JSON cannot hold: {error}.") from error
    if size > CARD_LIMIT // 2:  # room for indentation and the table of tensors
        raise InputError(
            f"the card of {card.name!r} takes {size} bytes; {CARD_LIMIT // 2} is the most. Shorten its recipe."
        )
    return document, copy


def _immutable(name: str, value: Any) -> NDArray[np.float32]:
    """A float32 copy on top of a `bytes` object, which numpy can never make writeable."""
    if hasattr(value, "is_floating_point"):  # a torch tensor; numpy has no bfloat16
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    array = np.asarray(value)
    if array.dtype.kind != "f":
        raise InputError(f"tensor {name!r} must hold floats, got {array.dtype}.")
    with np.errstate(over="ignore"):  # what leaves the range of float32 is reported as not finite
        values = array.astype("<f4")
    return np.frombuffer(values.tobytes(), dtype="<f4").reshape(values.shape)


def _tensor(values: NDArray[np.float32]) -> "Tensor":
    import torch

    return torch.from_numpy(values.astype(np.float32, copy=True))
