"""Plain files inside a .whl, .zip, .tgz or .deb, read without unpacking it and without any external tool."""

import contextlib
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import PureWindowsPath
from typing import BinaryIO

from promptgraft.errors import PackError

Members = Mapping[str, Callable[[], bytes]]
"""Name inside the archive to a function that reads the file; folders and links are not among them."""


@contextlib.contextmanager
def open_archive(stream: BinaryIO) -> Iterator[Members]:
    """Yield the members of an archive; the kind is told by its first bytes.

    Raises:
        PackError: not an archive of a known kind, damaged, or a member's name points out of the archive.
    """
    magic = stream.read(8)
    stream.seek(0)
    try:
        if magic.startswith(b"PK\x03\x04"):
            with zipfile.ZipFile(stream) as archive:
                yield _zip_members(archive)
        else:
            inner = _deb_data(stream) if magic == b"!<arch>\n" else stream
            with tarfile.open(fileobj=inner) as archive:
                yield _tar_members(archive)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise PackError(f"the archive cannot be read: {error}.") from error


def _zip_members(archive: zipfile.ZipFile) -> Members:
    files = (i for i in archive.infolist() if not i.is_dir() and not stat.S_ISLNK(i.external_attr >> 16))
    return {_safe(info.filename): partial(archive.read, info) for info in files}


def _tar_members(archive: tarfile.TarFile) -> Members:
    return {_safe(info.name): partial(_read_tar, archive, info) for info in archive if info.isreg()}


def _read_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(info)
    assert stream is not None  # only links and folders have no content, and they are not listed
    return stream.read()


def _deb_data(stream: BinaryIO) -> BinaryIO:
    """The data.tar.* of a Debian package: an ar archive of 60-byte headers, each member padded to an even length."""
    stream.seek(8)
    while len(header := stream.read(60)) == 60:
        size = int(header[48:58])
        if header.startswith(b"data.tar"):
            return io.BytesIO(stream.read(size))
        stream.seek(size + size % 2, io.SEEK_CUR)
    raise PackError("the archive cannot be read: a Debian package without data.tar.")


def _safe(name: str) -> str:
    """The member's name without a leading "./".

    Raises:
        PackError: the name is absolute or climbs out of the folder that it would be written to.
    """
    path = PureWindowsPath(name)  # takes both kinds of slashes, and drives
    if path.anchor or ".." in path.parts:
        raise PackError(f"the archive holds {name!r}, which points out of it. Nothing of it was read.")
    return name.removeprefix("./")
