"""Slow work on the cache: done once, by one process, whole or not at all."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from promptgraft.errors import InputError
from promptgraft.files import atomic_folder

try:
    import fcntl
except ImportError:  # Windows: the work may be done twice, and the atomic rename keeps either result whole
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a hidden file beside `path` while the block runs; it dies with the process.

    Raises:
        InputError: the folder of `path` cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = (path.parent / f".{path.name}.lock").open("wb")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot write {path.parent}: {reason}. Point PROMPTGRAFT_CACHE elsewhere.") from error
    with stream:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def build_once(folder: Path, write: Callable[[Path], None]) -> Path:
    """Return `folder`, first filled by `write` (which gets a temporary folder) where it does not exist yet.

    Raises:
        InputError: it cannot be written.
    """
    if not folder.is_dir():
        with locked(folder):
            if not folder.is_dir():
                with atomic_folder(folder) as temporary:
                    write(temporary)
    return folder
