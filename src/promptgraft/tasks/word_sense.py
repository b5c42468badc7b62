"""Word senses in context, from the examples of WordNet."""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from promptgraft.packs.fetch import extract
from promptgraft.tasks.contents import number
from promptgraft.tasks.labelled import Labelled
from promptgraft.tasks.packed_texts import from_texts
from promptgraft.tasks.splits import join_units


def word_sense() -> Labelled:
    """4884 pairs "word: example", "example" of WordNet: does the word mean the same in both?

    Made like WiC (Pilehvar and Camacho-Collados, NAACL 2019). Every word has as many pairs of one sense as of two, so
    the word alone tells nothing; all pairs of a word, and those that share an example with them, stay on one side.
    The senses are WordNet's, often too fine for a person, and most examples are phrases rather than sentences.
    """
    files = [f"usr/share/wordnet/data.{part}" for part in ("noun", "verb", "adj", "adv")]
    folder = extract("wordnet", files)
    found = [pair for file in files for pair in sense_pairs((folder / file).read_text(encoding="utf-8").splitlines())]
    words, firsts, seconds, labels = zip(*found, strict=True)
    examples = number(firsts + seconds)
    groups = join_units(number(words * 2), examples)[: len(words)]
    pairs = [(f"{word}: {first}", second) for word, first, second, _ in found]
    return from_texts(pairs, labels, {"different": "different", "same": "same"}, groups=groups.tolist())


def sense_pairs(lines: Iterable[str]) -> Iterator[tuple[str, str, str, str]]:
    """Pairs of examples of one word, as many of one sense ("same") as of two ("different").

    Args:
        lines: of one of WordNet's data files (format: wndb(5WN)): synsets, each with its words and a gloss that ends
            in quoted examples.

    Yields:
        The word, one example, another, "same" or "different".
    """
    senses: defaultdict[str, list[list[str]]] = defaultdict(list)
    for line in lines:
        if line.startswith("  "):  # the licence
            continue
        fields, _, gloss = line.partition(" | ")
        examples = [example for example in re.findall(r'"([^"]+)"', gloss) if len(example.split()) > 2]
        if not examples:
            continue
        _, _, _, count, *rest = fields.split()
        # a word is followed by its sense number, and an adjective by its place, such as "(p)"
        for lemma in dict.fromkeys(re.sub(r"\(.*\)", "", word).lower() for word in rest[: 2 * int(count, 16) : 2]):
            word = lemma.replace("_", " ")
            whole = re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE)
            known = {example for shown in senses[word] for example in shown}  # a few examples stand under two senses
            if shown := [example for example in examples if whole.search(example) and example not in known]:
                senses[word].append(shown)
    for word, shown_by_sense in senses.items():
        same = [(shown[0], shown[1]) for shown in shown_by_sense if len(shown) > 1]
        heads = [shown[0] for shown in shown_by_sense]
        for one, two in zip(same, itertools.pairwise(heads), strict=False):
            yield word, *one, "same"
            yield word, *two, "different"
