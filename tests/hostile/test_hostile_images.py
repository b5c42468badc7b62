"""Folders of images: odd files, odd names, bombs."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from hostile.mutations import TEXTS, Files, damaged, lay, spoiled
from hostile.searching import Search, attempt
from promptgraft.tasks.diagnosis import diagnose
from promptgraft.tasks.load import load_task
from promptgraft.tasks.unlabelled import read_inputs

FORMATS = ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm", "ico", "tga", "jpeg2000")


def picture(number: int, kind: str, mode: str = "RGB", size: int = 16) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (size, size, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(stream, kind)
    return stream.getvalue()


def folder_of(kind: str = "png") -> dict[str, bytes]:
    return {f"{name}/{i}.{kind}": picture(10 * (name == "b") + i, kind) for name in "ab" for i in range(3)}


def read(folder: Path) -> None:
    assert diagnose(folder).layout
    task = load_task(folder, skip_bad=True)
    assert task.info.model_dump_json()
    for split in (task.train, task.val, task.test):
        assert all(split.inputs[i].mode == "RGB" for i in range(len(split)))
    names, inputs, _ = read_inputs([str(folder)], "vision", pair=False, skip_bad=True)
    assert len(names) == len(inputs)


@st.composite
def folders(draw: st.DrawFn) -> Files:
    kind = draw(st.sampled_from(FORMATS))
    files = folder_of(kind)
    if draw(st.booleans()):
        return draw(spoiled(files))
    name = draw(st.sampled_from(sorted(files)))
    return {**files, name: draw(damaged(files[name]))}


def test_image_folders(search: Search) -> None:
    search(read, folders())


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, rows: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG file; `rows` are what its one chunk of pixels unpacks to."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def text_chunk(size: int) -> bytes:
    content = b"Comment\0\0" + zlib.compress(bytes(size))
    return struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))


BOMBS = {
    "too many pixels": lambda: png(1 << 15, 1 << 15),
    "as wide as can be": lambda: png((1 << 31) - 1, 1),
    "more than a number holds": lambda: png(0xFFFFFFFF, 0xFFFFFFFF),
    "a long text beside it": lambda: png(4, 4, rows=bytes(52), extra=text_chunk(200_000_000)),
    "more rows than it says": lambda: png(4, 4, rows=bytes(200_000_000)),
    "80 million pixels of nothing": lambda: png(10_000, 8_000),
    "a small file of many pixels": lambda: png(3_000, 3_000, rows=bytes(3_000 * 9_001)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str, tmp_path: Path) -> None:
    files = folder_of()
    folder = lay({**files, "a/bomb.png": BOMBS[name]()}, tmp_path / "photos")
    assert attempt(lambda: read(folder))


@pytest.mark.parametrize("odd", ["pipe", "device", "loop", "outside", "broken link", "folder"])
@pytest.mark.parametrize("place", ["a/0.png", "b", "c/1.png", "train/a.png"])
def test_what_is_no_file_is_named_or_skipped(place: str, odd: str, tmp_path: Path) -> None:
    files = {name: content for name, content in folder_of().items() if not name.startswith(f"{place}/")}
    folder = lay({**files, place: odd}, tmp_path / "photos")  # type: ignore[dict-item]
    attempt(lambda: read(folder))
    attempt(lambda: load_task(folder))


def test_folders_without_end(tmp_path: Path) -> None:
    folder = lay(folder_of(), tmp_path / "photos")
    (folder / "a" / "again").symlink_to(folder)
    (folder / "loop").symlink_to(folder)
    folder.joinpath("b", *["d"] * 300).mkdir(parents=True)
    assert attempt(lambda: read(folder))


def test_names_of_classes(tmp_path: Path) -> None:
    """Whatever a file system takes for a name: it is read, and can be written into a card."""
    names = [text for text in TEXTS if text not in ("", ".", "..") and not {"/", "\0"} & set(text)]
    names = [
        name for name in names if len(name.encode("utf-8", "surrogateescape" if "\udc80" in name else "replace")) < 256
    ]
    files: dict[str, bytes] = {}
    for number, name in enumerate(names):
        if "\ud800" not in name:
            files |= {f"{name}/{i}.png": picture(3 * number + i, "png") for i in range(3)}
    folder = lay(files, tmp_path / "photos")
    assert attempt(lambda: read(folder))
    assert len(load_task(folder).classes) > 20
