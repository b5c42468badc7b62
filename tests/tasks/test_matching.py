import random
from collections import Counter

import numpy as np
import pytest

from promptgraft.tasks.labelled import assemble
from promptgraft.tasks.matching import OTHER, OWN, exchange_partners
from promptgraft.tasks.packed import BUILTIN

PAIRS = [(f"question {n}", f"passage {n}") for n in range(6)]


def test_four_pairs_of_two() -> None:
    assert {(pair, label) for pair, label, _ in exchange_partners(PAIRS[:2])} == {
        (("question 0", "passage 0"), OWN),
        (("question 1", "passage 1"), OWN),
        (("question 0", "passage 1"), OTHER),
        (("question 1", "passage 0"), OTHER),
    }


def test_every_text_is_once_right_and_once_wrong_within_its_group() -> None:
    found = list(exchange_partners(PAIRS))
    assert len(found) == 12
    for side in (0, 1):
        seen = Counter((pair[side], label) for pair, label, _ in found)
        assert seen == {(pair[side], label): 1 for pair in PAIRS for label in (OWN, OTHER)}
        assert len({(pair[side], group) for pair, _, group in found}) == len(PAIRS)  # never in two groups
    assert all((label == OWN) == (pair in PAIRS) for pair, label, _ in found)


def test_the_order_of_the_pairs_changes_nothing() -> None:
    shuffled = random.Random(0).sample(PAIRS, len(PAIRS))
    assert shuffled != PAIRS
    assert list(exchange_partners(shuffled)) == list(exchange_partners(PAIRS))


def test_texts_that_return_and_an_odd_pair_are_left_out() -> None:
    again = [("question 0", "new"), ("new", "passage 1"), ("passage 2", "question 2")]
    assert list(exchange_partners([*PAIRS, *again])) == list(exchange_partners(PAIRS))
    odd = [pair for pair, label, _ in exchange_partners(PAIRS[:5]) if label == OWN]
    assert len(odd) == 4
    assert not list(exchange_partners(PAIRS[:1]))


@pytest.mark.real
@pytest.mark.parametrize("name", [name for name in BUILTIN if name.endswith("-match")])
def test_a_head_on_one_side_stays_at_chance(name: str) -> None:
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier

    task = assemble(BUILTIN[name](), name, n_train=1000, n_val=280)
    for split in (task.train, task.val):
        assert np.bincount(split.labels).tolist() == [len(split) // 2] * 2
    for side in (0, 1):
        train, val = ([pair[side] for pair in split.inputs] for split in (task.train, task.val))
        for texts, split in ((train, task.train), (val, task.val)):
            assert Counter(zip(texts, split.labels.tolist(), strict=True)) == {
                (t, c): 1 for t in texts for c in (0, 1)
            }
        words = HashingVectorizer(n_features=2**12)
        head = SGDClassifier(random_state=0).fit(words.transform(train), task.train.labels)
        assert head.score(words.transform(val), task.val.labels) == 0.5
