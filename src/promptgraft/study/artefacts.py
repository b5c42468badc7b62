"""Files that trials leave in a study's folder: written whole, named by their trial, checked by hash before use."""

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from promptgraft.files import open_file, write_atomic
from promptgraft.study.trial import Trial

FOLDER = "prompts"


def place_artefacts(trial: Trial, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Path inside the study's folder -> content, for a trial's files by name; `prompts/` is a prompt library."""
    name = portable_name(trial.labels["source"]) if files else ""
    return {f"{FOLDER}/{name}-{trial.key[:8]}/{file}": content for file, content in files.items()}


def portable_name(label: str) -> str:
    """What a library can call the source prompt of that label."""
    parts = [re.sub(r"[^A-Za-z0-9._-]+", "-", part) for part in label.split("/")]
    return "/".join(part[:80].strip("._-") or "x" for part in parts)


def hash_artefacts(files: Mapping[str, bytes]) -> dict[str, str]:
    """Path -> sha256 of its content."""
    return {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}


def write_artefacts(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put files into a study's folder.

    Args:
        folder: of the study.
        files: path inside it -> content.

    Raises:
        InputError: the disk is full or the folder cannot be written.
    """
    for path, content in files.items():
        write_atomic(folder / path, content)


def read_artefacts(folder: Path, expected: Mapping[str, str]) -> dict[str, bytes] | None:
    """File name -> content; None where a file is missing or is not what was written."""
    found = {}
    for path, sha256 in expected.items():
        content = b""
        if _inside(path):
            with suppress(OSError), open_file(folder / path) as stream:
                content = stream.read()
        if hashlib.sha256(content).hexdigest() != sha256:
            return None
        found[Path(path).name] = content
    return found


def _inside(path: str) -> bool:
    """A store may be a stranger's: no path out of the study's folder is followed."""
    return not Path(path).is_absolute() and ".." not in Path(path).parts


def check_writable(folder: Path) -> None:
    """Refuse a study folder that cannot be written before any trial has run.

    Raises:
        InputError: says why.
    """
    probe = folder / ".write-check"
    write_atomic(probe, b"")
    with suppress(OSError):
        probe.unlink()
