"""Plain text of the packs, without facts."""

import pytest

from promptgraft.tasks.facts import Fact, Facts, Relation
from promptgraft.tasks.plain_texts import glosses, passage_sentences, shuffled, without_facts

FACTS = Facts(
    "some",
    (
        Relation("capital", "[X] [Y]", (Fact("France", "Paris"),), (), (Fact("New Zealand", "Wellington"),)),
        Relation("people", "[X] [Y]", (), (Fact("Côte d'Ivoire", "Ivorian"),), ()),
    ),
)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Paris is the capital of France.", False),
        ("In FRANCE, they say: `paris'!", False),
        ("Wellington has wind, as has New Zealand.", False),
        ("Côte d'Ivoire: an Ivorian cook", False),
        ("France is a country", True),
        ("Parisian life in France", True),
        ("A new Zealand; Wellington boots", False),  # capitals do not count
        ("New boots from Zealand: Wellington", True),
        ("", True),
    ],
)
def test_a_text_with_subject_and_object_is_left_out(text, kept):
    assert without_facts([text], [FACTS]) == ([text] if kept else [])


def test_no_facts_leave_nothing_out():
    assert without_facts(["a b"], []) == ["a b"]


def test_an_order_belongs_to_its_seed():
    texts = [str(i) for i in range(30)]
    assert shuffled(texts, 0) == shuffled(texts, 0) != shuffled(texts, 1)
    assert sorted(shuffled(texts, 0)) == sorted(texts)


@pytest.mark.real
def test_the_packs_hold_text(monkeypatch):
    monkeypatch.delenv("PROMPTGRAFT_CACHE", raising=False)
    sentences = passage_sentences()
    assert len(sentences) > 40_000
    assert "It charted in the United Kingdom at number 192 on 15 April 2006." in sentences
    found = glosses()
    assert len(found) == 117_659
    assert "an act that has disastrous consequences" in found
