"""What a study rests on: data, weights and library prompts, each with a hash that tells when it has changed."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from promptgraft.errors import InputError
from promptgraft.files import cache_root, canonical_json, content_key, path_text, sha256_file, write_atomic
from promptgraft.packs.manifest import load_manifest
from promptgraft.version import __version__


@dataclass(frozen=True)
class Fact:
    """One thing that trials depend on.

    name: what study.yaml calls it. value: sha256 of it. files: of a data folder, path inside it -> sha256.
    """

    kind: Literal["data", "weights", "prompt"]
    name: str
    value: str
    files: Mapping[str, str] = field(default_factory=dict)

    def differences(self, now: "Fact") -> str:
        """What changed between this fact and that of now, in words."""
        lost = [f"{name} is missing" for name in self.files if name not in now.files]
        new = [f"{name} is new" for name in now.files if name not in self.files]
        altered = [f"{name} was altered" for name, value in self.files.items() if now.files.get(name, value) != value]
        changes = [*altered, *lost, *new]
        more = f" and {len(changes) - 5} more" if len(changes) > 5 else ""
        return (", ".join(changes[:5]) + more) or f"its sha256 was {self.value[:12]} and is {now.value[:12]}"


def data_fact(task: str) -> Fact:
    """The fact about what `load_task` would read: contents of a built-in task, or bytes of all files of a path.

    Hashes are kept in the cache and taken from there while a file's size and times are as they were.

    Raises:
        InputError: there is no such task or path, or a file cannot be read.
    """
    if task.startswith("builtin/"):
        return Fact("data", task, _builtin_hash(task.removeprefix("builtin/")))
    path = Path(task)
    if not path.exists():
        raise InputError(f"data {task} does not exist. Check the path; built-in tasks are called builtin/NAME.")
    files = _file_hashes(path)
    return Fact("data", task, content_key(sorted(files.items())), files)


def _builtin_hash(name: str) -> str:
    """Hash of all that dividing a built-in task starts from, kept for this version and these packs."""
    from promptgraft.tasks.packed import BUILTIN

    packs = {pack: [archive.sha256 for archive in entry.archives] for pack, entry in load_manifest().items()}
    known = cache_root() / "facts" / f"{content_key(name, __version__, packs)}.json"
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads(known.read_bytes())["sha256"])
    data = BUILTIN[name]()
    groups = None if data.groups is None else data.groups.tolist()
    given = None if data.given is None else list(data.given)
    value = content_key(list(data.hashes), data.labels.tolist(), list(data.classes), groups, given)
    with suppress(InputError):  # a full disk costs the memory, not the run
        write_atomic(known, canonical_json({"sha256": value}))
    return value


def _file_hashes(path: Path) -> dict[str, str]:
    """sha256 of every visible file under `path` (or of `path` itself) by its relative path."""
    memory = cache_root() / "facts" / f"files-{content_key(path_text(path.resolve()))}.json"
    known: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        known = json.loads(memory.read_bytes())
    found: dict[str, Any] = {}
    try:
        for name, file in _visible(path):
            now = file.stat()
            stamp = [now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino]
            before = known.get(name)
            found[name] = before if before is not None and before[0] == stamp else [stamp, sha256_file(file)]
    except OSError as error:
        raise InputError(
            f"{error.filename or path} cannot be read: {error.strerror or error}. Check its permissions."
        ) from error
    if found != known:
        with suppress(InputError):
            write_atomic(memory, canonical_json(found))
    return {name: value for name, (_, value) in found.items()}


def _visible(path: Path) -> list[tuple[str, Path]]:
    if path.is_file():
        return [(path.name, path)]
    files, seen = [], set()
    for folder, folders, names in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(folder) / name
            if not name.startswith(".") and file.is_file():
                files.append((path_text(file.relative_to(path)), file))
    return files
