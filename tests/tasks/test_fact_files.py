"""LAMA's and OptiPrompt's folders as they are published."""

import gzip
import json

import pytest

from promptgraft.errors import InputError
from promptgraft.tasks.fact_files import SPLITS
from promptgraft.tasks.facts import Fact, load_facts

RELATIONS = [
    {"relation": "P19", "template": "[X] was born in [Y] .", "label": "place of birth", "type": "N-1"},
    {"relation": "P36", "template": "The capital of [X] is [Y] .", "label": "capital", "type": "1-1"},
]


def lama(subject, value):
    """A line of LAMA's T-REx, with what is not read."""
    evidence = {"sub_surface": subject, "obj_surface": value, "masked_sentence": f"{subject} in [MASK]."}
    uris = {"uuid": "8ab9", "obj_uri": "Q90", "sub_uri": "Q1", "predicate_id": "P19"}
    return uris | {"obj_label": value, "sub_label": subject, "evidences": [evidence]}


def optiprompt(subject, value):
    return {"obj_uri": "Q90", "obj_label": value, "sub_uri": "Q1", "sub_label": subject, "lineid": 1, "uuid": "0"}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(data.encode()))
    else:
        path.write_text(data)


def facts_of(facts):
    return {each.name: {split: list(each.split(split)) for split in SPLITS} for each in facts.relations}


@pytest.mark.parametrize("end", ["", ".gz"])
def test_lamas_folder_is_divided_by_subject(tmp_path, end):
    write(tmp_path / f"data/relations.jsonl{end}", RELATIONS)
    born = [lama(f"person {i}", f"city {i % 3}") for i in range(40)]
    write(tmp_path / f"data/TREx/P19.jsonl{end}", [*born, lama("person 3", "city 0"), lama("twice", "a")] * 2)
    write(tmp_path / "data/Google_RE/place_of_birth_test.jsonl", [lama("x", "y")])  # another part of LAMA
    facts = load_facts(tmp_path / "data")
    [(name, splits)] = facts_of(facts).items()
    assert name == "P19"
    assert [len(splits[split]) for split in SPLITS] == [25, 8, 8]
    assert set().union(*splits.values()) == {
        *(Fact(f"person {i}", f"city {i % 3}") for i in range(40)),
        Fact("twice", "a"),
    }
    assert facts.notes == ("1 relations have no facts",)
    # the folder of the relations, with relations.jsonl above it, is the same set, and a seed divides it anew
    assert load_facts(tmp_path / "data" / "TREx").fingerprint == facts.fingerprint
    assert load_facts(tmp_path / "data", seed=1).fingerprint != facts.fingerprint


def test_a_subject_of_lama_with_several_objects_is_left_out(tmp_path):
    write(tmp_path / "relations.jsonl", RELATIONS[:1])
    write(tmp_path / "TREx/P19.jsonl", [lama("Dante", "Florence"), lama("Dante", "Rome"), lama("Kafka", "Prague")])
    facts = load_facts(tmp_path)
    assert [fact for split in SPLITS for fact in facts.relations[0].split(split)] == [Fact("Kafka", "Prague")]
    assert facts.notes == ("1 subjects with several objects left out",)


def optiprompt_folder(root):
    write(root / "relation_metainfo/LAMA_relations.jsonl", RELATIONS)
    for relation in ("P19", "P36"):
        for split, names in (("train", "abc"), ("dev", "de"), ("test", "fg")):
            rows = [optiprompt(f"{relation} {name}", f"o{name}") for name in names]
            write(root / f"data/autoprompt_data/{relation}/{split}.jsonl", rows)
    return root / "data"


@pytest.mark.parametrize("part", [".", "autoprompt_data"])
def test_optiprompts_splits_are_kept(tmp_path, part):
    facts = facts_of(load_facts(optiprompt_folder(tmp_path / "OptiPrompt") / part))
    assert {name: [len(splits[split]) for split in SPLITS] for name, splits in facts.items()} == {
        "P19": [3, 2, 2],
        "P36": [3, 2, 2],
    }
    assert facts["P36"]["dev"] == [Fact("P36 d", "od"), Fact("P36 e", "oe")]


def test_lamas_facts_beside_optiprompts_are_the_test(tmp_path):
    data = optiprompt_folder(tmp_path)
    tested = [lama("P19 h", "oh"), lama("P19 a", "oa"), lama("P19 h", "other")]
    write(data / "LAMA-TREx/P19.jsonl", tested)
    facts = load_facts(data)
    found = facts_of(facts)["P19"]
    assert found["test"] == [Fact("P19 a", "oa"), Fact("P19 h", "oh"), Fact("P19 h", "other")]
    assert found["train"] == [Fact("P19 b", "ob"), Fact("P19 c", "oc")]  # a is tested
    assert facts_of(facts)["P36"]["test"] == []
    assert facts.notes == ("1 repeated, or of a subject in a later split, left out",)


def test_what_is_missing_or_wrong_is_named(tmp_path):
    data = optiprompt_folder(tmp_path)
    (data / "autoprompt_data/P36/dev.jsonl").unlink()
    with pytest.raises(InputError, match=r"P36 has no dev\.jsonl"):
        load_facts(data)
    write(data / "autoprompt_data/P36/dev.jsonl", [{"sub_label": "a", "obj_label": 3}])
    with pytest.raises(InputError, match=r"P36/dev\.jsonl, line 1 has no text under the key 'obj_label'"):
        load_facts(data)


def test_a_relations_name_leads_to_no_other_folder(tmp_path):
    write(tmp_path / "secret/train.jsonl", [optiprompt("a", "b")])
    write(tmp_path / "set/relations.jsonl", [RELATIONS[0] | {"relation": "../secret"}])
    with pytest.raises(InputError, match=r"has no train\.jsonl"):
        load_facts(tmp_path / "set")
