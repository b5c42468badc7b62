"""Every built-in task on its real data."""

import numpy as np
import pytest

from promptgraft.tasks.contents import content_hash
from promptgraft.tasks.labelled import assemble
from promptgraft.tasks.packed import BUILTIN

pytestmark = pytest.mark.real

SIZES = {  # examples, classes
    "mnist-5k": (5000, 10),
    "digits": (1797, 10),
    "fashion-mnist": (70000, 10),
    "orl-faces": (400, 40),
    "textile": (2000, 3),
    "emoji": (7570, 9),
    "land-zones": (2016, 7),
    "dsprites-loc": (5000, 16),
    "dsprites-ori": (5000, 16),
    "pong-position": (5000, 8),
    "count-shapes": (5000, 8),
    "sarcasm": (28614, 2),
    "imdb-sentences": (1000, 2),
    "amazon-sentences": (1000, 2),
    "yelp-sentences": (1000, 2),
    "newsgroups": (18814, 20),
    "tweets": (6444, 2),
    "vader-tweets": (3362, 2),
    "vader-movie": (10043, 2),
    "vader-amazon": (2943, 2),
    "vader-nyt": (2788, 2),
    "spam": (6046, 2),
    "boolq": (12697, 2),
    "privacy-qa": (10923, 2),
    "pubmedqa": (1000, 3),
    "piqa": (3000, 2),
    "corr2cause": (2246, 3),
    "crepe": (1520, 3),
    "boolq-match": (20296, 2),
    "piqa-match": (2932, 2),
    "pubmedqa-match": (2000, 2),
    "word-sense": (4884, 2),
}


def test_every_built_in_task_is_listed_here():
    assert set(SIZES) == set(BUILTIN)


@pytest.mark.parametrize("name", SIZES)
def test_built_in_task(name):
    data = BUILTIN[name]()
    assert (len(data.labels), len(data.classes)) == SIZES[name]
    task = assemble(data, name)
    splits = [task.train, task.val, task.test]
    contents = [
        {content_hash(np.asarray(item) if task.modality == "vision" else item) for item in split.inputs}
        for split in splits
    ]
    assert all(set(split.labels) == set(range(len(task.classes))) for split in splits)
    assert not contents[0] & contents[1]
    assert not contents[0] & contents[2]
    assert not contents[1] & contents[2]
    if data.groups is not None:
        side = {item: i for i, split in enumerate(splits) for item in split.names}
        assert len({(group, side[item]) for group, item in zip(data.groups, data.names, strict=True)}) == len(
            set(data.groups)
        )
    kinds = {type(item).__name__ for item in (task.train.inputs[0], task.test.inputs[-1])}
    assert kinds == ({"Image"} if task.modality == "vision" else kinds & {"str", "tuple"})
    again, other = assemble(BUILTIN[name](), name), assemble(data, name, seed=1)
    assert again.fingerprint == task.fingerprint
    assert other.fingerprint != task.fingerprint
    part = assemble(data, name, n_train=200, n_val=100)
    assert (len(part.train), len(part.val)) == (200, 100)
    assert BUILTIN[name].__doc__
