"""Data sets of the `datasets` library, by what they can do."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from promptgraft.errors import InputError
from promptgraft.tasks.huggingface import task_from_datasets


class FakeDataset:
    """What `datasets.Dataset` answers, with a count of decoded rows."""

    def __init__(self, columns, names=None):
        self.columns, self.reads = columns, 0
        self.column_names = list(columns)
        self.features = {column: SimpleNamespace() for column in columns}
        if names:
            self.features["label"] = SimpleNamespace(names=names)

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.columns[key]
        self.reads += 1
        return {name: values[key] for name, values in self.columns.items()}


def texts(count, label=None, start=0):
    labels = [i % 2 if label is None else label for i in range(count)]
    return FakeDataset(
        {"sentence": [f"s{start + i}" for i in range(count)], "label": labels, "idx": [0] * count}, ["neg", "pos"]
    )


def test_one_dataset_of_texts():
    task = task_from_datasets(texts(20), name="sst2")
    assert task.describe() == "sst2: 20 texts, 2 classes (train 14, val 3, test 3)"
    assert task.classes == ("neg", "pos")


def test_given_splits_and_pairs():
    parts = {
        key: FakeDataset(
            {"premise": [f"{key}{i}" for i in range(4)], "hypothesis": ["h"] * 4, "label": ["a", "b"] * 2}
        )
        for key in ("train", "validation", "test")
    }
    task = task_from_datasets(parts)
    assert task.train.inputs[0] == ("train0", "h")
    assert [len(task.train), len(task.val), len(task.test)] == [4, 4, 4]
    assert task.classes == ("a", "b")


def test_withheld_test_labels_make_validation_the_test():
    task = task_from_datasets(
        {"train": texts(40), "validation": texts(10, start=100), "test": texts(8, label=-1, start=200)}
    )
    assert task.notes == ("test labels are withheld: validation serves as test", "val carved from train")
    assert task.test.inputs[0] == "s100"


@pytest.mark.parametrize("encoded", [False, True])
def test_images_are_decoded_when_asked_for(encoded):
    def value(i):
        image = Image.fromarray(np.full((4, 3), i, np.uint8))
        stream = io.BytesIO()
        image.save(stream, "PNG")
        return {"bytes": stream.getvalue(), "path": None} if encoded else image

    data = FakeDataset({"image": [value(i) for i in range(20)], "label": [i % 2 for i in range(20)]}, ["a", "b"])
    task = task_from_datasets(data)
    reads = data.reads
    image = task.train.inputs[0]
    assert (image.mode, image.size) == ("RGB", (3, 4))
    assert data.reads == reads + 1


def test_what_does_not_fit_is_named():
    with pytest.raises(InputError, match="split 'validation_matched'"):
        task_from_datasets({"train": texts(10), "validation_matched": texts(10)})
    with pytest.raises(InputError, match="label -1 is none of the 2 classes"):
        task_from_datasets(FakeDataset({"text": list("abc"), "label": [0, 1, -1]}, ["x", "y"]))
    with pytest.raises(InputError, match="no label column"):
        task_from_datasets(FakeDataset({"image": [1], "foo": [1]}))
