"""`measured.jsonl`: what is written is read again, and what a stranger wrote does no harm."""

import json
import os
import warnings

import pytest

from promptgraft.errors import InputError
from promptgraft.library import PromptLibrary
from promptgraft.measured import MEASURED_FILE, MEASURED_LIMIT, Transfer, read_measured, write_measured


def transfer(**fields):
    plain = {
        "study": "s",
        "target": "digits",
        "modality": "vision",
        "backbone": "vit",
        "weights_sha256": "0" * 64,
        "method": "projection",
        "source": "text/a",
        "source_id": "a" * 64,
        "accuracy": 0.5,
        "baseline": None,
        "seeds": 3,
        "scores": {"gap": -0.25, "norm": 2},
    }
    return Transfer(**plain | fields)


def line(**fields):
    return json.dumps(transfer().model_dump() | fields)


def test_transfers_are_read_as_they_were_written(tmp_path):
    library = PromptLibrary(tmp_path / "new")
    assert library.measured() == []
    first, second = transfer(target="textile", baseline=0.25), transfer(target="digits", scores={})
    assert library.add_measured([first, second]) == 2
    assert library.measured() == [second, first]  # in the order of their keys
    content = (library.folder / MEASURED_FILE).read_bytes()
    assert library.add_measured([first]) == 2
    assert (library.folder / MEASURED_FILE).read_bytes() == content
    assert list(library) == []
    assert [file.name for file in library.folder.iterdir() if not file.name.startswith(".")] == [MEASURED_FILE]


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("study", "t"),
        ("target", "mnist"),
        ("backbone", "vit at 112 px"),
        ("weights_sha256", "1" * 64),
        ("method", "frozen"),
        ("source_id", "b" * 64),
        ("source", None),
        ("accuracy", None),
    ],
)
def test_an_equal_key_replaces(field, other, tmp_path):
    write_measured(tmp_path, [transfer()])
    changed = {field: other} if other else {"accuracy": 0.75, "source": "text/renamed", "seeds": 5}
    assert write_measured(tmp_path, [transfer(**changed)]) == (2 if other else 1)
    assert transfer(**changed) in read_measured(tmp_path)[0]
    assert (transfer() in read_measured(tmp_path)[0]) == bool(other)


def test_of_equal_keys_in_a_file_the_later_one_stands(tmp_path):
    (tmp_path / MEASURED_FILE).write_text(f"{line()}\n\n{line(accuracy=0.75)}")
    assert read_measured(tmp_path) == ([transfer(accuracy=0.75)], [])


HOSTILE = {
    "no JSON": b"accuracy: 1",
    "bytes": b"\xff\xfe\x00",
    "a list": b"[1, 2]",
    "deep": b"[" * 100_000,
    "empty": b"{}",
    "nan": line().replace("0.5", "NaN").encode(),
    "infinite": line().replace("-0.25", "1e999").encode(),
    "large": line(scores={"gap": 1e300}).encode(),
    "many scores": line(scores={str(number): 1.0 for number in range(101)}).encode(),
    "accuracy": line(accuracy=1.5).encode(),
    "text": line(accuracy="0.5").encode(),
    "no seed": line(seeds=0).encode(),
    "true": line(seeds=True).encode(),
    "long number": line().replace('"seeds": 3', '"seeds": ' + "9" * 5000).encode(),
    "short id": line(source_id="a" * 63).encode(),
    "id and line": line(source_id="a" * 64 + "\n").encode(),
    "modality": line(modality="sound").encode(),
    "long name": line(target="x" * 301).encode(),
    "surrogate": line(target="\ud800").encode(),
    "newer key": line(medium="film").encode(),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_bad_line_is_left_out_with_a_warning_and_never_overwritten(content, tmp_path):
    path = tmp_path / MEASURED_FILE
    path.write_bytes(line().encode() + b"\n" + content + b"\n" + line(target="other").encode() + b"\n")
    before = path.read_bytes()
    library = PromptLibrary(tmp_path)
    with pytest.warns(UserWarning, match=r"measured transfers are left out: .*measured.jsonl, line 2: ") as caught:
        assert library.measured() == [transfer(), transfer(target="other")]
    assert len(str(caught[0].message)) < 600
    assert str(caught[0].message).isprintable()
    with pytest.raises(InputError, match=r"line 2: .*\. Remove the line\.$"):
        library.add_measured([transfer()])
    assert path.read_bytes() == before


@pytest.mark.parametrize(("lines", "more"), [(5, 4), (MEASURED_LIMIT // 2, 99)])
def test_many_bad_lines_are_one_warning(lines, more, tmp_path):
    (tmp_path / MEASURED_FILE).write_text("x\n" * lines)
    with pytest.warns(UserWarning, match=rf"line 1: .* \(and {more} more lines\)") as caught:
        assert PromptLibrary(tmp_path).measured() == []
    assert len(caught) == 1


def large(path):
    with path.open("wb") as stream:
        stream.truncate(MEASURED_LIMIT + 1)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (large, "more than the 8388608 bytes"),
        (lambda path: path.symlink_to("/dev/zero"), "is a link or no file"),
        (lambda path: os.mkfifo(path), "is a link or no file"),
        (lambda path: path.mkdir(), "is a link or no file"),
    ],
    ids=["large", "link", "fifo", "folder"],
)
def test_what_is_no_such_file_is_left_out_and_stays(make, why, tmp_path):
    path = tmp_path / MEASURED_FILE
    make(path)
    with pytest.warns(UserWarning, match=why):
        assert PromptLibrary(tmp_path).measured() == []
    with pytest.raises(InputError, match=why):
        PromptLibrary(tmp_path).add_measured([transfer()])


def test_a_file_does_not_outgrow_what_is_read(tmp_path):
    names = [f"{number:0300}" for number in range(14_000)]
    with pytest.raises(InputError, match="Use another library"):
        write_measured(tmp_path, [transfer(target=name, source=name) for name in names])
    assert not list(tmp_path.iterdir())


def test_a_read_only_library_is_not_written(tmp_path):
    with pytest.raises(InputError, match="read-only"):
        PromptLibrary(tmp_path, read_only=True).add_measured([transfer()])
    assert not list(tmp_path.iterdir())


def test_no_prompt_has_the_name_of_the_file(make_prompt, tmp_path):
    with pytest.raises(InputError, match="cannot name a prompt"):
        PromptLibrary(tmp_path).add(make_prompt(), MEASURED_FILE)


def test_no_warning_where_all_is_well(tmp_path):
    write_measured(tmp_path, [transfer()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert PromptLibrary(tmp_path).measured() == [transfer()]
