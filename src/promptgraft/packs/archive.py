"""Plain files inside a .whl, .zip, .tgz or .deb, read without unpacking it and without any external tool."""

import bz2
import contextlib
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import PureWindowsPath
from typing import Any, BinaryIO, cast

from promptgraft.errors import PackError

Members = Mapping[str, Callable[[], bytes]]
"""Name inside the archive to a function that reads the file; folders and links are not among them."""

LIMIT = 1 << 30
"""Bytes of a file inside, and of all that a tar unpacks to; the largest pack takes an eighth."""

_PACKED: dict[bytes, Callable[[BinaryIO], Any]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
"""The first bytes of a compressed tar, and what unpacks it."""


@contextlib.contextmanager
def open_archive(stream: BinaryIO) -> Iterator[Members]:
    """Yield the members of an archive; the kind is told by its first bytes.

    Raises:
        PackError: not an archive of a known kind, damaged, or a member's name points out of the archive.
    """
    magic = stream.read(8)
    stream.seek(0)
    with contextlib.ExitStack() as stack:
        with _damage_named():
            if magic.startswith(b"PK\x03\x04"):
                members = _zip_members(stack.enter_context(zipfile.ZipFile(stream)))
            else:
                tar = _unpacked(_deb_data(stream) if magic == b"!<arch>\n" else stream)
                members = _tar_members(stack.enter_context(tarfile.open(fileobj=tar, mode="r:")))
        yield members


@contextlib.contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except PackError:
        raise
    except Exception as error:  # zipfile, tarfile and what unpacks for them raise whatever they stumble on
        raise PackError(f"the archive cannot be read: {str(error)[:200]}.") from error


def _zip_members(archive: zipfile.ZipFile) -> Members:
    def reader(info: zipfile.ZipInfo) -> Callable[[], bytes]:
        def read() -> bytes:
            _check_size(info.filename, info.file_size)
            with _damage_named(), archive.open(info) as stream:
                return stream.read(info.file_size + 1)  # read() would unpack all that is there, whatever was said

        return read

    files = (i for i in archive.infolist() if not i.is_dir() and not stat.S_ISLNK(i.external_attr >> 16))
    return {_safe(info.filename): reader(info) for info in files}


def _tar_members(archive: tarfile.TarFile) -> Members:
    def reader(info: tarfile.TarInfo) -> Callable[[], bytes]:
        def read() -> bytes:
            _check_size(info.name, info.size)
            with _damage_named():
                stream = archive.extractfile(info)
                assert stream is not None  # only links and folders have no content, and they are not listed
                return stream.read()

        return read

    members, end = {}, -1
    for info in archive:
        if info.offset <= end:
            raise PackError("the archive cannot be read: its members overlap.")
        end = info.offset
        if info.isreg() and not info.issparse():
            members[_safe(info.name)] = reader(info)
    return members


def _check_size(name: str, size: int) -> None:
    if size > LIMIT:
        raise PackError(f"{name[:200]!r} in the archive takes {size} bytes, more than the {LIMIT} allowed.")


class _Bounded:
    """What tarfile needs of a stream, up to `LIMIT`: a bomb is given up where it gets too large."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, place: int) -> int:
        return self._stream.seek(self._checked(place))

    def read(self, size: int) -> bytes:
        self._checked(self.tell() + size)
        return self._stream.read(size)

    def _checked(self, place: int) -> int:
        if not 0 <= place <= LIMIT:
            raise PackError(f"the archive cannot be read: it unpacks to more than {LIMIT} bytes.")
        return place


def _unpacked(stream: BinaryIO) -> BinaryIO:
    """A tar without its compression."""
    magic = stream.read(2)
    stream.seek(0)
    return cast(BinaryIO, _Bounded(_PACKED[magic](stream) if magic in _PACKED else stream))


def _deb_data(stream: BinaryIO) -> BinaryIO:
    """The data.tar.* of a Debian package: an ar archive of 60-byte headers, each member padded to an even length."""
    stream.seek(8)
    while len(header := stream.read(60)) == 60:
        if not header[48:58].strip().isdigit():
            break
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
        raise PackError(f"the archive holds {name[:200]!r}, which points out of it. Nothing of it was read.")
    return name.removeprefix("./")
