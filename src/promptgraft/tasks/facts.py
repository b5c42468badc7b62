"""Facts for probing language models: relations, each with a template and (subject, object) pairs in three splits.

As in LAMA (Petroni et al. 2019, https://arxiv.org/abs/1909.01066): a fact is known if the model completes the subject
with the object, which is one of its tokens. `load_facts` reads them from a folder, or builds a set from a pack.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from promptgraft.errors import InputError
from promptgraft.files import content_key, path_text
from promptgraft.registry import Registry
from promptgraft.tasks.fact_files import SPLITS, FactFiles, FactSplit, read_fact_files

SHARES = (0.6, 0.2)
"""Of the subjects, to train and to dev; the rest is test."""


class Fact(NamedTuple):
    """What a relation says: the subject's object."""

    subject: str
    object: str


@dataclass(frozen=True)
class Relation:
    """One kind of fact. template: a sentence with `[X]` for the subject and `[Y]` for the object."""

    name: str
    template: str
    train: tuple[Fact, ...]
    dev: tuple[Fact, ...]
    test: tuple[Fact, ...]

    def split(self, name: FactSplit) -> tuple[Fact, ...]:
        """The facts of one split."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[name]

    @property
    def objects(self) -> tuple[str, ...]:
        """All objects, sorted."""
        return tuple(sorted({fact.object for split in SPLITS for fact in self.split(split)}))

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of template and facts."""
        return content_key(self.name, self.template, [[list(fact) for fact in self.split(split)] for split in SPLITS])


@dataclass(frozen=True)
class Facts:
    """Relations under one name. notes: what a person should know, such as how many facts were dropped."""

    name: str
    relations: tuple[Relation, ...]
    licence: str = "unspecified"
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of all relations."""
        return content_key([relation.fingerprint for relation in self.relations])

    @property
    def objects(self) -> tuple[str, ...]:
        """The objects of all relations, sorted."""
        return tuple(sorted({name for relation in self.relations for name in relation.objects}))

    def count(self, split: FactSplit) -> int:
        """How many facts a split has."""
        return sum(len(relation.split(split)) for relation in self.relations)

    def describe(self) -> str:
        """One line for a person."""
        sizes = ", ".join(f"{split} {self.count(split)}" for split in SPLITS)
        return f"{self.name}: {len(self.relations)} relations ({'; '.join([sizes, *self.notes])})"


def load_facts(source: str | os.PathLike[str], *, seed: int = 0, limit: int | None = None) -> Facts:
    """Read a set of facts.

    Args:
        source: `facts/countries` or `facts/wordnet`; or a folder in one of the layouts of `fact_files`: with
            `relations.jsonl` (`relation`, `template`) and `train.jsonl`, `dev.jsonl`, `test.jsonl` (`relation`,
            `subject`, `object`), each of them plain or `.gz`; or as LAMA or OptiPrompt publish theirs.
        seed: of the division of a built-in set, or of LAMA's: every subject falls into one split, with all of its
            relations.
        limit: facts kept of each relation in each split; those whose sha256 comes first.

    Raises:
        InputError: no such set or file, or a line that is no fact.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be 1 or more facts, got {limit}.")
    text = os.fspath(source)
    if text.startswith("facts/"):
        facts = _divided(text, FACTS[text.removeprefix("facts/")](), seed)
    else:
        facts = _from_files(read_fact_files(Path(source)), path_text(Path(source).resolve().name), seed)
    if limit is None:
        return facts
    return _changed(facts, lambda pairs: pairs if len(pairs) <= limit else _first(pairs, limit))


def single_token(facts: Facts, tokenizers: Sequence[Any]) -> Facts:
    """The facts whose object, behind a space, is one known token of each tokenizer.

    A relation that is left without training or test facts is left out; `notes` tell how much was dropped.

    Args:
        facts: to choose from.
        tokenizers: of `transformers`.

    Raises:
        InputError: nothing is left.
    """
    objects = facts.objects
    single = set(objects)
    for tokenizer in tokenizers:
        spaced = [f" {name}" for name in objects]
        encoded = tokenizer(spaced, add_special_tokens=False, padding=False, truncation=False)["input_ids"]
        unknown = tokenizer.unk_token_id
        single -= {name for name, ids in zip(objects, encoded, strict=True) if len(ids) != 1 or ids[0] == unknown}
    kept = _changed(facts, lambda pairs: tuple(fact for fact in pairs if fact.object in single))
    usable = tuple(relation for relation in kept.relations if relation.train and relation.test)
    if not usable:
        raise InputError(
            f"{facts.name}: no relation has an object in train and test that is one token of each model. Take other "
            "facts, or models of the facts' language."
        )
    before, after = (sum(each.count(split) for split in SPLITS) for each in (facts, replace(kept, relations=usable)))
    notes = [] if before == after else [f"{before - after} of {before} facts dropped: their object is not one token"]
    if lost := [relation.name for relation in kept.relations if relation not in usable]:
        notes.append(f"relations left out: {', '.join(lost)}")
    return replace(facts, relations=usable, notes=(*facts.notes, *notes))


@dataclass(frozen=True)
class RawFacts:
    """A built-in set before its division: a template for each relation, and all (relation, subject, object)."""

    templates: Mapping[str, str]
    triples: Iterable[tuple[str, str, str]]
    licence: str


FACTS: Registry[Callable[[], RawFacts]] = Registry(
    "set of facts",
    {
        "countries": "promptgraft.tasks.packed_facts:countries",
        "wordnet": "promptgraft.tasks.packed_facts:wordnet",
    },
)
"""The built-in sets."""


def _divided(name: str, raw: RawFacts, seed: int) -> Facts:
    """A set divided by subject. Subjects with several objects in a relation are left out: no one answer is right."""
    objects: dict[tuple[str, str], set[str]] = defaultdict(set)
    for relation, subject, value in raw.triples:
        objects[relation, subject].add(value)
    order = sorted({subject for _, subject in objects}, key=lambda subject: content_key("facts", seed, subject))
    first, second = round(SHARES[0] * len(order)), round(sum(SHARES) * len(order))
    place = {subject: SPLITS[(i >= first) + (i >= second)] for i, subject in enumerate(order)}
    parts: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    for (relation, subject), values in sorted(objects.items()):
        if len(values) == 1:
            parts[relation, place[subject]].append(Fact(subject, *values))
    several = sum(len(values) > 1 for values in objects.values())
    notes = (f"{several} subjects with several objects left out",) if several else ()
    return Facts(name, _relations(raw.templates, parts), raw.licence, notes)


def _from_files(files: FactFiles, name: str, seed: int) -> Facts:
    """The facts of a folder; a subject stays in the last split that has it."""
    if files.whole:
        known = {relation for relation, _, _ in files.whole}
        templates = {relation: template for relation, template in files.templates.items() if relation in known}
        facts = _divided(name, RawFacts(templates, files.whole, "unspecified"), seed)
        return replace(facts, notes=(*facts.notes, *_unused(files.templates, templates)))
    parts: dict[tuple[str, str], list[Fact]] = defaultdict(list)
    taken: set[tuple[str, str]] = set()
    dropped = 0
    for split in reversed(SPLITS):  # test facts stay as they are, for results to be compared
        seen: set[tuple[str, str, str]] = set()
        for line in files.splits[split]:
            if line[:2] in taken or line in seen:
                dropped += 1
                continue
            seen.add(line)
            parts[line.relation, split].append(Fact(line.subject, line.object))
        taken |= {line[:2] for line in seen}
    known_templates = {
        name: template for name, template in files.templates.items() if any(parts[name, split] for split in SPLITS)
    }
    if not known_templates:
        raise InputError(f"the files in {name} hold no fact.")
    notes = [f"{dropped} repeated, or of a subject in a later split, left out"] if dropped else []
    notes += _unused(files.templates, known_templates)
    return Facts(name, _relations(known_templates, parts), notes=tuple(notes))


def _unused(templates: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    return [f"{len(templates) - len(known)} relations have no facts"] if len(known) < len(templates) else []


def _relations(templates: Mapping[str, str], parts: Mapping[tuple[str, str], list[Fact]]) -> tuple[Relation, ...]:
    return tuple(
        Relation(name, template, *(tuple(sorted(parts.get((name, split), ()))) for split in SPLITS))
        for name, template in templates.items()
    )


def _changed(facts: Facts, change: Callable[[tuple[Fact, ...]], tuple[Fact, ...]]) -> Facts:
    relations = (
        replace(each, train=change(each.train), dev=change(each.dev), test=change(each.test))
        for each in facts.relations
    )
    return replace(facts, relations=tuple(relations))


def _first(pairs: tuple[Fact, ...], limit: int) -> tuple[Fact, ...]:
    return tuple(sorted(sorted(pairs, key=lambda fact: content_key(*fact))[:limit]))
