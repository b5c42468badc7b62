"""Folders of facts."""

import gzip
import json
from pathlib import Path

import pytest

from hostile.mutations import lay, spoiled
from hostile.searching import Search, attempt
from promptgraft.errors import InputError
from promptgraft.tasks.facts import load_facts


def lines(*rows: dict[str, str]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def facts(split: str, end: str = "") -> bytes:
    return lines(*({"relation": "r", "subject": f"{split} {i}{end}", "object": f"o{i % 3}"} for i in range(6)))


RELATIONS = lines({"relation": "r", "template": "[X] is [Y] ."}, {"relation": "q", "template": "[Y] of [X]"})
FILES = {"relations.jsonl": RELATIONS, **{f"{split}.jsonl": facts(split) for split in ("train", "dev", "test")}}


def read(folder: Path) -> None:
    found = load_facts(folder)
    assert found.fingerprint
    assert all(fact.subject.encode() for relation in found.relations for fact in relation.train)
    assert found.describe()


def test_facts(search: Search) -> None:
    search(read, spoiled(FILES))


def test_packed_facts(search: Search) -> None:
    files = {f"{name}.gz": gzip.compress(content) for name, content in FILES.items()}
    search(read, spoiled(files))


def test_published_facts(search: Search) -> None:
    relations = RELATIONS.replace(b'"r"', b'"P1"').replace(b'"q"', b'"../P2"')
    row = {"sub_label": "a", "obj_label": "b"}
    search(read, spoiled({"relations.jsonl": relations, "TREx/P1.jsonl": lines(row, row | {"sub_label": "c"}) * 4}))


@pytest.mark.parametrize("line", [b"{}\n", b"[]\n", b"3\n"])
def test_bombs(line: bytes, tmp_path: Path) -> None:
    """Millions of lines in a small file."""
    files = {f"{name}.gz": gzip.compress(content) for name, content in FILES.items()}
    folder = lay({**files, "train.jsonl.gz": gzip.compress(line * (60_000_000 // len(line)))}, tmp_path / "facts")
    assert not attempt(lambda: read(folder))


@pytest.mark.parametrize("relation", ["..", "../P1", "/etc", "a\0b", "x" * 500, "\ud800", ".", ""])
def test_the_name_of_a_relation_is_no_path(relation: str, tmp_path: Path) -> None:
    folder = lay(
        {
            "data/relations.jsonl": lines({"relation": relation, "template": "[X] is [Y] ."}),
            "data/TREx/P1.jsonl": lines({"sub_label": "a", "obj_label": "b"}),
            "train.jsonl": facts("train").replace(b'"r"', json.dumps(relation).encode()),
            "dev.jsonl": facts("dev"),
            "test.jsonl": facts("test"),
        },
        tmp_path / "facts",
    )
    assert not attempt(lambda: read(folder / "data"))


def test_relations_without_a_line(tmp_path: Path) -> None:
    folder = lay({"relations.jsonl": RELATIONS, "TREx/r.jsonl": b"\n"}, tmp_path / "facts")
    with pytest.raises(InputError, match="hold no fact"):
        read(folder)


@pytest.mark.parametrize("odd", ["pipe", "device", "loop", "broken link", "folder"])
def test_nothing_is_waited_for(odd: str, tmp_path: Path) -> None:
    for name in FILES:
        folder = lay({**FILES, name: odd}, tmp_path / name)  # type: ignore[dict-item]
        assert not attempt(lambda folder=folder: read(folder))  # type: ignore[misc]
