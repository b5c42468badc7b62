"""Folders of images: one folder per class, in train/ val/ test/ or at one level."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from promptgraft.errors import InputError
from promptgraft.files import path_text, sha256_file
from promptgraft.progress import progress_bar
from promptgraft.tasks.labelled import Labelled, class_order
from promptgraft.tasks.pixels import check_image
from promptgraft.tasks.sequences import ImageFiles

SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}
"""Names that a split's folder or file may have."""
_JUNK = {"thumbs.db", "desktop.ini", "icon\r", "__macosx"}


def read_class_folders(root: Path, *, skip_bad: bool = False) -> Labelled:
    """Read `root/CLASS/**/FILE` or `root/{train,val,test}/CLASS/**/FILE`.

    Every file must be an image that decodes (hidden files and those that file managers leave behind are passed over).

    Args:
        root: the data folder.
        skip_bad: leave out files that do not decode, and count them in the notes.

    Raises:
        InputError: a missing or empty folder, images outside class folders, a class that training does not know, a
            file that is no image.
    """
    parts = _split_folders(root)
    found: list[tuple[Path, str, str]] = []  # file, class, split
    for split, folder in parts.items():
        for class_folder in _class_folders(folder):
            files = files_below(class_folder)
            if not files and split == "train":
                raise InputError(f"class folder {class_folder} holds no images. Add some, or remove the folder.")
            found += [(file, path_text(class_folder.name), split) for file in files]
    hashes = hash_images([file for file, _, _ in found], skip_bad=skip_bad)
    kept = [(*item, digest) for item, digest in zip(found, hashes, strict=True) if digest is not None]
    classes = class_order([name for _, name, split, _ in kept if split == "train"])
    for file, name, split in found:
        if name not in classes:
            lack = "no readable image" if split == "train" else f"images for {split} ({file}) and none"
            raise InputError(
                f"class {name!r} has {lack} in {parts['train'] / name}. "
                "Add training images, or remove or rename the class."
            )
    skipped = len(found) - len(kept)
    return Labelled(
        modality="vision",
        inputs=ImageFiles([file for file, *_ in kept]),
        labels=np.array([classes.index(name) for _, name, *_ in kept], dtype=np.int64),
        classes=classes,
        names=[path_text(file.relative_to(root).as_posix()) for file, *_ in kept],
        hashes=[digest for *_, digest in kept],
        given=[split for *_, split, _ in kept] if parts["train"] != root else None,
        notes=(skipped_note(skipped),) if skipped else (),
    )


def skipped_note(count: int) -> str:
    """The note about files that were left out."""
    return f"{count} unreadable file{'s' * (count > 1)} skipped"


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

    Image.init()  # registers the decoders, once, before threads ask for them
    with progress_bar("checking", len(files), "img") as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = []
        try:
            for digest in pool.map(checked, files):
                hashes.append(digest)
                bar.advance()
        except InputError:
            pool.shutdown(cancel_futures=True)
            raise
    return hashes


def _split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split, or of train alone where the classes lie at one level."""
    if not root.is_dir():
        raise InputError(f"data folder {root} does not exist. Check the path.")
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not _is_junk(path)]
    splits = {path: SPLIT_FOLDERS.get(path.name.lower()) for path in folders}
    if "train" not in splits.values():
        if folders and all(splits.values()):
            raise InputError(f"{root} has {', '.join(path.name for path in folders)} and no train folder. Add train/.")
        return {"train": root}
    parts: dict[str, Path] = {}
    for path, split in splits.items():
        if split is None:
            raise InputError(f"{path} lies beside train/ and is neither val/ nor test/. Move it away.")
        if split in parts:
            raise InputError(f"{root} has both {parts[split].name}/ and {path.name}/. Keep one of them.")
        parts[split] = path
    _refuse_loose_images(root)
    return {split: parts[split] for split in ("train", "val", "test") if split in parts}


def _class_folders(root: Path) -> list[Path]:
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not _is_junk(path)]
    _refuse_loose_images(root)
    if not folders:
        raise InputError(
            f"data folder {root} holds no class folders. Put the images of each class into a folder of its own."
        )
    return folders


def _refuse_loose_images(root: Path) -> None:
    """A picture beside the class folders has no class; a README or a licence there does no harm."""
    suffixes = Image.registered_extensions()
    for path in sorted(root.iterdir()):
        if not path.is_dir() and not _is_junk(path) and path.suffix.lower() in suffixes:
            raise InputError(
                f"{path} lies outside of a class folder. Put the images of each class into a folder of its own."
            )


def files_below(folder: Path) -> list[Path]:
    """All files below a folder in the order of their paths, but hidden ones and the litter of file managers."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if not path.is_dir() and not any(_is_junk(part) for part in (path, *path.relative_to(folder).parents))
    ]


def _is_junk(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in _JUNK
