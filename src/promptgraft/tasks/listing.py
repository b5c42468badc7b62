"""Image files that folders or lists name, with the class and the split of each, before any of them is opened."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptgraft.errors import InputError
from promptgraft.files import path_text, sha256_file
from promptgraft.progress import progress_bar
from promptgraft.tasks.labelled import Labelled
from promptgraft.tasks.pixels import check_image
from promptgraft.tasks.sequences import ImageFiles

T = TypeVar("T")
LIST_LIMIT = 1 << 24
"""Bytes of a list of images; the largest of FGVC, that of NABirds, takes a quarter."""


@dataclass(frozen=True)
class Listing:
    """N image files below a folder.

    root: the data folder. files: N paths. labels: (N,) int64 indices into `classes`. classes: C names.
    given: the split ("train", "val" or "test") that each file came in, or None where the data is undivided.
    """

    root: Path
    files: Sequence[Path]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    given: Sequence[str] | None

    @property
    def names(self) -> list[str]:
        """N paths below the root to show a person."""
        return [path_text(file.relative_to(self.root).as_posix()) for file in self.files]

    def labelled(self, hashes: Sequence[str | None]) -> Labelled:
        """The files as labelled data, without those whose hash is None, which the notes count.

        Args:
            hashes: N sha256 of the files' bytes, None for a file that is not to be used.
        """
        kept = [i for i, digest in enumerate(hashes) if digest is not None]
        names, skipped = self.names, len(hashes) - len(kept)
        return Labelled(
            modality="vision",
            inputs=ImageFiles([self.files[i] for i in kept]),
            labels=self.labels[kept],
            classes=self.classes,
            names=[names[i] for i in kept],
            hashes=[digest for digest in hashes if digest is not None],
            given=None if self.given is None else [self.given[i] for i in kept],
            notes=(f"{skipped} unreadable file{'s' * (skipped > 1)} skipped",) if skipped else (),
        )


def read_listed(listing: Listing, *, skip_bad: bool = False) -> Labelled:
    """Read the images that a published list names.

    Args:
        listing: the files of a benchmark's lists.
        skip_bad: leave out files that are missing or do not decode, and count them in the notes.

    Raises:
        InputError: missing files, or the first one that is no image, unless `skip_bad`.
    """
    lost = [name for name, file in zip(listing.names, listing.files, strict=True) if not is_there(file)]
    if lost and not skip_bad:
        raise InputError(
            f"{len(lost)} of {len(listing.files)} images listed in {listing.root} are missing, the first being "
            f"{lost[0]}. Fetch the archive again, or leave them out (skip_bad=True; --skip-bad on the command line)."
        )
    return listing.labelled(hash_images(listing.files, skip_bad=skip_bad))


def is_there(file: Path) -> bool:
    """Whether a path leads to a file, by whatever links."""
    try:
        return file.is_file()
    except OSError:  # such as a name that is too long
        return False


def hash_images(files: Sequence[Path], *, skip_bad: bool) -> list[str | None]:
    """Decode every file once and hash its bytes.

    Args:
        files: image files.
        skip_bad: give None for a file that does not decode.

    Raises:
        InputError: the first file that does not decode, unless `skip_bad`.
    """

    def checked(file: Path) -> str | None:
        try:
            check_image(file, str(file))
        except InputError:
            if skip_bad:
                return None
            raise
        return sha256_file(file)

    return each_image(checked, files)


def each_image(function: Callable[[Path], T], files: Sequence[Path]) -> list[T]:
    """A function's value for each image file, on all cores, with a progress bar; the first error stops it."""
    Image.init()  # registers the decoders, once, before threads ask for them
    values = []
    with progress_bar("checking", len(files), "img") as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for value in pool.map(function, files):
                values.append(value)
                bar.advance()
        except InputError:
            pool.shutdown(cancel_futures=True)
            raise
    return values


def inside(root: Path, name: str, where: str) -> Path:
    """The file that a list calls `name`, below the data folder.

    Args:
        root: the data folder, or the folder of images inside it.
        name: a relative path, as the list writes it.
        where: the list and the line, for messages.

    Raises:
        InputError: a path that leaves the folder.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or any(sign in name for sign in "\\:\0"):
        raise InputError(f"{where}: {name[:80]!r} leaves the data folder. List paths below {root}.")
    return root / path
