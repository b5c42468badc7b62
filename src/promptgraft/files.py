"""Files written whole or not at all, and read as if a stranger had made them; the cache they may live in."""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from promptgraft.errors import InputError


def cache_root() -> Path:
    """The cache folder: `PROMPTGRAFT_CACHE`, else `~/.cache/promptgraft`."""
    return Path(os.environ.get("PROMPTGRAFT_CACHE") or Path.home() / ".cache" / "promptgraft")


def path_text(path: str | os.PathLike[str]) -> str:
    """A path as text that any encoding can hold: bytes of a name that are not UTF-8 are written as hexadecimal."""
    return os.fspath(path).encode("utf-8", "backslashreplace").decode()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spare space: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_key(*parts: Any) -> str:
    """sha256 (hex) of the canonical JSON of `parts`."""
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 (hex) of a regular file's bytes."""
    with open_file(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_file(path: Path) -> BufferedReader:
    """Open a regular file to read its bytes; a pipe or a device, which may keep a reader waiting, is refused.

    Raises:
        OSError: there is no such file, it is of another kind, or it may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:  # of the name: a null character, or half of one
        raise OSError(errno.EINVAL, str(error), path_text(path)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", path_text(path))
    return os.fdopen(descriptor, "rb")


def read_file(path: Path, limit: int, *, inside: Path | None = None) -> bytes:
    """The bytes of a regular file that has `limit` of them at most.

    Args:
        path: of the file.
        limit: bytes.
        inside: a folder out of which no link may lead.

    Raises:
        OSError: as `open_file`, or it is larger, or lies elsewhere.
    """
    with open_file(path) as stream:
        if inside is not None and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(inside)):
            raise OSError(errno.EINVAL, "it is a link to a file outside its folder", path_text(path))
        if os.fstat(stream.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, f"it is larger than the {limit} bytes that it may have", path_text(path))
        return stream.read(limit)


def read_json(text: bytes | str) -> Any:
    """What JSON says, where every reader would understand the same.

    Raises:
        ValueError: it is no JSON in UTF-8, is nested too deeply, holds a key twice, a number that is not finite, or
            half a character (a lone surrogate).
    """
    try:
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_distinct, parse_float=_finite, parse_constant=_refuse_constant)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("half a character, a lone surrogate") from error
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name[:80]!r} stands there twice")
        found[name] = value
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _refuse_constant(text)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name[:80]} is not a finite number")


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file under a temporary name beside it, then rename it into place.

    Raises:
        InputError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Free some space or choose another place."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that becomes `path` when the block ends without an error.

    Raises:
        InputError: `path` exists and is not an empty folder, or it cannot be written.
    """
    check_output_folder(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        if path.is_dir():
            path.rmdir()
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Free some space or choose another place."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def check_output_folder(path: Path) -> None:
    """Refuse an output folder that already holds something.

    Raises:
        InputError: `path` is a file, or a folder that is not empty, or stands where none can be made.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise InputError(f"output {path} exists and is not a folder. Choose another name.")
    if path.is_dir() and any(path.iterdir()):
        raise InputError(f"output folder {path} exists and is not empty. Choose another name or remove it.")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise InputError(f"output folder {path} cannot be made: {above} is not a folder to write to. Choose another.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
