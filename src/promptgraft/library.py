"""`PromptLibrary`: a folder of prompt folders, and an index that only saves time.

The folder is the truth. A prompt is added by renaming its finished folder into place, so that writers never wait for
each other and lose nothing. The index (`.index.json`) holds what a listing shows, with a stamp of each `prompt.json`;
whatever is not in it, or not as it was, is read again.
"""

import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, Field

from promptgraft.card import PromptCard
from promptgraft.errors import InputError, PromptFileError
from promptgraft.files import read_file, write_atomic
from promptgraft.measured import MEASURED_FILE, Transfer, read_measured, write_measured
from promptgraft.prompt import CARD_FILE, TENSOR_FILE, SoftPrompt, read_card
from promptgraft.registry import did_you_mean

_INDEX_FILE = ".index.json"  # no prompt can have this name: names start with a letter or a digit
_INDEX_LIMIT = 1 << 26  # bytes; about 150,000 prompts
_NAME_PART = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?")
_ID_PREFIX = re.compile(r"[0-9a-f]{8,64}")

Stamp = tuple[int, int, int]
"""Time of change in nanoseconds, size and inode of a `prompt.json`."""

Number = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Entry:
    """What a listing shows of a prompt, read without its tensor.

    score: the accuracy on "val", else on "test". head: that of a head without the prompt on "val", where it is known.
    """

    name: str
    id: str
    modality: str
    task: str
    n_train: int
    backbone: str
    layers: int
    length: int
    dim: int
    method: str
    licence: str
    score: Number | None
    head: Number | None

    @classmethod
    def of(cls, name: str, identity: str, card: PromptCard) -> "Entry":
        """The entry of the prompt that a library has under `name`."""
        scores = card.training.scores if card.training is not None else {}
        score, head = scores.get("val", scores.get("test")), scores.get("val_head")
        return cls(
            name=name,
            id=identity,
            modality=card.task.modality,
            task=card.task.name,
            n_train=card.task.n_train,
            backbone=card.backbone.name,
            layers=card.prompt.layers,
            length=card.prompt.length,
            dim=card.prompt.dim,
            method=card.method,
            licence=card.licence,
            score=None if score is None else score.value,
            head=None if head is None else head.value,
        )


class _Record(NamedTuple):
    stamp: Stamp
    entry: Entry | None
    damage: str = ""

    def says_of(self, name: str) -> bool:
        """Whether it tells what that prompt is, or what is wrong with it."""
        return bool(self.damage) if self.entry is None else self.entry.name == name


class _Index(BaseModel):
    """What `.index.json` holds, by name."""

    version: Literal[3] = 3
    records: dict[str, _Record]


class PromptLibrary:
    """Prompts by name (which may contain "/", such as `text/newsgroups`) in a folder.

    Args:
        folder: the library; it is made when the first prompt is added. Links inside it are not followed.
        read_only: refuse to add and remove, and write no index.

    Raises:
        InputError: `folder` is a file, or a single prompt.
    """

    def __init__(self, folder: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self.folder = Path(folder)
        self.read_only = read_only
        self._records: dict[str, _Record] | None = None
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"library {self.folder} is a file, not a folder.")
        if (self.folder / CARD_FILE).exists():
            raise InputError(f"{self.folder} is a single prompt, not a library. Read it with SoftPrompt.load.")

    def __repr__(self) -> str:
        return f"PromptLibrary({str(self.folder)!r})"

    def names(self) -> list[str]:
        """All names, sorted. A damaged prompt is left out with a warning that names it."""
        return [entry.name for entry in self._entries()]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self._entries())

    def __contains__(self, name_or_id: object) -> bool:
        try:
            return isinstance(name_or_id, str) and bool(self.resolve(name_or_id))
        except InputError:
            return False

    def __getitem__(self, name_or_id: str) -> SoftPrompt:
        """Read a prompt by its name, its id, or the first 8 or more digits of its id.

        Raises:
            InputError: there is no such prompt, or several prompts have ids that start so.
            PromptFileError: the prompt is damaged.
        """
        return SoftPrompt.load(self.folder / self.resolve(name_or_id))

    def find(
        self,
        *,
        modality: str | None = None,
        dim: int | None = None,
        layers: int | None = None,
        backbone: str | None = None,
        task: str | None = None,
    ) -> list[Entry]:
        """Entries that agree with everything given, sorted by name; no tensor is read.

        Args:
            modality: "vision" or "text".
            dim: the width D of the prompt.
            layers: the number L of prompted layers; 1 is a shallow prompt.
            backbone: name of the backbone that the prompt was tuned for.
            task: name of the task that the prompt was tuned for.
        """
        wanted = {"modality": modality, "dim": dim, "layers": layers, "backbone": backbone, "task": task}
        given = {key: value for key, value in wanted.items() if value is not None}
        return [e for e in self._entries() if all(getattr(e, key) == value for key, value in given.items())]

    def resolve(self, name_or_id: str) -> str:
        """The name of the prompt that a name, an id, or the first 8 or more digits of an id stand for.

        Raises:
            InputError: there is no such prompt, or several prompts have ids that start so.
        """
        if is_name(name_or_id) and (self.folder / name_or_id / CARD_FILE).is_file():
            return name_or_id
        entries = self._entries()
        if _ID_PREFIX.fullmatch(name_or_id):
            found = [entry for entry in entries if entry.id.startswith(name_or_id)]
            if len({entry.id for entry in found}) > 1:
                names = ", ".join(entry.name for entry in found)
                raise InputError(f"several prompts have ids that start with {name_or_id}: {names}. Give more digits.")
            if found:
                return found[0].name
        if not entries:
            raise InputError(f"library {self.folder} holds no prompt. `promptgraft library add FOLDER` puts one in.")
        near = did_you_mean(name_or_id, [entry.name for entry in entries])
        raise InputError(
            f"there is no prompt named {name_or_id!r} in {self.folder}.{near} `promptgraft library ls` lists them."
        )

    def add(self, prompt: SoftPrompt, name: str | None = None) -> str:
        """Store a prompt, by default under its card's name, and return the name. Adding it again changes nothing.

        The card keeps the name that its maker gave it, so that the id stays; the README is headed by the new one.

        Raises:
            InputError: the name is not portable or is taken by another prompt; the library cannot be written.
            PromptFileError: the name is taken by a damaged prompt.
        """
        self._check_writeable()
        name = prompt.card.name if name is None else name
        if not is_name(name):
            raise InputError(
                f"{name!r} cannot name a prompt: use letters, digits and . _ - in parts joined by '/', each starting "
                "with a letter or a digit, 200 characters at most. Give another `name`."
            )
        for parent in Path(name).parents[:-1]:
            if (self.folder / parent / CARD_FILE).exists():
                raise InputError(f"{name!r} cannot be stored: {parent.as_posix()!r} is a prompt. Give another `name`.")
        target = self.folder / name
        if not (target / CARD_FILE).exists():
            try:
                prompt.save(target, name=name)
                return name
            except InputError:
                if not (target / CARD_FILE).exists():  # unless another process stored the same name meanwhile
                    raise
        if SoftPrompt.load(target) != prompt:
            raise InputError(f"library {self.folder} has another prompt named {name!r}. Give another `name`.")
        return name

    def remove(self, name: str) -> None:
        """Remove a prompt by its name; works on a damaged one too.

        Raises:
            InputError: there is no such prompt, or the library is read-only.
        """
        self._check_writeable()
        folder = self.folder / name
        if not is_name(name) or not ((folder / CARD_FILE).exists() or (folder / TENSOR_FILE).exists()):
            name = self.resolve(name)
            raise InputError(f"prompts are removed by name only. The name of that id is {name!r}.")
        trash = None
        try:
            trash = tempfile.mkdtemp(dir=self.folder, prefix=".removed.")
            folder.rename(Path(trash) / "prompt")  # gone at once for every reader, whatever happens next
        except OSError as error:
            raise InputError(f"cannot remove {folder}: {error.strerror or error}.") from error
        finally:
            if trash is not None:
                shutil.rmtree(trash, ignore_errors=True)

    def damaged(self) -> dict[str, str]:
        """What is wrong with each prompt whose card cannot be read, by name."""
        return {name: record.damage for name, record in self._refresh().items() if record.entry is None}

    def stamps(self) -> dict[str, Stamp]:
        """What tells by name whether a prompt's card is as it was; nothing is read, and damaged prompts are there too.

        One `stat` per prompt: what a library of a million prompts can afford, where listing its cards takes minutes.
        """
        return {name: stamp for name, stamp in _scan(self.folder) if is_name(name)}

    def measured(self) -> list[Transfer]:
        """Transfers that were measured, also of prompts that are not here.

        What cannot be read is left out with a warning.
        """
        transfers, problems = read_measured(self.folder)
        if problems:
            more = f" (and {len(problems) - 1} more lines)" if len(problems) > 1 else ""
            warnings.warn(f"measured transfers are left out: {problems[0]}{more}", UserWarning, stacklevel=2)
        return transfers

    def add_measured(self, transfers: Iterable[Transfer]) -> int:
        """Store measured transfers, each in place of an earlier one with its key; how many there are now.

        Raises:
            InputError: the library cannot be written, or holds some that cannot be read and would be lost.
        """
        self._check_writeable()
        return write_measured(self.folder, transfers)

    def _check_writeable(self) -> None:
        if self.read_only:
            raise InputError(f"library {self.folder} is read-only. Open another folder to change it.")

    def _entries(self) -> list[Entry]:
        records = self._refresh()
        for name, record in records.items():
            if record.entry is None:
                warnings.warn(f"prompt {name!r} is left out: {record.damage}", UserWarning, stacklevel=3)
        return [record.entry for record in records.values() if record.entry is not None]

    def _refresh(self) -> dict[str, _Record]:
        """Bring the index up to date with the folder: one `stat` per prompt, a card is read where that has changed."""
        known = self._read_index() if self._records is None else self._records
        records = {}
        for name, stamp in sorted(_scan(self.folder)):
            record = known.get(name)
            if record is None or record.stamp != stamp or not record.says_of(name):
                record = self._read(name, stamp)
            if record.entry is not None or (self.folder / name).exists():  # else it was removed meanwhile
                records[name] = record
        if records != known and not self.read_only:
            self._write_index(records)
        self._records = records
        return records

    def _read(self, name: str, stamp: Stamp) -> _Record:
        if not is_name(name):
            return _Record(stamp, None, f"the folder name {name!r} is not portable. Rename it.")
        try:
            identity, card = read_card(self.folder / name)
        except PromptFileError as error:
            return _Record(stamp, None, str(error))
        return _Record(stamp, Entry.of(name, identity, card))

    def _read_index(self) -> dict[str, _Record]:
        try:
            index = _Index.model_validate_json(read_file(self.folder / _INDEX_FILE, _INDEX_LIMIT), strict=True)
        except (OSError, ValueError):  # missing or corrupt: it is made again
            return {}
        return index.records

    def _write_index(self, records: dict[str, _Record]) -> None:
        try:
            write_atomic(self.folder / _INDEX_FILE, _Index(records=records).model_dump_json())
        except (InputError, ValueError):  # not writeable, or names outside of UTF-8: it is read without an index
            return


def starter() -> PromptLibrary:
    """The read-only library that comes with promptgraft."""
    return PromptLibrary(Path(__file__).parent / "starter", read_only=True)


def user_library() -> PromptLibrary:
    """Your own library: the folder `PROMPTGRAFT_LIBRARY`, else `~/.local/share/promptgraft/library`."""
    folder = os.environ.get("PROMPTGRAFT_LIBRARY")
    return PromptLibrary(folder or Path.home() / ".local" / "share" / "promptgraft" / "library")


def open_library(spec: str | os.PathLike[str]) -> PromptLibrary:
    """Open a library to read from it: "starter", "user", or a folder.

    Raises:
        InputError: there is no such folder, or no prompt in it.
    """
    library = (
        {"starter": starter, "user": user_library}[spec]() if spec in ("starter", "user") else PromptLibrary(spec)
    )
    if not library.folder.is_dir():
        raise InputError(
            f"there is no library folder {library.folder}. Give a folder of prompts, 'starter' or 'user'."
        )
    if next(_scan(library.folder), None) is None:  # without a look at the cards, which may be very many
        raise InputError(f"library {library.folder} holds no prompt. `promptgraft library add FOLDER` puts one in.")
    return library


def find_prompt(reference: str | os.PathLike[str], library: str | os.PathLike[str] | None = None) -> SoftPrompt:
    """Read the prompt that a person names: a prompt folder, or a name or id in a library.

    Args:
        reference: path of a prompt folder, or a name or id.
        library: "starter", "user" or a folder; without it, your own library is searched, then the starter.

    Raises:
        InputError: there is no such prompt.
        PromptFileError: the prompt is damaged.
    """
    return SoftPrompt.load(find_folder(reference, library))


def find_folder(reference: str | os.PathLike[str], library: str | os.PathLike[str] | None = None) -> Path:
    """Where the prompt lies that a person names; arguments and errors are those of `find_prompt`."""
    name = os.fspath(reference)
    if library is not None:
        place = open_library(library)
        return place.folder / place.resolve(name)
    if (Path(reference) / CARD_FILE).is_file():
        return Path(reference)
    libraries = user_library(), starter()
    for place in libraries:
        if name in place:
            return place.folder / place.resolve(name)
    near = did_you_mean(name, [known for place in libraries for known in place])
    raise InputError(f"there is no prompt folder or prompt named {name!r}.{near} `promptgraft library ls` lists them.")


def is_name(name: str) -> bool:
    """Whether a library can store a prompt under this name: portable, and no way out of its folder."""
    parts = name.split("/")
    reserved = {CARD_FILE, TENSOR_FILE, MEASURED_FILE}
    return len(name) <= 200 and all(_NAME_PART.fullmatch(p) and p.lower() not in reserved for p in parts)


def _scan(root: Path) -> Iterator[tuple[str, Stamp]]:
    """Name and stamp of every prompt folder under `root`; hidden folders and links are passed over."""
    pending = [("", str(root))]
    while pending:
        prefix, folder = pending.pop()
        try:
            with os.scandir(folder) as items:
                children = list(items)
        except OSError:  # removed meanwhile, or not ours to read
            continue
        for child in children:
            if child.name == TENSOR_FILE and prefix:  # a prompt that has lost its card
                yield prefix.rstrip("/"), (0, 0, 0)
            elif not child.name.startswith(".") and child.is_dir(follow_symlinks=False):
                try:
                    found = os.stat(f"{child.path}/{CARD_FILE}", follow_symlinks=False)  # noqa: PTH116 (a third of the time)
                except OSError:
                    pending.append((f"{prefix}{child.name}/", child.path))
                else:
                    yield f"{prefix}{child.name}", (found.st_mtime_ns, found.st_size, found.st_ino)
