"""Labelled data before it is divided, and the one way from there to a `Task`."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptgraft.card import Modality
from promptgraft.errors import InputError
from promptgraft.tasks.base import Split, Task
from promptgraft.tasks.contents import fingerprint, number
from promptgraft.tasks.sequences import Subset
from promptgraft.tasks.splits import SPLITS, divide, join_units, resolve_sizes

SHOWN = 80
"""Letters of a class's name in messages and notes; a text that stands in the place of a label is long."""


@dataclass(frozen=True)
class Labelled:
    """What every reader of data returns.

    modality: "vision" or "text".
    inputs: N items as in `Split.inputs`.
    labels: (N,) int64 indices into `classes`.
    classes: C names.
    names: N names to show a person.
    hashes: N content hashes (`contents.content_hash`); equal ones are duplicates.
    groups: (N,) equal numbers for items that must stay on one side, or None.
    given: the split ("train", "val" or "test") that each item came in, or None where the data is undivided.
    notes: what a person should know.
    """

    modality: Modality
    inputs: Sequence[Any]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    names: Sequence[str]
    hashes: Sequence[str]
    groups: NDArray[np.int64] | None = None
    given: Sequence[str] | None = None
    notes: tuple[str, ...] = ()


def class_order(names: Sequence[str]) -> tuple[str, ...]:
    """The distinct names in order: as numbers where all of them are whole numbers, else as text."""
    distinct = set(names)
    if all(name.removeprefix("-").isdecimal() and len(name) < 100 for name in distinct):  # int() refuses thousands
        return tuple(sorted(distinct, key=lambda name: (int(name), name)))
    return tuple(sorted(distinct))


def assemble(
    data: Labelled,
    name: str,
    *,
    n_train: int | None = None,
    n_val: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
) -> Task:
    """Divide labelled data into a task.

    Splits that came with the data are kept (and subsampled, stratified, where a size is asked for); those that are
    missing are carved from its training part, or from all of it where it came undivided. Items with equal contents or
    of one group are never divided between carved splits; equal contents in splits that came with the data are reported
    in `Task.notes`.

    Args:
        data: what a reader returned.
        name: the task's name.
        n_train: the number of training examples; None takes all of a given split, or 70 % of undivided data.
        n_val: as above, 15 %.
        n_test: as above, 15 %, and all that is left where `n_train` is given.
        seed: of the division and the subsampling.

    Raises:
        InputError: no examples, one class, a class with a single example that would have to be divided, or sizes that
            do not fit.
    """
    _check_classes(data.labels, data.classes, name)
    given = np.array(data.given if data.given is not None else ["train"] * len(data.labels))
    present = [split for split in SPLITS if (given == split).any()]
    if "train" not in present:
        raise InputError(f"{name} has no training examples. Add some: without them nothing can be learned.")
    carved = [split for split in SPLITS if split not in present]
    asked = {"train": n_train, "val": n_val, "test": n_test}
    contents = number(data.hashes)
    sides = np.full(len(given), -1, dtype=np.int64)
    for split in present:
        into = ["train", *carved] if split == "train" else [split]
        pool = np.flatnonzero(given == split)
        groups = None if data.groups is None or len(into) == 1 else data.groups[pool]
        # nothing is divided where a whole split is only subsampled: every item may go or stay alone
        units = join_units(contents[pool], groups) if len(into) > 1 else np.arange(len(pool))
        try:
            parts = _divide(data, pool, units, {part: asked[part] for part in into}, seed)
        except InputError as error:
            raise InputError(
                f"{name}, {split} part: {error}" if data.given is not None else f"{name}: {error}"
            ) from error
        for side, part in enumerate(into):
            sides[pool[parts == side]] = SPLITS.index(part)
    notes = [*data.notes, *_notes(data, present, carved, contents, sides)]
    splits = {split: _split(data, np.flatnonzero(sides == side)) for side, split in enumerate(SPLITS)}
    return Task(
        name=name,
        modality=data.modality,
        classes=data.classes,
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        seed=seed,
        fingerprint=fingerprint(
            (data.hashes[i], data.classes[data.labels[i]], SPLITS[sides[i]])
            for i in np.flatnonzero(sides >= 0).tolist()
        ),
        notes=tuple(notes),
    )


def _check_classes(labels: NDArray[np.int64], classes: tuple[str, ...], name: str) -> None:
    counts = np.bincount(labels, minlength=len(classes))
    present = np.flatnonzero(counts)
    if len(present) == 0:
        raise InputError(f"{name} has no examples. Add some.")
    if len(present) == 1:
        only = present[0]
        raise InputError(
            f"{name} has one class, {classes[only][:SHOWN]!r}, with {counts[only]} examples. "
            "A classifier needs two classes or more: add another."
        )


def _divide(
    data: Labelled, pool: NDArray[np.int64], units: NDArray[np.int64], asked: dict[str, int | None], seed: int
) -> NDArray[np.int64]:
    labels = data.labels[pool]
    counts = np.bincount(labels, minlength=len(data.classes))
    sizes = resolve_sizes(len(pool), asked)
    shared_out = sum(size != 0 for size in asked.values()) > 1
    if shared_out and (counts == 1).any():
        single = [data.classes[c] for c in np.flatnonzero(counts == 1)]
        named = ", ".join(repr(name[:SHOWN]) for name in single[:5])
        named += f" and {len(single) - 5} more" if len(single) > 5 else ""
        subject = f"class {named} has 1 example" if len(single) == 1 else f"classes {named} have 1 example each"
        raise InputError(
            f"{subject}, which cannot be divided between training and validation. Add examples, or remove the class."
        )
    if 0 < sizes.get("train", 0) < (n_classes := int(np.count_nonzero(counts))):
        raise InputError(
            f"n_train={sizes['train']} is less than the {n_classes} classes. Ask for one of each class or more."
        )
    exact = [asked[split] is not None for split in sizes]
    return divide(labels, units, list(sizes.values()), exact, seed)


def _notes(
    data: Labelled, present: list[str], carved: list[str], contents: NDArray[np.int64], sides: NDArray[np.int64]
) -> list[str]:
    notes = []
    used = contents[sides >= 0]
    if carved and (copies := len(used) - len(np.unique(used))):
        notes.append(f"{copies} duplicate{'s' * (copies > 1)} kept on one side")
    for i, first in enumerate(SPLITS):
        for j in range(i + 1, len(SPLITS)):
            if leaked := int(np.isin(contents[sides == j], contents[sides == i]).sum()):
                notes.append(f"leakage: {leaked} of {SPLITS[j]} identical to examples of {first}")
    pairs = Counter(content for content, _ in set(zip(used.tolist(), data.labels[sides >= 0].tolist(), strict=True)))
    if torn := sum(count > 1 for count in pairs.values()):
        notes.append(f"{torn} content{'s' * (torn > 1)} found under more than one class")
    if data.given is not None and carved:
        notes.append(f"{' and '.join(carved)} carved from train")
    trained = np.bincount(data.labels[sides == 0], minlength=len(data.classes)) > 0
    missing = [data.classes[c][:SHOWN] for c in np.unique(data.labels) if not trained[c]]
    if missing:
        notes.append(f"no training example of class {', '.join(missing[:5])}{' ...' * (len(missing) > 5)}")
    return notes


def _split(data: Labelled, indices: NDArray[np.int64]) -> Split:
    return Split(Subset(data.inputs, indices), data.labels[indices], [data.names[i] for i in indices])
