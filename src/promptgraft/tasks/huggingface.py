"""Tasks from a Hugging Face `Dataset` or `DatasetDict`, known by what they can do: `datasets` is never imported."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from promptgraft.card import Modality
from promptgraft.errors import InputError
from promptgraft.tasks.arrays import as_inputs
from promptgraft.tasks.base import Task
from promptgraft.tasks.columns import find_column, text_columns
from promptgraft.tasks.contents import content_hash
from promptgraft.tasks.images import SPLIT_FOLDERS
from promptgraft.tasks.labelled import Labelled, assemble, class_order
from promptgraft.tasks.pixels import read_image, rgb
from promptgraft.tasks.sequences import LazySequence

HIDDEN = -1
"""The label of examples whose label is withheld, as in GLUE's test splits."""


def task_from_datasets(
    dataset: Any,
    *,
    name: str = "dataset",
    n_train: int | None = None,
    n_val: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
) -> Task:
    """Make a task from a `datasets.Dataset`, or a `DatasetDict` with train, validation and test.

    Columns: `image`, or `text` and optionally `text2`; and `label` (`columns.ALIASES` lists other names). Where a test
    split's labels are withheld (all -1), validation serves as test and a new one is carved from train.

    Args:
        dataset: the data.
        name: the task's name.
        n_train: sizes of the splits; see `labelled.assemble`.
        n_val: as above.
        n_test: as above.
        seed: of the division.

    Raises:
        InputError: columns or splits that are not understood, or what `labelled.assemble` raises.
    """
    parts, notes = _parts(dataset) if isinstance(dataset, Mapping) else ({"train": dataset}, [])
    readers = [_Items(part, f"{name}, {split}") for split, part in parts.items()]
    labels = [label for reader in readers for label in reader.labels]
    class_names = readers[0].class_names or class_order([str(label) for label in labels])
    index = {key: i for i, key in enumerate(range(len(class_names)) if readers[0].class_names else class_names)}
    known: list[int] = []
    for label in labels:
        key = label if readers[0].class_names else str(label)
        if key not in index:
            raise InputError(f"{name}: label {label!r} is none of the {len(class_names)} classes. Remove such rows.")
        known.append(index[key])
    modality: Modality = "vision" if readers[0].image else "text"
    inputs: Sequence[Any] = _Joined(readers)
    if modality == "vision":
        hashes = [content_hash(item) for item in inputs]
    else:
        _, inputs, hashes = as_inputs(inputs)
    data = Labelled(
        modality=modality,
        inputs=inputs,
        labels=np.array(known, dtype=np.int64),
        classes=tuple(class_names),
        names=[f"{split}:{i}" for split, reader in zip(parts, readers, strict=True) for i in range(len(reader))],
        hashes=hashes,
        given=[s for s, reader in zip(parts, readers, strict=True) for _ in reader.labels]
        if isinstance(dataset, Mapping)
        else None,
        notes=tuple(notes),
    )
    return assemble(data, name, n_train=n_train, n_val=n_val, n_test=n_test, seed=seed)


def _parts(dataset: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    parts: dict[str, Any] = {}
    for key, part in dataset.items():
        split = SPLIT_FOLDERS.get(key.lower())
        if split is None or split in parts:
            raise InputError(
                f"split {key!r} is not understood among {', '.join(dataset)}. Keep train, validation and test."
            )
        parts[split] = part
    if "test" in parts and set(_Items(parts["test"], "test").labels) == {HIDDEN}:
        del parts["test"]
        if "val" in parts:
            parts["test"] = parts.pop("val")
            return parts, ["test labels are withheld: validation serves as test"]
    return parts, []


class _Items(LazySequence):
    """One split's inputs, decoded when asked for."""

    def __init__(self, dataset: Any, where: str) -> None:
        columns = list(dataset.column_names)
        self.image = find_column(columns, "image", where)
        if self.image is not None:
            label, self._names = find_column(columns, "label", where), [self.image]
            if label is None:
                raise InputError(f"{where} has no label column among {', '.join(columns)}. Name one of them 'label'.")
        else:
            found = text_columns(columns, where)
            label, self._names = found.label, [found.text, *([found.text2] if found.text2 else [])]
        self._dataset = dataset
        self.labels: list[Any] = list(dataset[label])
        self.class_names: list[str] | None = getattr(dataset.features[label], "names", None)

    def __len__(self) -> int:
        return len(self.labels)

    def item(self, index: int) -> Any:
        """One image, text, or pair of texts."""
        row = self._dataset[index]
        values = tuple(row[name] for name in self._names)
        if self.image is None:
            return values[0] if len(values) == 1 else values
        value = values[0]
        if isinstance(value, Mapping):  # an image column that is not decoded
            value = read_image(value["bytes"], str(value.get("path") or index))
        return rgb(value) if isinstance(value, Image.Image) else rgb(Image.fromarray(np.asarray(value)))


class _Joined(LazySequence):
    """Several sequences, one after the other."""

    def __init__(self, parts: list[_Items]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def item(self, index: int) -> Any:
        """One item of the part that it falls in."""
        part = int(np.searchsorted(self._ends, index, side="right"))
        return self._parts[part][index - (int(self._ends[part - 1]) if part else 0)]
