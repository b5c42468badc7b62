import io
import stat
import tarfile
import zipfile

import pytest

from promptgraft.errors import PackError
from promptgraft.packs.archive import open_archive


def zip_bytes(files: dict[str, bytes], link: str | None = None) -> io.BytesIO:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
    stream.seek(0)
    return stream


def tar_bytes(files: dict[str, bytes], mode: str = "w:gz", link: str | None = None) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    stream.seek(0)
    return stream


def deb_bytes(members: dict[str, bytes]) -> io.BytesIO:
    """An ar archive as `ar(5)` describes it: odd-sized members are padded."""
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
        parts += [header.encode(), content, b"\n" * (len(content) % 2)]
    return io.BytesIO(b"".join(parts))


FILES = {"a/x.txt": b"one", "a/y.bin": bytes(range(256))}


@pytest.mark.parametrize(
    "stream",
    [
        zip_bytes(FILES),
        tar_bytes(FILES),
        tar_bytes({f"./{name}": content for name, content in FILES.items()}, "w:xz"),
        deb_bytes(
            {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": tar_bytes(FILES, "w:xz").getvalue()}
        ),
    ],
    ids=["zip", "tgz", "tar.xz", "deb"],
)
def test_every_kind_gives_the_same_files(stream: io.BytesIO) -> None:
    with open_archive(stream) as members:
        assert {name: read() for name, read in members.items()} == FILES


@pytest.mark.parametrize("stream", [zip_bytes(FILES, link="a/link"), tar_bytes(FILES, link="a/link")])
def test_links_are_not_members(stream: io.BytesIO) -> None:
    with open_archive(stream) as members:
        assert set(members) == set(FILES)


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/out", "..\\out", "C:\\out"])
@pytest.mark.parametrize("make", [zip_bytes, tar_bytes])
def test_names_that_point_out_are_refused(make, name: str) -> None:
    with pytest.raises(PackError, match="points out of it"), open_archive(make({"fine": b"", name: b"bad"})):
        pass


@pytest.mark.parametrize(
    "content",
    [b"", b"not an archive", zip_bytes(FILES).getvalue()[:40], deb_bytes({"debian-binary": b"2.0\n"}).getvalue()],
    ids=["empty", "text", "cut zip", "deb without data"],
)
def test_damaged_archives_are_one_clear_error(content: bytes) -> None:
    with pytest.raises(PackError, match="cannot be read"), open_archive(io.BytesIO(content)):
        pass
