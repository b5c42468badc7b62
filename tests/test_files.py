"""Files that a stranger may have written."""

import os
from pathlib import Path

import pytest

from promptgraft.files import open_file, read_file, read_json


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(OSError, match="larger than the 4 bytes"):
        read_file(path, 4)
    with path.open("r+b") as stream:
        stream.truncate(1 << 40)  # takes no space, and would take all memory
    with pytest.raises(OSError, match="larger than"):
        read_file(path, 1 << 20)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero", "."):
        with pytest.raises(OSError, match=r"no regular file|directory"):
            open_file(tmp_path / name)
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "loop", tmp_path / "none", Path("a\0b"), Path("a\ud800b"), tmp_path / ("x" * 300)):
        with pytest.raises(OSError):  # noqa: PT011 (each system has its words)
            read_file(path, 10)


def test_no_link_leads_out_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").write_text("x")
    (tmp_path / "in" / "file").write_text("y")
    (tmp_path / "in" / "link").symlink_to("../out")
    (tmp_path / "in" / "fine").symlink_to("file")
    (tmp_path / "way").symlink_to("in")
    assert read_file(tmp_path / "way" / "fine", 9, inside=tmp_path / "way") == b"y"
    with pytest.raises(OSError, match="link to a file outside its folder"):
        read_file(tmp_path / "in" / "link", 9, inside=tmp_path / "in")


def test_json_is_what_every_reader_understands() -> None:
    assert read_json(b'\xef\xbb\xbf{"a": [1, 2.5, null, "\\ud83d\\ude00"]}') == {"a": [1, 2.5, None, "😀"]}
    assert read_json('{"a": {"b": 1}, "c": {"b": 1}}') == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": 1, "b": 2, "a": 1}', "the key 'a' stands there twice"),
        (b'[{"x": {"y": 1, "y": 2}}]', "the key 'y' stands there twice"),
        (b"NaN", "NaN is not a finite number"),
        (b"[-Infinity]", "-Infinity is not a finite number"),
        (b"1e999", "1e999 is not a finite number"),
        (b'"\\ud800"', "half a character"),
        (b'"\xed\xa0\x80"', "can't decode"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "Exceeds the limit"),
        ("{}".encode("utf-16"), "can't decode"),
        (b"", "Expecting value"),
        (b"{} {}", "Extra data"),
    ],
)
def test_json_that_is_not(text: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_json(text)
