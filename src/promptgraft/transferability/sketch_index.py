"""The sketches of a library's prompts, kept in its folder `.sketches`: they save time, the prompts are the truth.

A file holds the sketches of up to 64 MB of prompts of one width, each with the prompt's name and the stamp of its
card. It is written whole, under a name made of its own sha256, and never changed: new prompts come in a new file, into
which files that are less than half full are taken over. So whoever is stopped leaves an index that loads, writers do
not wait for each other, and what is not there, or not as it was, is sketched again.
"""

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from promptgraft.errors import InputError, PromptFileError
from promptgraft.files import open_file, sha256_file, write_atomic
from promptgraft.library import PromptLibrary, Stamp
from promptgraft.progress import progress_bar
from promptgraft.prompt import SoftPrompt, read_first_layer
from promptgraft.transferability.base import Sketches
from promptgraft.transferability.gather import entry_rows
from promptgraft.transferability.sketch import FIELDS, sketch, width_of

FOLDER = ".sketches"  # hidden, so that no prompt is looked for in it
FULL = 1 << 26  # bytes of a file
_LIMIT = 1 << 28  # bytes of a file that is read
_GROUP = 64  # prompts that are sketched at once
_METADATA = {"promptgraft": "sketches 2"}
_TYPES = {"<i8": "I64", "<f8": "F64", "<f4": "F32", "<f2": "F16"}
_FILE = re.compile(r"[0-9a-f]{32}\.safetensors")

Source = tuple[NDArray[np.float32], float]
"""What a prompt's sketch is made of: its rows (P, D), and the number of examples that it was trained on."""
Reader = Callable[[str], Source | None]
"""Reads a prompt by its name; None where it cannot be read."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Sketches of n prompts of one width, in memory or in a file.

    names: of the prompts. stamps: (n, 3), of their cards. live: which of them are there and as they were.
    """

    width: int
    names: list[str]
    stamps: NDArray[np.int64]
    sketches: Sketches
    live: NDArray[np.bool_]
    path: Path | None = None


@dataclass(frozen=True)
class Change:
    """What bringing an index up to date did: sketches that were added, and that are not valid any more."""

    added: int
    gone: int


class SketchIndex:
    """The sketches in a folder.

    Args:
        folder: where the files are; it is made when the first one is written.
        read_only: write and remove nothing; what is missing is sketched in memory.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder, self.read_only = folder, read_only
        self.segments: list[Segment] = []

    def __len__(self) -> int:
        return sum(int(segment.live.sum()) for segment in self.segments)

    def update(self, stamps: Mapping[str, Stamp], read: Reader, *, verify: bool = False) -> Change:
        """Load the index and bring it up to date.

        Args:
            stamps: of all prompts that there are.
            read: called for those without a sketch, or whose sketch is of another stamp.
            verify: hash every file, too, and sketch anew what is in one that was altered.
        """
        missing, gone = dict(stamps), 0
        self.segments = []
        for segment in self._load(verify):
            live = []
            for name, stamp in zip(segment.names, map(tuple, segment.stamps.tolist()), strict=True):
                known = missing.get(name)
                live.append(known is not None and (stamp == known or stamp == _storable(known)))
                if live[-1]:
                    del missing[name]  # a second sketch of it is not needed
            segment.live[:] = live
            gone += len(segment.names) - int(segment.live.sum())
            self.segments.append(segment)
        before = len(self)
        self._extend(missing, read)
        return Change(len(self) - before, gone)

    def _load(self, verify: bool) -> Iterator[Segment]:
        if self.folder.is_symlink() or not self.folder.is_dir():
            return
        for path in sorted(self.folder.iterdir()):
            if not _FILE.fullmatch(path.name) or path.is_symlink() or not path.is_file():
                continue
            segment = None if verify and not _as_named(path) else _open(path)
            if segment is not None:
                yield segment
            else:
                self._remove(path)

    def _extend(self, missing: Mapping[str, Stamp], read: Reader) -> None:
        waiting: dict[int, list[tuple[list[str], Sketches]]] = {}
        names = sorted(missing)
        with progress_bar("sketching", len(names), "prompt") as bar:
            for group in (names[start : start + _GROUP] for start in range(0, len(names), _GROUP)):
                # one after another: threads that read meanwhile hold the interpreter up and make it slower
                sources = {name: source for name in group if (source := read(name)) is not None}
                for width in {rows.shape[1] for rows, _ in sources.values()}:
                    same = [name for name, (rows, _) in sources.items() if rows.shape[1] == width]
                    made = sketch([sources[name][0] for name in same], [sources[name][1] for name in same])
                    waiting.setdefault(width, []).append((same, made))
                    if sum(len(part) for part, _ in waiting[width]) >= _rows_of_a_file(width):
                        self._add(width, waiting.pop(width), missing)
                bar.advance(len(group))
        for width, parts in waiting.items():
            self._add(width, parts, missing)

    def _add(self, width: int, parts: list[tuple[list[str], Sketches]], stamps: Mapping[str, Stamp]) -> None:
        """Keep new sketches of one width; they take over those in files that are less than half full."""
        fresh = [
            Segment(
                width, names, np.array([_storable(stamps[name]) for name in names]), made, np.ones(len(names), bool)
            )
            for names, made in parts
        ]
        room = _rows_of_a_file(width)
        small = [s for s in self.segments if s.width == width and s.live.sum() < room / 2]
        merged = _joined([*small, *fresh])
        pieces = np.array_split(np.arange(len(merged.names)), max(1, round(len(merged.names) / room)))
        stored = [self._stored(_part(merged, places)) for places in pieces]
        self.segments = [s for s in self.segments if s not in small] + stored
        for segment in small:
            if segment.path is not None and all(s.path != segment.path for s in stored):
                self._remove(segment.path)

    def _stored(self, segment: Segment) -> Segment:
        """The segment as a file, or as it is where none can be written."""
        if self.read_only or self.folder.is_symlink():
            return segment
        data = safetensors.numpy.save(_tensors(segment), _METADATA)
        path = self.folder / f"{hashlib.sha256(data).hexdigest()[:32]}.safetensors"
        try:
            write_atomic(path, data)
        except InputError:
            return segment
        stored = _open(path)
        if stored is None:  # taken away meanwhile
            return segment
        stored.live[:] = True
        return stored

    def _remove(self, path: Path) -> None:
        if not self.read_only:
            try:
                path.unlink(missing_ok=True)
            except OSError:  # not ours to remove, or in use: it is passed over again the next time
                return


class _Stored(Mapping[str, NDArray[Any]]):
    """The fields in a file; each is read when it is asked for."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getitem__(self, name: str) -> NDArray[Any]:
        values: NDArray[Any] = self._file.get_tensor(name)
        return values

    def __iter__(self) -> Iterator[str]:
        return iter(FIELDS)

    def __len__(self) -> int:
        return len(FIELDS)


def _storable(stamp: Stamp) -> Stamp:
    """The stamp in int64, beyond which some file systems number their files."""
    time, size, inode = stamp
    return time & 2**63 - 1, size, inode & 2**63 - 1


def _as_named(path: Path) -> bool:
    try:
        return sha256_file(path).startswith(path.stem)
    except OSError:
        return False


def _open(path: Path) -> Segment | None:
    """A file's segment, none of it live; None where it is not a whole file of sketches."""
    try:
        with open_file(path) as stream:
            if os.fstat(stream.fileno()).st_size > _LIMIT:
                return None
        file: Any = safetensors.safe_open(path, framework="np")
        found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        count, width = found["direction"].get_shape()
        if file.metadata() != _METADATA or any(
            found[name].get_shape() != [count, *width_of(name, width)] or found[name].get_dtype() != _TYPES[kind]
            for name, (kind, _) in FIELDS.items()
        ):
            return None
        names = file.get_tensor("names").tobytes().decode().split("\n")
        stamps = file.get_tensor("stamps")
    except (OSError, safetensors.SafetensorError, LookupError, TypeError, ValueError):
        return None
    if len(names) != count or stamps.shape != (count, 3) or stamps.dtype != np.int64:
        return None
    return Segment(width, names, stamps, _Stored(file), np.zeros(count, bool), path)


def _tensors(segment: Segment) -> dict[str, NDArray[Any]]:
    names = np.frombuffer("\n".join(segment.names).encode(), np.uint8)
    return {"names": names, "stamps": segment.stamps, **segment.sketches}


def _joined(segments: Sequence[Segment]) -> Segment:
    """What is live in segments of one width, as one."""
    chosen = [np.flatnonzero(segment.live) for segment in segments]
    names = [segment.names[place] for segment, places in zip(segments, chosen, strict=True) for place in places]
    stamps = np.concatenate([segment.stamps[places] for segment, places in zip(segments, chosen, strict=True)])
    sketches = {
        field: np.concatenate([s.sketches[field][places] for s, places in zip(segments, chosen, strict=True)])
        for field in FIELDS
    }
    return Segment(segments[0].width, names, stamps, sketches, np.ones(len(names), bool))


def _part(whole: Segment, places: NDArray[np.int64]) -> Segment:
    first, last = places[0], places[-1] + 1
    sketches = {field: values[first:last] for field, values in whole.sketches.items()}
    return Segment(whole.width, whole.names[first:last], whole.stamps[first:last], sketches, whole.live[first:last])


def _rows_of_a_file(width: int) -> int:
    return max(1, FULL // (6 * width + 320))  # the rest is moments, curves, a stamp and a name


def index_of(library: PromptLibrary, *, verify: bool = False) -> tuple[SketchIndex, Change]:
    """A library's index, brought up to date with its folder, and what that changed.

    A prompt that cannot be read is left out with a warning.

    Args:
        library: the prompts.
        verify: hash every file of the index, too.
    """
    index = SketchIndex(library.folder / FOLDER, read_only=library.read_only)

    def read(name: str) -> Source | None:
        try:
            card, rows = read_first_layer(library.folder / name)
        except PromptFileError as error:
            warnings.warn(f"prompt {name!r} is left out: {error}", UserWarning, stacklevel=2)
            return None
        return rows, float(card.task.n_train)

    change = index.update(library.stamps(), read, verify=verify)
    return index, change


def segments_of(prompts: Sequence[SoftPrompt]) -> list[Segment]:
    """Sketches of prompts that are in memory; the name of each is its place."""
    sources = [(entry_rows(prompt), float(prompt.card.task.n_train)) for prompt in prompts]
    found = []
    for width in sorted({rows.shape[1] for rows, _ in sources}):
        same = [place for place, (rows, _) in enumerate(sources) if rows.shape[1] == width]
        made = sketch([sources[place][0] for place in same], [sources[place][1] for place in same])
        names = [f"{place:09}" for place in same]
        found.append(Segment(width, names, np.zeros((len(same), 3), np.int64), made, np.ones(len(same), bool)))
    return found
