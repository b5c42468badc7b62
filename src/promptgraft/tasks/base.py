"""A task: labelled inputs in three splits, decoded lazily."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from promptgraft.card import Modality, TaskInfo


@dataclass(frozen=True)
class Split:
    """Inputs with labels.

    inputs: N items, each made when asked for: an RGB PIL image, a string, or a pair of strings.
    labels: (N,) int64 indices into the task's classes.
    names: N names to show a person, such as the file's path inside the data folder.
    """

    inputs: Sequence[Any]
    labels: NDArray[np.int64]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Task:
    """Three splits of one classification problem.

    fingerprint: sha256 over contents, classes and the split they fall in, in order: equal data, equal fingerprint.
    notes: what a person should know about the data, such as duplicates kept on one side or files skipped.
    """

    name: str
    modality: Modality
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    seed: int
    fingerprint: str
    metric: str = "accuracy"
    notes: tuple[str, ...] = ()

    @property
    def info(self) -> TaskInfo:
        """The task's section of a prompt card."""
        return TaskInfo(
            name=self.name,
            modality=self.modality,
            classes=self.classes,
            metric=self.metric,
            n_train=len(self.train),
            fingerprint=self.fingerprint,
            pair=self.modality == "text" and len(self.train) > 0 and not isinstance(self.train.inputs[0], str),
        )

    def describe(self) -> str:
        """One line for a person: how much data, of how many classes, divided how, and the notes."""
        total = len(self.train) + len(self.val) + len(self.test)
        noun = "images" if self.modality == "vision" else "texts"
        splits = f"train {len(self.train)}, val {len(self.val)}, test {len(self.test)}"
        return f"{self.name}: {total} {noun}, {len(self.classes)} classes ({'; '.join([splits, *self.notes])})"
