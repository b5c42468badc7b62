"""Inputs without labels, as `predict` takes them: files, folders, tables of texts, or the texts themselves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from promptgraft.card import Modality
from promptgraft.errors import InputError
from promptgraft.tasks.columns import find_column, need_column
from promptgraft.tasks.images import files_below, hash_images
from promptgraft.tasks.sequences import ImageFiles
from promptgraft.tasks.text import SUFFIXES, table_rows


def read_inputs(
    arguments: Sequence[str], modality: Modality, *, pair: bool, skip_bad: bool = False
) -> tuple[list[str], Sequence[Any], int]:
    """Names, inputs, and how many files were skipped.

    Args:
        arguments: for images, files and folders of them (searched through and through). For texts, .csv, .tsv and .jsonl files with
            a text column (text and text2 for pairs), .txt files with one text a line, or the texts themselves.
        modality: what the classifier takes.
        pair: whether it takes pairs of texts.
        skip_bad: leave out images that cannot be read, and count them.

    Raises:
        InputError: names the argument or file that is missing or cannot be read.
    """
    if modality == "vision":
        return _images([Path(argument) for argument in arguments], skip_bad)
    names: list[str] = []
    inputs: list[Any] = []
    for argument in arguments:
        path = Path(argument)
        if path.suffix.lower() in (*SUFFIXES, ".txt"):
            if not path.is_file():
                raise InputError(f"there is no file {argument}. Check the path.")
            found = _table(path, pair) if path.suffix.lower() != ".txt" else _lines(path, pair)
            names += [f"{path.name}:{line}" for line, _ in found]
            inputs += [item for _, item in found]
        elif pair:
            raise InputError(
                f"the classifier takes pairs of texts, got {argument!r}. Write them to a .csv or .jsonl file with columns "
                "text and text2."
            )
        else:
            names.append(argument)
            inputs.append(argument)
    return names, inputs, 0


def _images(paths: Sequence[Path], skip_bad: bool) -> tuple[list[str], Sequence[Any], int]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            suffixes = Image.registered_extensions()
            found = [file for file in files_below(path) if file.suffix.lower() in suffixes]
            if not found:
                raise InputError(f"folder {path} holds no images. Check the path.")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"there is no file {path}. Check the path.")
    hashes = hash_images(files, skip_bad=skip_bad)
    kept = [file for file, digest in zip(files, hashes, strict=True) if digest is not None]
    return [str(file) for file in kept], ImageFiles(kept), len(files) - len(kept)


def _table(path: Path, pair: bool) -> list[tuple[int, Any]]:
    rows = list(table_rows(path))
    columns = list(rows[0][1])
    first = need_column(columns, "text", str(path))
    second = need_column(columns, "text2", str(path)) if pair else None
    if not pair and find_column(columns, "text2", str(path)) is not None:
        raise InputError(f"{path} has a second text column, and the classifier takes single texts. Remove the column.")
    if second is None:
        return [(line, str(row[first])) for line, row in rows]
    return [(line, (str(row[first]), str(row[second]))) for line, row in rows]


def _lines(path: Path, pair: bool) -> list[tuple[int, Any]]:
    if pair:
        raise InputError(
            f"the classifier takes pairs of texts: write {path} as a .csv or .jsonl with columns text and text2."
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text. Save the file as UTF-8.") from error
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
