"""A task's inputs as a backbone sees them: decoded and embedded once, then read by index."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from promptgraft.backbones.base import Backbone, Tokens
from promptgraft.errors import InputError
from promptgraft.files import cache_root, content_key
from promptgraft.progress import progress_bar
from promptgraft.tasks.base import Split, Task

CHUNK = 64


class EmbeddedSplit(ABC):
    """N inputs ready for `Backbone.run`.

    labels: (N,) int64. key: sha256 over data and backbone, None where nothing may be cached.
    """

    def __init__(self, labels: Tensor, key: str) -> None:
        self.labels = labels
        self.key = key

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def tokens(self, index: Tensor) -> Tokens:
        """Tokens of the inputs at `index` (B,)."""

    def batches(self, size: int = CHUNK) -> Iterator[Tokens]:
        """Tokens of all inputs in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.tokens(torch.arange(start, min(start + size, len(self))))


class _Images(EmbeddedSplit):
    """Image tokens (N, T, D) in a memory-mapped file of the cache."""

    def __init__(self, values: np.ndarray, labels: Tensor, key: str) -> None:
        super().__init__(labels, key)
        self._values = values

    def tokens(self, index: Tensor) -> Tokens:
        return Tokens(torch.from_numpy(np.array(self._values[index.numpy()])))


class _Texts(EmbeddedSplit):
    """Encoded texts; word vectors are looked up when asked for, padding only to the longest of the batch."""

    def __init__(self, backbone: Backbone, split: Split, labels: Tensor, key: str) -> None:
        super().__init__(labels, key)
        self._backbone = backbone
        self._rows: list[dict[str, Tensor]] = []
        for start in range(0, len(split), 1024):
            batch = backbone.prepare([split.inputs[i] for i in range(start, min(start + 1024, len(split)))])
            assert not isinstance(batch, Tensor)
            for i, real in enumerate(batch["attention_mask"].sum(1).tolist()):
                self._rows.append({name: value[i, :real].clone() for name, value in batch.items()})

    def tokens(self, index: Tensor) -> Tokens:
        rows = [self._rows[i] for i in index.tolist()]
        batch = {
            name: torch.nn.utils.rnn.pad_sequence([row[name] for row in rows], batch_first=True) for name in rows[0]
        }
        return self._backbone.embed(batch)


class _Joined(EmbeddedSplit):
    """Several splits one after another, such as train and val for the last training."""

    def __init__(self, parts: tuple[EmbeddedSplit, ...]) -> None:
        super().__init__(torch.cat([part.labels for part in parts]), content_key([part.key for part in parts]))
        self._parts = parts

    def tokens(self, index: Tensor) -> Tokens:
        starts = np.cumsum([0] + [len(part) for part in self._parts])
        which = torch.bucketize(index, torch.tensor(starts[1:]), right=True)
        pieces = [(which == i).nonzero()[:, 0] for i in range(len(self._parts))]
        found = [
            (rows, part.tokens(index[rows] - int(starts[i])))
            for i, (part, rows) in enumerate(zip(self._parts, pieces, strict=True))
            if len(rows)
        ]
        longest = max(tokens.values.shape[1] for _, tokens in found)
        first = found[0][1]
        values = first.values.new_zeros(len(index), longest, first.values.shape[2])
        mask = None if first.mask is None else first.mask.new_zeros(len(index), longest)
        for rows, tokens in found:
            values[rows, : tokens.values.shape[1]] = tokens.values
            if mask is not None and tokens.mask is not None:
                mask[rows, : tokens.mask.shape[1]] = tokens.mask
        return Tokens(values, mask)


@dataclass(frozen=True)
class EmbeddedTask:
    """The three splits of a task under one backbone."""

    task: Task
    backbone: Backbone
    train: EmbeddedSplit
    val: EmbeddedSplit
    test: EmbeddedSplit


def join(*parts: EmbeddedSplit) -> EmbeddedSplit:
    """Several splits one after another."""
    return _Joined(parts)


def embed_task(backbone: Backbone, task: Task) -> EmbeddedTask:
    """Decode and embed a task once; image tokens come from the cache where they were embedded before.

    Raises:
        InputError: the task's modality is not the backbone's.
    """
    if backbone.info.modality != task.modality:
        raise InputError(
            f"task {task.name} holds {task.modality} and backbone {backbone.info.name} takes {backbone.info.modality}. "
            "Choose a backbone of the task's modality: `promptgraft packs ls` lists them."
        )
    splits = {name: getattr(task, name) for name in ("train", "val", "test")}
    keys = {name: _key(backbone, task, name) for name in splits}
    if task.modality == "text":
        return EmbeddedTask(
            task,
            backbone,
            *(_Texts(backbone, split, torch.from_numpy(split.labels), keys[name]) for name, split in splits.items()),
        )
    folder = cache_root() / "tokens"
    missing = sum(len(split) for name, split in splits.items() if not (folder / f"{keys[name]}.npy").exists())
    embedded = []
    with progress_bar("tokens", missing, "img") as bar:
        for name, split in splits.items():
            path = folder / f"{keys[name]}.npy"
            if not path.exists():
                _write_tokens(backbone, split, path, bar.advance)
            embedded.append(_Images(np.load(path, mmap_mode="r"), torch.from_numpy(split.labels), keys[name]))
    return EmbeddedTask(task, backbone, *embedded)


def embed_inputs(backbone: Backbone, inputs: list[object]) -> Iterator[Tokens]:
    """Tokens of loose inputs, a chunk at a time, nothing cached."""
    for start in range(0, len(inputs), CHUNK):
        yield backbone.embed(inputs[start : start + CHUNK])


def _key(backbone: Backbone, task: Task, split: str) -> str:
    info = backbone.info
    return content_key(
        task.fingerprint,
        split,
        info.weights_sha256,
        info.family,
        info.image_size,
        info.preprocessing,
        str(backbone.dtype),
    )


def _write_tokens(backbone: Backbone, split: Split, path: Path, advance: object) -> None:
    """Embed a split chunk by chunk straight into a memory-mapped file, renamed into place when whole."""
    assert callable(advance)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{torch.randint(1 << 30, ()).item()}")
    values: np.memmap | None = None
    try:
        for start in range(0, len(split), CHUNK):
            rows = range(start, min(start + CHUNK, len(split)))
            chunk = backbone.embed([split.inputs[i] for i in rows]).values.cpu().numpy()
            if values is None:
                shape = (len(split), *chunk.shape[1:])
                values = np.lib.format.open_memmap(temporary, "w+", chunk.dtype, shape)
            values[rows.start : rows.stop] = chunk
            advance(len(rows))
        assert values is not None
        values.flush()
        temporary.replace(path)
    except OSError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"cannot cache image tokens in {path.parent}: {error.strerror or error}. "
            "Free some space or set PROMPTGRAFT_CACHE to another folder."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
