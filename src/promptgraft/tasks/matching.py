"""Does the second text belong to the first? True pairs of published data, and the same texts with partners exchanged.

Question and text are matched so in QNLI (Wang et al., ICLR 2019).
"""

import re
from collections.abc import Iterable, Iterator

from promptgraft.tasks.contents import content_hash
from promptgraft.tasks.labelled import Labelled
from promptgraft.tasks.packed_texts import boolq, from_texts, piqa, pubmedqa

OTHER, OWN = "other", "own"

Pair = tuple[str, str]


def boolq_match() -> Labelled:
    """20,296 pairs of a yes-no question and a passage: another question's, or its own? Made from `boolq`."""
    return _matching(boolq().inputs)


def piqa_match() -> Labelled:
    """2932 pairs of a goal and a way to reach one: another goal's, or its own? Made from the right ways of `piqa`."""
    data = piqa()
    return _matching(
        pair for pair, label in zip(data.inputs, data.labels, strict=True) if data.classes[label] == "right"
    )


def pubmedqa_match() -> Labelled:
    """2000 pairs of a question and an abstract: another question's, or its own? Made from `pubmedqa`."""
    return _matching((question, re.sub(r"Context \(\d+\): ", "", passage)) for question, passage in pubmedqa().inputs)


def exchange_partners(pairs: Iterable[Pair]) -> Iterator[tuple[Pair, str, int]]:
    """True pairs two by two, each followed by the two pairs that an exchange of their second texts makes.

    Every text stands in one true pair and in one false pair of the same group: no one side tells anything, within any
    set of whole groups. Which two exchange follows from the sha256 of their contents, not from their order.

    Args:
        pairs: true ones. One that shares a text with an earlier one is left out, and so is an odd last one.

    Yields:
        The pair, `OWN` or `OTHER`, and the number of its group of four.
    """
    seen: set[str] = set()
    distinct = []
    for pair in pairs:
        if seen.isdisjoint(pair):
            seen.update(pair)
            distinct.append(pair)
    distinct.sort(key=content_hash)
    for group, ((one, its), (two, other)) in enumerate(zip(distinct[::2], distinct[1::2], strict=False)):
        for pair, label in (((one, its), OWN), ((two, other), OWN), ((one, other), OTHER), ((two, its), OTHER)):
            yield pair, label, group


def _matching(pairs: Iterable[Pair]) -> Labelled:
    items, labels, groups = zip(*exchange_partners(pairs), strict=True)
    return from_texts(items, labels, {OTHER: OTHER, OWN: OWN}, groups=groups)
