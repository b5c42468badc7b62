"""Sets of facts: folders, hostile folders, the built-in sets, and what models can be asked."""

import gzip
import json
import os
from pathlib import Path

import pytest

from promptgraft.errors import InputError
from promptgraft.tasks import fact_files
from promptgraft.tasks import facts as module
from promptgraft.tasks.fact_files import SPLITS
from promptgraft.tasks.facts import Fact, Facts, RawFacts, Relation, load_facts, single_token
from transfer.worded import byte_level_bpe, wordpiece

TEMPLATES = [
    {"relation": "P1", "template": "[X] is in [Y] .", "label": "place"},
    {"relation": "P2", "template": "[Y] [X]"},
]


def line(relation, subject, value):
    return {"relation": relation, "subject": subject, "object": value}


def written(folder, relations=TEMPLATES, train=(), dev=(), test=(), packed=False):
    folder.mkdir(exist_ok=True)
    parts = {"relations": relations, "train": train, "dev": dev, "test": test}
    for name, rows in parts.items():
        text = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
        if packed:
            (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / f"{name}.jsonl").write_text(text)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_is_read(tmp_path, packed):
    train = [
        line("P1", "a", "x"),
        line("P1", "b", "y"),
        line("P1", "a", "x"),
        line("P1", "c", "y"),
        line("P2", "c", "z"),
    ]
    dev, test = [line("P1", "c", "y"), line("P1", "d", "x")], [line("P1", "d", "x"), line("P1", "d", "y")]
    facts = load_facts(written(tmp_path / "set", train=train, dev=dev, test=test, packed=packed))
    one, two = facts.relations
    assert (facts.name, one.name, one.template, two.template) == ("set", "P1", "[X] is in [Y] .", "[Y] [X]")
    assert one.test == (Fact("d", "x"), Fact("d", "y"))
    assert one.dev == (Fact("c", "y"),)  # d is tested
    assert one.train == (Fact("a", "x"), Fact("b", "y"))  # a stands there twice, c is in dev
    assert two.train == (Fact("c", "z"),)  # of another relation
    assert facts.notes == ("3 repeated, or of a subject in a later split, left out",)
    assert facts.objects == ("x", "y", "z")
    assert facts.describe() == f"set: 2 relations (train 3, dev 1, test 2; {facts.notes[0]})"


def test_the_order_of_lines_does_not_matter(tmp_path):
    train, test = [line("P1", name, "x") for name in "abc"], [line("P1", "d", "y")]
    first = load_facts(written(tmp_path / "a", train=train, test=test))
    assert load_facts(written(tmp_path / "b", train=train[::-1], test=test)).fingerprint == first.fingerprint
    other = load_facts(written(tmp_path / "c", train=train[1:], test=test))
    assert other.fingerprint != first.fingerprint
    assert first.notes == ("1 relations have no facts",)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"relations": ["{\n"]}, r"relations\.jsonl, line 1 is not valid JSON"),
        ({"relations": ["[" * 100_000 + "\n"]}, "line 1 is not valid JSON"),
        ({"relations": ["3\n"]}, "line 1 is not a JSON object"),
        (
            {"relations": [{"relation": "P1", "template": "[X] is."}]},
            r"template '\[X\] is.' must hold \[X\] and \[Y\] once",
        ),
        ({"relations": [TEMPLATES[0], TEMPLATES[0]]}, "line 2: relation 'P1' stands there twice"),
        ({"relations": [{"relation": "P1"}]}, "has no text under the key 'template'"),
        ({"train": [line("P9", "a", "x")]}, r"train\.jsonl, line 1: relation 'P9' is not in relations\.jsonl"),
        ({"train": ["\n", line("P1", 3, "x")]}, "line 2 has no text under the key 'subject'"),
        ({"test": [line("P1", "a", "  ")]}, "has no text under the key 'object'"),
        ({"test": [line("P1", "a" * 1001, "x")]}, "subject has 1001 characters, 1000 is the most"),
        ({"test": [line("P1", "\ud800", "x")]}, "line 1 is not valid JSON"),
        ({"train": [line("P\x1b[2J", "a", "x")]}, r"relation 'P\?\[2J' is not"),
        ({}, "hold no fact"),
    ],
    ids=str,
)
def test_a_hostile_line_is_named(tmp_path, parts, message):
    with pytest.raises(InputError, match=message):
        load_facts(written(tmp_path / "set", **parts))


def test_hostile_files_are_named(tmp_path, monkeypatch):
    folder = written(tmp_path / "set", train=[line("P1", "a", "x")], packed=True)
    path = folder / "train.jsonl.gz"
    whole = path.read_bytes()
    for data in (whole[:-9], b"no gzip", whole[:12] + b"\xff" * 9 + whole[21:]):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"cannot read .*train\.jsonl\.gz.* Get an unaltered copy"):
            load_facts(folder)
    path.write_bytes(gzip.compress(b"\xff\xfe"))
    with pytest.raises(InputError, match="line 1 is not valid JSON"):
        load_facts(folder)
    monkeypatch.setattr(fact_files, "FILE_LIMIT", 1000)
    path.write_bytes(gzip.compress(b" " * 1_000_000))  # 1 KB that unpacks to 1 MB
    with pytest.raises(InputError, match="unpacks to more than 1000 bytes"):
        load_facts(folder)
    path.unlink()
    with pytest.raises(InputError, match=r"has no train\.jsonl \(or \.jsonl\.gz\)"):
        load_facts(folder)
    with pytest.raises(InputError, match=r"no set of facts at .*nowhere"):
        load_facts(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no set of facts named 'contries'\. Did you mean 'countries'"):
        load_facts("facts/contries")
    with pytest.raises(InputError, match="limit must be 1 or more facts, got 0"):
        load_facts(folder, limit=0)


@pytest.fixture
def built_in(monkeypatch):
    """A set of 50 subjects in two relations; one has two objects, one stands there twice."""
    triples = [("r", f"s{i}", f"o{i % 3}") for i in range(50)] + [("q", f"s{i}", "o") for i in range(0, 50, 2)]
    raw = RawFacts({"r": "[X] [Y]", "q": "[Y] [X]"}, [*triples, ("r", "s7", "o7"), ("r", "s8", "o2")], "CC0-1.0")
    monkeypatch.setattr(module, "FACTS", {"small": lambda: raw})
    return "facts/small"


def test_a_built_in_set_is_divided_by_subject(built_in):
    facts = load_facts(built_in)
    subjects = {split: {f.subject for each in facts.relations for f in each.split(split)} for split in SPLITS}
    assert not subjects["train"] & subjects["dev"]
    assert not (subjects["train"] | subjects["dev"]) & subjects["test"]
    assert set.union(*subjects.values()) == {f"s{i}" for i in range(50)} - {"s7"}
    assert abs(len(subjects["train"]) - 30) <= 1
    assert abs(len(subjects["dev"]) - 10) <= 1
    assert sum(facts.count(split) for split in SPLITS) == 49 + 25
    assert facts.notes == ("1 subjects with several objects left out",)
    assert facts.licence == "CC0-1.0"
    assert load_facts(built_in).fingerprint == facts.fingerprint
    assert load_facts(built_in, seed=1).fingerprint != facts.fingerprint


def test_a_limit_keeps_a_part_of_every_split(built_in):
    facts, part = load_facts(built_in), load_facts(built_in, limit=4)
    for whole, some in zip(facts.relations, part.relations, strict=True):
        for split in SPLITS:
            assert len(some.split(split)) == min(4, len(whole.split(split)))
            assert set(some.split(split)) <= set(whole.split(split))
    more = load_facts(built_in, limit=6)
    assert set(part.relations[0].train) < set(more.relations[0].train)


def test_objects_of_several_tokens_are_dropped_and_counted():
    def relation(name, *objects):
        facts = tuple(Fact(f"s{i}", value) for i, value in enumerate(objects))
        return Relation(name, "[X] [Y]", facts, facts, facts)

    facts = Facts("tiny", (relation("a", "di", "du", "di du", "nonsense"), relation("b", "ba"), relation("c", "nus")))
    kept = single_token(facts, [wordpiece(), byte_level_bpe()])  # `ba` and `nus` are words of one of them
    assert [each.name for each in kept.relations] == ["a"]
    assert kept.objects == ("di", "du")
    assert kept.notes == ("12 of 18 facts dropped: their object is not one token", "relations left out: b, c")
    assert single_token(kept, [wordpiece()]) == kept
    with pytest.raises(InputError, match="tiny: no relation has an object"):
        single_token(Facts("tiny", facts.relations[1:]), [wordpiece(), byte_level_bpe()])


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "relations", "fact"),
    [
        ("countries", ["capital", "continent", "language", "currency", "demonym"], ("capital", "France", "Paris")),
        ("wordnet", ["instance-of", "part-of"], ("part-of", "Aachen", "Germany")),
    ],
)
def test_the_built_in_sets(name, relations, fact):
    facts = load_facts(f"facts/{name}")
    assert [relation.name for relation in facts.relations] == relations
    assert fact in {(each.name, *f) for each in facts.relations for split in SPLITS for f in each.split(split)}
    assert facts.count("train") > 2.5 * facts.count("test") > 400
    assert facts.licence != "unspecified"


def test_trex_is_read_where_it_is_at_hand():
    folder = Path(os.environ.get("PROMPTGRAFT_SHARED", "../shared")) / "data" / "trex"
    if not folder.is_dir():
        pytest.skip("no copy of T-REx")
    facts = load_facts(folder)
    assert len(facts.relations) == 41
    assert facts.count("test") > 34_000
    for relation in facts.relations:
        subjects = [{fact.subject for fact in relation.split(split)} for split in SPLITS]
        assert len(set.union(*subjects)) == sum(map(len, subjects))
