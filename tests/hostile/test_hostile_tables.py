"""Tables of texts: CSV, TSV, JSON lines, plain text."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from hostile.mutations import TEXTS, Files, lay, spoiled
from hostile.searching import Search, attempt
from promptgraft.card import TaskInfo
from promptgraft.errors import InputError
from promptgraft.files import canonical_json
from promptgraft.tasks.diagnosis import diagnose
from promptgraft.tasks.load import load_task
from promptgraft.tasks.unlabelled import read_inputs

ROWS = [(f"text {i} of it", f"other {i}", "yes" if i % 2 else "no") for i in range(8)]


def table(sign: str) -> bytes:
    lines = [sign.join(["text", "text2", "label"]), *(sign.join(row) for row in ROWS)]
    return ("\n".join(lines) + "\n").encode()


JSONL = "".join(json.dumps(dict(zip(("text", "text2", "label"), row, strict=True))) + "\n" for row in ROWS).encode()
FILES = {"data.csv": table(","), "data.tsv": table("\t"), "data.jsonl": JSONL}


def check(task: Any) -> None:
    info: TaskInfo = task.info
    assert canonical_json(info.model_dump()).encode()
    for split in (task.train, task.val, task.test):
        for item in split.inputs:
            assert all(part.strip() and part.encode() for part in ([item] if isinstance(item, str) else item))


def read(folder: Path) -> None:
    path = next(folder.iterdir(), folder / "data.csv")
    check(load_task(path, skip_bad=True))
    assert diagnose(path).layout
    assert read_inputs([str(path)], "text", pair=True, skip_bad=True)


@pytest.mark.parametrize("name", FILES)
def test_tables(search: Search, name: str) -> None:
    search(read, spoiled({name: FILES[name]}))


def test_folders_of_tables(search: Search) -> None:
    files = {"train.csv": table(","), "test.csv": table(","), "dev.csv": table(",")}
    search(lambda folder: check(load_task(folder, skip_bad=True)), spoiled(files))


@st.composite
def named(draw: st.DrawFn) -> Files:
    """JSON lines whose texts and classes are hostile."""
    labels = draw(st.lists(st.sampled_from(TEXTS), min_size=2, max_size=3))
    rows = [{"text": f"{draw(st.sampled_from(TEXTS))} {i}", "label": labels[i % len(labels)]} for i in range(12)]
    return {"data.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()}


def test_texts_and_classes(search: Search) -> None:
    search(lambda folder: check(load_task(folder / "data.jsonl", skip_bad=True)), named())


def lines(count: int) -> str:
    return "".join(f'{{"text": "text {i}", "label": "{i % 2}"}}\n' for i in range(count))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.csv", "text,label,label\na,b,c\n", "column 'label' stands there twice"),
        ("data.jsonl", lines(4) + '{"text": "x", "text": "y", "label": "0"}\n', "line 5: not JSON .*'text' stands"),
        ("data.jsonl", lines(4) + '{"text": "\\ud800", "label": "0"}\n', "line 5: not JSON"),
        ("data.jsonl", lines(4) + '{"text": "x", "label": NaN}\n', "line 5: not JSON .*NaN is not a finite number"),
        ("data.jsonl", lines(4) + '{"text": "x", "label": 1e999}\n', "line 5: not JSON .*1e999"),
        ("data.csv", "text,label\n" + "x" * 200_000 + ",a\n", "line 2: field larger than"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        load_task(tmp_path / name)


@pytest.mark.parametrize("odd", ["pipe", "device", "loop", "broken link", "folder"])
@pytest.mark.parametrize("name", ["train.csv", "test.csv"])
def test_nothing_is_waited_for(name: str, odd: str, tmp_path: Path) -> None:
    files = {"train.csv": table(","), "test.csv": table(",")}
    folder = lay({**files, name: odd}, tmp_path / "data")  # type: ignore[dict-item]
    attempt(lambda: load_task(folder))
    attempt(lambda: load_task(folder / name))
    attempt(lambda: read_inputs([str(folder / name)], "text", pair=True))
