"""Unlabelled English of the packs, for heads that fill in words, without the facts that models are probed for."""

import random
import re
from collections.abc import Iterable, Sequence

from promptgraft.packs.fetch import open_member
from promptgraft.tasks.fact_files import SPLITS
from promptgraft.tasks.facts import Facts
from promptgraft.tasks.packed_texts import boolq

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_WORD = re.compile(r"\w+")


def passage_sentences() -> list[str]:
    """The sentences of BoolQ's 10,148 passages, which are Wikipedia's; without their titles."""
    passages = sorted({passage for _, passage in boolq().inputs})
    return [
        sentence
        for passage in passages
        for sentence in _SENTENCE_END.split(passage.partition(" -- ")[2] or passage)
        if sentence
    ]


def glosses() -> list[str]:
    """What WordNet says of each of its 117,659 meanings: definitions, with examples."""
    found = []
    for part in ("noun", "verb", "adj", "adv"):
        content = open_member("wordnet", f"usr/share/wordnet/data.{part}").read().decode("latin1")
        lines = (line for line in content.split("\n") if line and not line.startswith(" "))  # the licence is indented
        found += [line.partition(" | ")[2].strip() for line in lines]
    return found


def without_facts(texts: Iterable[str], sets: Sequence[Facts]) -> list[str]:
    """The texts in which no fact can stand: none holds the subject of a fact of any split and its object, as words.

    Capitals and punctuation do not count.
    """
    objects: dict[str, set[str]] = {}
    for relation in (each for facts in sets for each in facts.relations):
        for fact in (fact for split in SPLITS for fact in relation.split(split)):
            objects.setdefault(_words(fact.subject), set()).add(_words(fact.object))
    longest = max((len(subject.split()) for subject in objects), default=0)

    def told(text: str) -> bool:
        words = _words(text).split()
        whole = f" {' '.join(words)} "
        runs = (words[i : i + n] for i in range(len(words)) for n in range(1, longest + 1))
        return any(f" {value} " in whole for run in runs for value in objects.get(" ".join(run), ()))

    return [text for text in texts if not told(text)]


def shuffled(texts: Sequence[str], seed: int) -> list[str]:
    """The texts in an order that the seed draws."""
    order = list(texts)
    random.Random(seed).shuffle(order)
    return order


def _words(text: str) -> str:
    return " ".join(_WORD.findall(text.lower()))
