"""VTAB-1k text splits: lists of `images/<split>/NNNNNN.jpg <label>` beside the images.

The layout of the VTAB-1k archives in common use (Zhai et al. 2020; packaged by the authors of SPT and NOAH).
"""

from pathlib import Path

import numpy as np

from promptgraft.errors import InputError
from promptgraft.files import read_file
from promptgraft.tasks.labelled import Labelled
from promptgraft.tasks.listing import LIST_LIMIT, Listing, inside, read_listed

LISTS = {"train": "train800.txt", "val": "val200.txt", "test": "test.txt"}
"""The list of each split; `train800val200.txt` is the first two together and adds nothing."""


def is_vtab(root: Path) -> bool:
    """Whether a folder is laid out as VTAB-1k text splits."""
    return any((root / name).is_file() for name in ("train800.txt", "train800val200.txt"))


def read_vtab(root: Path, *, skip_bad: bool = False) -> Labelled:
    """Read VTAB-1k text splits. Labels are whole numbers from 0, and the classes are named by them.

    The splits are not stratified: a class without training examples is reported in the task's notes, not refused.

    Args:
        root: the folder that holds the lists and `images/`.
        skip_bad: leave out files that do not decode, and count them in the notes.

    Raises:
        InputError: as `list_vtab`, a missing image, a file that is no image.
    """
    return read_listed(list_vtab(root), skip_bad=skip_bad)


def list_vtab(root: Path) -> Listing:
    """The files that the lists of a VTAB-1k task name.

    Raises:
        InputError: a missing list, a line of another form, a path that leaves the folder.
    """
    absent = [name for name in LISTS.values() if not (root / name).is_file()]
    if absent:
        raise InputError(
            f"{root} looks like VTAB-1k and lacks {', '.join(absent)}. "
            "Fetch the archive again: copies are often incomplete."
        )
    found = [(file, label, split) for split, name in LISTS.items() for file, label in _read_list(root / name)]
    labels = np.array([label for _, label, _ in found], dtype=np.int64)
    return Listing(
        root=root,
        files=[file for file, _, _ in found],
        labels=labels,
        classes=tuple(str(label) for label in range(int(labels.max(initial=-1)) + 1)),
        given=[split for _, _, split in found],
    )


def _read_list(path: Path) -> list[tuple[Path, int]]:
    rows = []
    try:
        lines = read_file(path, LIST_LIMIT).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as UTF-8 text: {error}. Fetch the archive again.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name or not (label.isascii() and label.isdecimal() and len(label) < 6):
            raise InputError(
                f"{path}, line {number}: expected 'images/<split>/NNNNNN.jpg <label>', found {line[:80]!r}."
            )
        rows.append((inside(path.parent, name.strip(), f"{path}, line {number}"), int(label)))
    return rows
