"""MATLAB files: as scipy reads and writes them."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from promptgraft.tasks.matlab import read_matlab

CONTENT: dict[str, Any] = {
    "one": 5,
    "labels": np.arange(1, 7, dtype=np.uint8)[None],
    "wide": np.array([[1, 1 << 40]], np.int64),
    "halves": np.array([[0.5, -2.5, 1e300]]),
    "column": np.arange(3, dtype=np.int16)[:, None],
    "text": "jpg/image_00001.jpg",
    "accents": "Citroën ZX — 1992",
    "cell": np.array([["a.jpg"], ["b/c.jpg"], ["é"]], dtype=object),
    "mixed": np.array([[1, "x"]], dtype=object),
}


@pytest.mark.parametrize("packed", [False, True])
def test_values_are_those_that_scipy_reads(packed: bool, tmp_path: Path) -> None:
    path = tmp_path / "file.mat"
    records = np.empty((1, 3), dtype=[("name", object), ("class", object)])
    for i in range(3):
        records[0, i] = (f"{i}.jpg", i + 1)
    savemat(path, CONTENT | {"records": records}, do_compression=packed)
    found, theirs = read_matlab(path.read_bytes()), loadmat(path, squeeze_me=True)
    for name in ("labels", "wide", "halves", "column"):
        assert found[name] == theirs[name].tolist()
    for name in ("one", "text", "accents"):
        assert found[name] == theirs[name]
    for name in ("cell", "mixed"):
        assert found[name] == theirs[name].tolist()
    assert found["records"] == {field: theirs["records"][field].tolist() for field in ("name", "class")}


def test_columns_come_first(tmp_path: Path) -> None:
    savemat(tmp_path / "file.mat", {"table": np.arange(6).reshape(2, 3)})
    assert read_matlab((tmp_path / "file.mat").read_bytes())["table"] == [0, 3, 1, 4, 2, 5]


def test_the_other_order_of_bytes() -> None:
    def element(kind: int, content: bytes) -> bytes:
        return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)

    parts = (struct.pack(">II", 6, 0), struct.pack(">ii", 1, 2), b"x", struct.pack(">HH", 1, 513))
    kinds = (6, 5, 1, 4)
    matrix = element(14, b"".join(element(kind, part) for kind, part in zip(kinds, parts, strict=True)))
    assert read_matlab(b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + matrix) == {"x": [1, 513]}


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "not of level 5"), (b"x" * 200, "not of level 5"), (b" " * 126 + b"IM" + b"\1" * 20, "cut")],
)
def test_other_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_matlab(data)
