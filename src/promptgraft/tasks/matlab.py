"""MATLAB files, as far as lists of images need them: numbers, texts, cells and structs, whole and compressed.

After "MAT-File Level 5 File Format" (MathWorks, https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf). The
file may be a stranger's: nothing here gets larger than what the file holds, and what it unpacks to is bounded. Other
readers make room for as many entries as a header asks for.
"""

import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

LIMIT = 1 << 24
"""Bytes that the compressed parts of a file may unpack to together; the largest of FGVC take half of it."""
_DEEPEST = 5

_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
"""Types of data elements -> of numpy, and encodings."""
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _TEXT, _NUMERIC = 1, 2, 4, range(6, 16)
"""Types of data elements that hold others; classes of arrays."""


def read_matlab(data: bytes) -> dict[str, Any]:
    """The variables of a file by name, all flat, entries in MATLAB's order (columns first).

    Returns:
        numbers as a list, or as a number where there is one; a text as `str`; a cell as a list; an array of structs as
        a dict of lists. Variables of other kinds are left out.

    Raises:
        ValueError: it is no such file, is damaged, or unpacks to too much.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise ValueError("it is not of level 5")
    found, room = {}, LIMIT
    for kind, content in _elements(data[128:], order):
        if kind == _COMPRESSED:
            content = _inflated(content, room)
            room -= len(content)
            kind, content = next(_elements(content, order), (0, b""))
        if kind == _MATRIX:
            name, value = _matrix(content, order)
            found[name] = value
    return found


def _inflated(content: bytes, room: int) -> bytes:
    try:
        unpacked = zlib.decompressobj().decompress(content, room + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(unpacked) > room:
        raise ValueError(f"it unpacks to more than {LIMIT} bytes")
    return unpacked


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Type and content of each data element; small ones have both in 8 bytes."""
    at = 0
    while at < len(data):
        kind, size = _integers(data[at : at + 8], order)
        at += 8
        if kind >> 16:
            kind, size, start = kind & 0xFFFF, kind >> 16, at - 4
        else:
            start, at = at, at + size + (0 if kind == _COMPRESSED else -size % 8)
        if start + size > len(data):
            raise ValueError("it is cut")
        yield kind, data[start : start + size]


def _integers(data: bytes, order: str) -> list[int]:
    values: list[int] = np.frombuffer(data, f"{order}u4").tolist()
    return values


def _matrix(content: bytes, order: str, depth: int = 0) -> tuple[str, Any]:
    """Name and value of an array."""
    if not content:  # nothing in an entry of a cell
        return "", []
    if depth > _DEEPEST:
        raise ValueError(f"arrays are nested deeper than {_DEEPEST}")
    (_, flags), (_, sizes), (_, name), *parts = _elements(
        content, order
    )  # a ValueError where there are fewer, as below
    (flag, *_), (rows, *columns) = _integers(flags, order), _integers(sizes, order)
    kind, count = flag & 0xFF, math.prod((rows, *columns))
    value: Any = None
    if kind == _CELL:
        value = [_matrix(part, order, depth + 1)[1] for _, part in parts]
        _agree(count, len(value))
    elif kind == _STRUCT:
        (_, width), (_, names), *parts = parts  # what a text of a field's name takes, and all of them
        (size,) = _integers(width, order)
        step = max(size, 1)
        fields = [names[i : i + step].partition(b"\0")[0].decode("latin-1") for i in range(0, len(names), step)]
        items = [_matrix(part, order, depth + 1)[1] for _, part in parts]
        _agree(count * len(fields), len(items))
        value = {field: items[i :: len(fields)] for i, field in enumerate(fields)}
    elif parts and kind == _TEXT:
        if rows > 1:
            raise ValueError("it holds a text of several rows")
        value = parts[0][1].decode(_encoding(parts[0][0], order))
    elif parts and kind in _NUMERIC:
        if parts[0][0] not in _NUMBERS:
            raise ValueError(f"it holds numbers of the unknown type {parts[0][0]}")
        value = np.frombuffer(parts[0][1], order + _NUMBERS[parts[0][0]]).tolist()
        _agree(count, len(value))
        value = value[0] if count == 1 else value
    return name.decode("latin-1"), value


def _encoding(kind: int, order: str) -> str:
    if kind not in _TEXTS:
        raise ValueError(f"it holds a text of the unknown type {kind}")
    name = _TEXTS[kind]
    return f"{name}-{'le' if order == '<' else 'be'}" if name in ("utf-16", "utf-32") else name


def _agree(said: int, found: int) -> None:
    if said != found:
        raise ValueError(f"an array of {said} entries holds {found}")
