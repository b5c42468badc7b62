"""Archives of packs. Their sha256 is checked before they are opened; a reader that is shown others refuses them."""

import bz2
import contextlib
import gzip
import io
import lzma
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from hostile.mutations import Files, changed_zip, damaged, texts
from hostile.searching import Search, attempt
from packs.test_archive import FILES, deb_bytes, tar_bytes, zip_bytes
from promptgraft.errors import PackError
from promptgraft.packs.archive import open_archive


def read(folder: Path) -> None:
    read_bytes((folder / "archive").read_bytes())


def read_bytes(content: bytes) -> None:
    with open_archive(io.BytesIO(content)) as members:
        for name, member in members.items():
            assert ".." not in name.split("/")
            assert not name.startswith("/")
            member()


@st.composite
def archives(draw: st.DrawFn) -> Files:
    tar = tar_bytes(FILES, "w").getvalue()
    match draw(st.sampled_from(["zip", "tar", "tgz", "xz", "bz2", "deb", "names"])):
        case "zip":
            content = draw(changed_zip(zip_bytes(FILES).getvalue()))
        case "tar":
            content = draw(damaged(tar))
        case "deb":
            parts = {"debian-binary": b"2.0\n", "data.tar": tar}
            content = draw(damaged(deb_bytes(parts).getvalue()))
        case "names":
            make: Any = draw(st.sampled_from([zip_bytes, tar_bytes]))
            content = make({draw(texts).encode("utf-8", "replace").decode() or "x": b"x"}).getvalue()
        case kind:
            pack: Any = {"tgz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}[kind]
            inner = draw(st.booleans())
            content = pack(draw(damaged(tar))) if inner else draw(damaged(pack(tar)))
    return {"archive": content}


def test_archives(search: Search) -> None:
    search(read, archives(), examples=50)


def zeros(size: int) -> bytes:
    """A gzip file that unpacks to so many zeros."""
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=9) as packed:
        for _ in range(size >> 20):
            packed.write(bytes(1 << 20))
    return stream.getvalue()


def vast_zip() -> bytes:
    """A member that says that it has 3 thousand million bytes."""
    content = zip_bytes({"a": b"x" * 77}).getvalue()
    place = content.index(b"PK\x01\x02") + 24
    return content[:place] + (3_000_000_000).to_bytes(4, "little") + content[place + 4 :]


def huge_tar() -> bytes:
    """A header that says that a file, or a longer name, of a tebibyte follows."""
    info = tarfile.TarInfo("a")
    info.size = 1 << 40
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def long_name() -> bytes:
    info = tarfile.TarInfo("a")
    info.size, info.type = 1 << 40, tarfile.GNUTYPE_LONGNAME
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def backwards() -> bytes:
    """A second file with a size below zero, which leads back to its header again and again."""
    header = bytearray(tarfile.TarInfo("b").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (-512 & (1 << 96) - 1).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT) + bytes(header) + bytes(1024)


def endless_deb() -> bytes:
    return b"!<arch>\n" + f"{'a':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{-60:<10}`\n".encode()


BOMBS = {
    "zeros": lambda: gzip.compress(huge_tar()[:512]) + zeros(100 << 20),
    "vast zip": vast_zip,
    "huge tar": huge_tar,
    "packed huge tar": lambda: gzip.compress(huge_tar()),
    "long name": lambda: gzip.compress(long_name()),
    "backwards": backwards,
    "endless deb": endless_deb,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_given_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptgraft.packs.archive.LIMIT", 1 << 26)  # the real one takes seconds to reach
    content = BOMBS[name]()
    assert not attempt(lambda: read_bytes(content))


def test_a_member_larger_than_it_says_is_not_unpacked() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(60_000_000))
    said, small = (60_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
    assert stream.getvalue().count(said) >= 2
    with open_archive(io.BytesIO(stream.getvalue().replace(said, small))) as members:
        tracemalloc.start()
        with contextlib.suppress(PackError):
            members["a"]()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 5_000_000


def test_damage_inside_a_member_is_named() -> None:
    content = zip_bytes({"a": b"x" * 1000}).getvalue().replace(b"xxx", b"xyx", 1)
    with open_archive(io.BytesIO(content)) as members, pytest.raises(PackError, match="cannot be read"):
        members["a"]()


def test_an_error_of_the_one_who_reads_is_left_alone() -> None:
    with pytest.raises(EOFError), open_archive(zip_bytes(FILES)):
        raise EOFError
