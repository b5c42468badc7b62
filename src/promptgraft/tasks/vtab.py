"""VTAB-1k text splits: lists of `images/<split>/NNNNNN.jpg <label>` beside the images.

The layout of the VTAB-1k archives in common use (Zhai et al. 2020; packaged by the authors of SPT and NOAH).
"""

from pathlib import Path, PurePosixPath

import numpy as np

from promptgraft.errors import InputError
from promptgraft.tasks.images import hash_images, skipped_note
from promptgraft.tasks.labelled import Labelled
from promptgraft.tasks.sequences import ImageFiles

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
        InputError: a missing list or image, a line of another form, a path that leaves the folder, a file that is no
            image.
    """
    absent = [name for name in LISTS.values() if not (root / name).is_file()]
    if absent:
        raise InputError(
            f"{root} looks like VTAB-1k and lacks {', '.join(absent)}. "
            "Fetch the archive again: copies are often incomplete."
        )
    found = [(name, label, split) for split, file in LISTS.items() for name, label in _read_list(root / file)]
    lost = [name for name, _, _ in found if not (root / name).is_file()]
    if lost and not skip_bad:
        raise InputError(
            f"{len(lost)} of {len(found)} images listed in {root} are missing, the first being {lost[0]}. "
            "Fetch the archive again, or leave them out (skip_bad=True; --skip-bad on the command line)."
        )
    hashes = hash_images([root / name for name, _, _ in found], skip_bad=skip_bad)
    kept = [(*item, digest) for item, digest in zip(found, hashes, strict=True) if digest is not None]
    labels = np.array([label for _, label, *_ in kept], dtype=np.int64)
    skipped = len(found) - len(kept)
    return Labelled(
        modality="vision",
        inputs=ImageFiles([root / name for name, *_ in kept]),
        labels=labels,
        classes=tuple(str(label) for label in range(int(labels.max(initial=-1)) + 1)),
        names=[name for name, *_ in kept],
        hashes=[digest for *_, digest in kept],
        given=[split for *_, split, _ in kept],
        notes=(skipped_note(skipped),) if skipped else (),
    )


def _read_list(path: Path) -> list[tuple[str, int]]:
    rows = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
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
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts or "\\" in name or ":" in name:
            raise InputError(
                f"{path}, line {number}: {name!r} leaves the data folder. List paths below {path.parent}."
            )
        rows.append((name.strip(), int(label)))
    return rows
