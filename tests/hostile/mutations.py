"""What a hostile hand may do to the files of a folder, as hypothesis strategies."""

import copy
import json
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from hypothesis import strategies as st

Odd = Literal["pipe", "device", "loop", "outside", "broken link", "folder"]
"""What may stand where a file should: a named pipe, a link to a device, to itself, to a file elsewhere, to nothing."""

ODD: tuple[Odd, ...] = ("pipe", "device", "loop", "outside", "broken link", "folder")

Files = Mapping[str, bytes | Odd]
"""Path inside a folder -> content, or what stands there instead."""

TEXTS = (
    *("", " ", "\0", "a\0b", ".", "..", "../../etc/passwd", "/etc/passwd", "C:\\x", "a/b", "con", "-rf", "~", "$HOME"),
    *("\x1b[31mred\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\r\n", "\x7f", "\u2028", "\ufeff", "\u200b"),  # terminals
    *("\u202egnp.exe", "\u2066x\u2069", "e\u0301", "\u00e9", "\u212b", "\ud800", "\udc80", "\U0010ffff", "\uffff"),
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"'><svg/onload=alert(1)>", "&lt;b&gt;", "]]>"),
    *("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "=cmd|' /C calc'!A0", '=HYPERLINK("http://x","y")'),
    *("NaN", "null", "true", "1e999", "0x10", "!!python/object:os.system", "&a [*a]", "{{7*7}}", "%s%n", "${jndi:x}"),
    *("x" * 300, "x" * 5000, "[link](javascript:alert(1))", "| a | b |", "# title", "`code`", "\\input{/etc/passwd}"),
)
"""Texts that mean something to a file system, a terminal, a page, a spreadsheet, a parser."""

NUMBERS = (
    *(
        0,
        -1,
        1,
        2,
        255,
        1 << 15,
        1 << 16,
        (1 << 31) - 1,
        1 << 31,
        1 << 32,
        (1 << 63) - 1,
        1 << 63,
        1 << 64,
        -(1 << 63),
    ),
    *(10**30, 10**400, 0.0, -0.0, 0.5, 1.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf")),
)

texts = st.sampled_from(TEXTS) | st.text(max_size=20)

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
"""Whatever JSON or YAML may hold, and what Python's json writes beyond that."""


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes that were cut, flipped, overwritten, moved or added to."""
    kind = draw(st.sampled_from(["cut", "flip", "flip", "flip", "write", "drop", "repeat", "append", "zero", "other"]))
    start = draw(st.integers(0, max(len(data) - 1, 0)))
    end = min(start + draw(st.integers(1, 64)), len(data))
    match kind:
        case "cut":
            return data[:start]
        case "flip":
            changed = bytearray(data)
            for place in draw(st.lists(st.integers(0, max(len(data) - 1, 0)), min_size=1, max_size=8)):
                if changed:
                    changed[place] ^= 1 << draw(st.integers(0, 7))
            return bytes(changed)
        case "write":
            return data[:start] + draw(st.binary(min_size=1, max_size=16)) + data[end:]
        case "drop":
            return data[:start] + data[end:]
        case "repeat":
            return data[:end] + data[start:end] * draw(st.integers(1, 50)) + data[end:]
        case "append":
            return data + draw(st.binary(min_size=1, max_size=100))
        case "zero":
            return data[:start] + bytes(len(data) - start)
        case _:
            return draw(st.binary(max_size=200))


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value inside a JSON document, itself included."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(place for key, item in below for place in places(item, (*way, key)))]


@st.composite
def changed(draw: st.DrawFn, document: Any, new: st.SearchStrategy[Any] = values) -> Any:
    """A JSON document with one or two of its values changed, left out, added or wrapped."""
    holder = [copy.deepcopy(document)]
    for _ in range(draw(st.integers(1, 2))):
        *way, last = draw(st.sampled_from(places(holder)[1:]))
        parent: Any = holder
        for key in way:
            parent = parent[key]
        match draw(st.sampled_from(["replace", "replace", "replace", "drop", "add", "wrap", "swap"])):
            case "drop" if parent is not holder:
                del parent[last]
            case "add" if isinstance(parent[last], dict):
                parent[last][draw(texts)] = draw(new)
            case "add" if isinstance(parent[last], list):
                parent[last].append(draw(new))
            case "wrap":
                parent[last] = draw(st.sampled_from([[parent[last]], {"x": parent[last]}, str(parent[last])]))
            case "swap":
                other: Any = holder
                for key in draw(st.sampled_from(places(holder)[1:])):
                    other = other[key]
                parent[last] = copy.deepcopy(other)
            case _:
                parent[last] = draw(new)
    return holder[0]


@st.composite
def changed_json(draw: st.DrawFn, data: bytes) -> bytes:
    """The text of a changed JSON document, or a text that no careful writer makes of it."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):  # it was changed before
        return draw(damaged(data))
    match draw(st.sampled_from(["value", "value", "value", "value", "key twice", "deep", "bytes", "encoding"])):
        case "key twice":
            text = data.decode()
            starts = [number for number, letter in enumerate(text) if letter == "{"]
            at = draw(st.sampled_from(starts)) + 1 if starts else 0
            key = text[at:].lstrip().partition(":")[0] if text[at:].lstrip().startswith('"') else '"x"'
            return f"{text[:at]}{key}: {json.dumps(draw(values))}, {text[at:]}".encode("utf-8", "surrogatepass")
        case "deep":
            return draw(st.sampled_from([b"[" * 100_000, b'{"a":' * 50_000, b"[" * 900 + b"]" * 900]))
        case "bytes":
            return draw(damaged(data))
        case "encoding":
            return data.decode().encode(draw(st.sampled_from(["utf-8-sig", "utf-16", "utf-32", "utf-7"])))
        case _:
            text = json.dumps(draw(changed(document)), ensure_ascii=draw(st.booleans()))
            return text.encode("utf-8", "surrogatepass")


DTYPES = (
    *("BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64", "F16", "BF16", "F32", "F64", "C64", "F8_E4M3"),
    *("F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2", "f32", "", "O", "X"),
)


def safetensors_file(header: Any, body: bytes, length: int | None = None) -> bytes:
    """A safetensors file as it stands, however little header and body agree."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text) if length is None else length) + text + body


@st.composite
def changed_safetensors(draw: st.DrawFn, data: bytes) -> bytes:
    """A safetensors file with another header, another length of it, or other numbers."""
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    names = [name for name in header if name != "__metadata__"]
    entry = header[draw(st.sampled_from(names))]
    kinds = ["length", "dtype", "shape", "offsets", "overlap", "json", "json", "bytes", "numbers", "empty", "more"]
    match draw(st.sampled_from(kinds)):
        case "length":
            wrong = st.sampled_from([0, 1, 7, size - 1, size + 1, len(data), 10**8, 10**8 + 1, 1 << 63, (1 << 64) - 1])
            return safetensors_file(header, body, draw(wrong))
        case "dtype":
            entry["dtype"] = draw(st.sampled_from(DTYPES) | values)
        case "shape":
            huge = st.sampled_from([0, 1, 2, 1 << 20, 1 << 31, 1 << 62, 1 << 63, -1, 10**30])
            entry["shape"] = draw(st.lists(huge, max_size=4) | st.just([1] * 100) | st.just([0] * 70) | values)
        case "offsets":
            places = st.sampled_from([0, 1, len(body), len(body) + 1, 1 << 32, 1 << 63, (1 << 64) - 1, -1])
            entry["data_offsets"] = draw(st.lists(places, max_size=3) | values)
        case "overlap":
            for name in names:
                header[name]["data_offsets"] = entry["data_offsets"]
        case "json":
            return safetensors_file(draw(changed_json(data[8 : 8 + size])), body)
        case "bytes":
            return draw(damaged(data))
        case "numbers":
            odd = st.sampled_from([float("nan"), float("inf"), -0.0, 3e38, 1e-45])
            return data[: 8 + size] + struct.pack("<f", draw(odd)) + body[4:]
        case "empty":
            entry["shape"], entry["data_offsets"] = [0], [0, 0]
        case _:
            for name in draw(st.lists(texts, min_size=1, max_size=20)):
                header[name] = {"dtype": "F32", "shape": [0, 4], "data_offsets": [len(body)] * 2}
    return safetensors_file(header, body)


@st.composite
def changed_zip(draw: st.DrawFn, data: bytes) -> bytes:
    """A zip archive, such as torch saves, with other members, other names, or other bytes."""
    if draw(st.booleans()):
        return draw(damaged(data))
    stream = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
        chosen = draw(st.sampled_from(old.namelist()))
        for name in old.namelist():
            content = old.read(name)
            if name == chosen:
                name, content = draw(st.just((name, draw(damaged(content)))) | st.tuples(texts, st.just(content)))
            packing = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]))
            new.writestr(zipfile.ZipInfo(name.encode("utf-8", "replace").decode()), content, packing)
    return stream.getvalue()


@st.composite
def changed_lines(draw: st.DrawFn, data: bytes) -> bytes:
    """A text of lines (a table, a list, JSON lines) with hostile fields, lines and signs in it."""
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged(data))
    lines = data.decode().split("\n")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        line = lines[at]
        match draw(st.sampled_from(["json", "field", "field", "drop", "repeat", "insert", "quote", "end"])):
            case "json" if line.startswith("{"):
                encoded = line.encode("utf-8", "surrogatepass")
                lines[at] = draw(changed_json(encoded)).decode("utf-8", "replace")
            case "field":
                sign = draw(st.sampled_from([",", "\t", " ", '"', "/"]))
                fields = line.split(sign)
                fields[draw(st.integers(0, len(fields) - 1))] = draw(texts)
                lines[at] = sign.join(fields)
            case "drop":
                del lines[at]
                lines = lines or [""]
            case "repeat":
                lines[at:at] = [line] * draw(st.integers(1, 30))
            case "insert":
                lines[at:at] = [draw(texts)]
            case "quote":
                lines[at] = line.replace(",", '",', 1) if draw(st.booleans()) else f'"{line}'
            case _:
                lines[at] = line + draw(st.sampled_from(["\r", "\0", "\x1a", "\x0b", "\x85", "\ud800", ",", "\t"]))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


SPOILERS: dict[str, Callable[[bytes], st.SearchStrategy[bytes]]] = {
    ".json": changed_json,
    ".jsonl": changed_lines,
    ".safetensors": changed_safetensors,
    ".pt": changed_zip,
    ".bin": changed_zip,
    **dict.fromkeys((".csv", ".tsv", ".txt"), changed_lines),
}
"""How files of a kind are spoilt, by suffix; the others as bytes."""


@st.composite
def spoiled(draw: st.DrawFn, files: Mapping[str, bytes], names: tuple[str, ...] | None = None) -> Files:
    """The files of a folder with one or two of them changed, replaced, exchanged or missing.

    Args:
        draw: of hypothesis.
        files: path -> content.
        names: of those that may be spoilt; None for all.
    """
    found: dict[str, bytes | Odd] = dict(files)
    names = names or tuple(files)
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)):
        change = SPOILERS.get(Path(name).suffix, damaged)(files[name])
        kind = draw(st.sampled_from(["change"] * 8 + ["odd", "gone", "exchange"]))
        if kind == "gone":
            del found[name]
        else:
            found[name] = draw(
                {"change": change, "odd": st.sampled_from(ODD)}.get(kind, st.sampled_from(list(files.values())))
            )
    return found


def lay(files: Files, folder: Path) -> Path:
    """Write files, and what stands where a file should, into a new folder."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        match content:
            case bytes():
                path.write_bytes(content)
            case "pipe":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
            case _:
                target = {"device": "/dev/zero", "loop": path.name, "outside": __file__, "broken link": "nowhere"}
                path.symlink_to(target[content])
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    """The files below a folder by their paths in it."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
