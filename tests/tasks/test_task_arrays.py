"""Values in memory."""

import numpy as np
import pytest
import torch
from PIL import Image

from promptgraft.errors import InputError
from promptgraft.tasks.arrays import task_from_arrays

LABELS = np.arange(20) % 2
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)


def first(task):
    """The input that stood first, wherever it fell."""
    for split in (task.train, task.val, task.test):
        if "0" in split.names:
            return np.asarray(split.inputs[split.names.index("0")])
    raise AssertionError


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (GREY, GREY[0]),
        (GREY[..., None], GREY[0]),
        (COLOUR, COLOUR[0]),
        (np.moveaxis(COLOUR, -1, 1), COLOUR[0]),
        (COLOUR.astype(np.int64), COLOUR[0]),
        (COLOUR / 255, COLOUR[0]),
        (torch.tensor(COLOUR), COLOUR[0]),
        (torch.tensor(COLOUR).permute(0, 3, 1, 2) / 255, COLOUR[0]),
        ([Image.fromarray(image) for image in COLOUR], COLOUR[0]),
        (list(COLOUR), COLOUR[0]),
    ],
)
def test_images_in_every_form(X, expected):
    task = task_from_arrays(X, LABELS)
    assert task.modality == "vision"
    got = first(task)
    assert (got == (expected if expected.ndim == 3 else expected[..., None])).all()


def test_texts_and_pairs():
    texts = [f"s{i}" for i in range(20)]
    task = task_from_arrays(texts, ["no" if label else "yes" for label in LABELS])
    assert (task.modality, task.classes) == ("text", ("no", "yes"))
    pairs = task_from_arrays([(text, "b") for text in texts], torch.tensor(LABELS), n_test=0)
    assert pairs.train.inputs[0][1] == "b"
    assert len(pairs.test) == 0


def test_class_names_and_groups():
    groups = np.repeat(np.arange(5), 4)
    task = task_from_arrays(GREY, LABELS, classes=["cat", "dog"], groups=groups)
    assert task.classes == ("cat", "dog")
    sides = {int(name): i for i, split in enumerate((task.train, task.val, task.test)) for name in split.names}
    assert all(len({sides[i] for i in np.flatnonzero(groups == g)}) == 1 for g in range(5))


def test_fingerprints_tell_contents_apart():
    other = GREY.copy()
    other[0, 0, 0] ^= 1
    assert task_from_arrays(GREY, LABELS).fingerprint == task_from_arrays(GREY.copy(), LABELS).fingerprint
    assert task_from_arrays(GREY, LABELS).fingerprint != task_from_arrays(other, LABELS).fingerprint


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (GREY, LABELS[:-1], "20 inputs and 19 labels"),
        (GREY[0], LABELS, r"shape \(6, 5\)"),
        (COLOUR[..., :2], LABELS, "are not understood"),
        (COLOUR / 100, LABELS, "floats in \\[0, 1\\]"),
        (np.full((20, 2, 2), np.nan), LABELS, "range from nan"),
        (["a", 1] * 10, LABELS, "int, str are not understood"),
        (["a"] * 19 + [" "], LABELS, "index 19 is empty"),
        ([], [], "no inputs"),
        (GREY, LABELS * 0.5, "one whole number or string each"),
        (GREY, np.zeros((20, 2)), "one whole number or string each"),
        (GREY, LABELS * 0, "one class"),
    ],
)
def test_what_does_not_fit_is_named(X, y, message):
    with pytest.raises(InputError, match=message):
        task_from_arrays(X, y)


def test_labels_beyond_the_classes_are_named():
    with pytest.raises(InputError, match="label 1 is not an index into the 1 classes"):
        task_from_arrays(GREY, LABELS, classes=["cat"])
