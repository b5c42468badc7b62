"""Published lists of images: VTAB's text splits, FGVC's tables, json and MATLAB files."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from scipy.io import savemat

from hostile.mutations import Files, changed_json, damaged, files_of, lay, spoiled
from hostile.searching import Search, attempt
from promptgraft.tasks.diagnosis import diagnose
from promptgraft.tasks.fgvc import list_fgvc
from promptgraft.tasks.load import load_task
from promptgraft.tasks.matlab import read_matlab
from tasks.test_task_fgvc import PUBLISHED, records


def read(folder: Path) -> None:
    assert diagnose(folder).layout
    task = load_task(folder, skip_bad=True)
    assert task.info.model_dump_json()
    for split in (task.train, task.val, task.test):
        for name in split.names:
            assert not Path(name).is_absolute()
            assert ".." not in Path(name).parts


def vtab(folder: Path) -> None:
    from PIL import Image

    for number, (split, count) in enumerate((("train800", 6), ("val200", 3), ("test", 3))):
        lines = [f"images/{split}/{i:06}.jpg {i % 3}" for i in range(count)]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
        for i, line in enumerate(lines):
            path = folder / line.split()[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 20 * i + 7 * number).save(path)


LAYOUTS: dict[str, Callable[[Path], None]] = {"vtab": vtab, **{name: make for name, (make, *_) in PUBLISHED.items()}}


@pytest.fixture(scope="module", params=LAYOUTS)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("lists")
    LAYOUTS[request.param](folder)
    return files_of(folder)


def lists(files: dict[str, bytes]) -> tuple[str, ...]:
    return tuple(name for name in files if Path(name).suffix in (".txt", ".json", ".mat"))


def test_lists(search: Search, files: dict[str, bytes]) -> None:
    search(read, spoiled(files, lists(files)), examples=15)


@pytest.mark.parametrize("odd", ["pipe", "device", "loop", "broken link", "folder"])
def test_nothing_is_waited_for(files: dict[str, bytes], odd: str, tmp_path: Path) -> None:
    for name in lists(files):
        folder = lay({**files, name: odd}, tmp_path / name.replace("/", "-"))  # type: ignore[dict-item]
        attempt(lambda folder=folder: read(folder))  # type: ignore[misc]


@st.composite
def names_in_json(draw: st.DrawFn) -> Files:
    table = b'{"a/1.jpg": 1, "a/2.jpg": 1, "b/1.jpg": 2, "b/2.jpg": "x"}'
    return {"train.json": draw(changed_json(table)), "val.json": draw(damaged(table)), "test.json": table}


def test_names_in_json(search: Search) -> None:
    def listed(folder: Path) -> None:
        for file in list_fgvc(folder).files:
            assert Path(os.path.normpath(file)).is_relative_to(folder)

    search(listed, names_in_json())


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind: int, dims: tuple[int, ...], *parts: bytes, name: bytes = b"labels") -> bytes:
    flags, sizes = element(6, struct.pack("<II", kind, 0)), element(5, struct.pack(f"<{len(dims)}i", *dims))
    return element(14, flags + sizes + element(1, name) + b"".join(parts))


def level5(*parts: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(parts)


def nested(depth: int) -> bytes:
    inner = matrix(9, (1, 1), element(2, b"\1"))
    for _ in range(depth):
        inner = matrix(1, (1, 1), inner)
    return inner


MATLAB = {
    "a cell of a thousand million": level5(matrix(1, (1 << 15, 1 << 15))),
    "numbers of a thousand million": level5(matrix(9, (1 << 30, 1), element(9, b""))),
    "a text of a thousand million": level5(matrix(4, (1, 1 << 30))),
    "structs without end": level5(matrix(2, (1 << 30, 1), element(5, struct.pack("<i", 8)), element(1, b""))),
    "less than nothing": level5(matrix(1, (-1, -1), nested(1))),
    "nested": level5(nested(2000)),
    "packed zeros": level5(struct.pack("<II", 15, 0) + b""),
    "a bomb": level5(element(15, zlib.compress(bytes(300_000_000), 9))),
    "not packed": level5(element(15, b"x" * 100)),
    "sparse": level5(matrix(5, (1 << 30, 1 << 30), element(5, b""), element(5, b""), element(9, b""))),
    "a function": level5(matrix(16, (1, 1), nested(1))),
    "of level 4": np.array([0, 1, 1, 0, 2], "<i4").tobytes() + b"x\0" + bytes(8),
    "of hdf5": b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n",
    "empty flags": level5(element(14, element(6, b"") + element(5, b"") + element(1, b"labels"))),
    "no field": level5(matrix(2, (1, 1), element(5, b""), element(1, b""))),
    "nothing": b"",
}


@pytest.mark.parametrize("name", MATLAB)
def test_matlab_files_that_promise_too_much(name: str, tmp_path: Path) -> None:
    files = {"imagelabels.mat": MATLAB[name], "setid.mat": MATLAB[name], "jpg/image_00001.jpg": b""}
    folder = lay(files, tmp_path / "flowers")
    assert not attempt(lambda: load_task(folder))


@st.composite
def matlab_files(draw: st.DrawFn, packed: bool, folder: Path) -> Files:
    path = folder / f"{packed}.mat"
    if not path.exists():
        cell = np.array([["a/1.jpg"], ["b/2.jpg"]], dtype=object)
        content = {"labels": [[1, 2, 3]], "cell": cell, "annotations": records(fname=["x", "y"], test=[1, 0])}
        savemat(path, content, do_compression=packed)
    data = path.read_bytes()
    if packed:
        return {"file.mat": draw(damaged(data))}
    return {"file.mat": data[:128] + draw(damaged(draw(damaged(data[128:]))))}


@pytest.mark.parametrize("packed", [False, True])
def test_matlab_files(search: Search, packed: bool, tmp_path: Path) -> None:
    from promptgraft.errors import InputError

    def one(folder: Path) -> None:
        try:
            assert isinstance(read_matlab((folder / "file.mat").read_bytes()), dict)
        except ValueError as error:
            raise InputError(f"refused: {error}") from error

    search(one, matlab_files(packed, tmp_path), examples=50)
