"""Labelled texts or pairs of texts in CSV, TSV and JSONL: one file, or a folder with a file for each split."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from promptgraft.errors import InputError
from promptgraft.files import open_file, read_json
from promptgraft.tasks.columns import TextColumns, shown, text_columns
from promptgraft.tasks.contents import content_hash
from promptgraft.tasks.images import SPLIT_FOLDERS
from promptgraft.tasks.labelled import Labelled, class_order

SUFFIXES = (".csv", ".tsv", ".jsonl")
Row = tuple[int, dict[str, Any]]
"""A line number and the values by column."""


def is_text(path: Path) -> bool:
    """Whether a path is a text file that can be read, or a folder with one for a split.

    A folder with a subfolder for a split holds images: tables beside those are about them.
    """
    if not path.is_dir():
        return path.suffix.lower() in SUFFIXES
    images = any(child.is_dir() and child.name.lower() in SPLIT_FOLDERS for child in path.iterdir())
    return not images and bool(_split_files(path))


def read_text(path: Path, *, skip_bad: bool = False) -> Labelled:
    """Read columns `text`, `text2` (optional) and `label`, or such as `columns.ALIASES` names where one can be meant.

    Args:
        path: a .csv, .tsv or .jsonl file in UTF-8, or a folder with train, val and test files.
        skip_bad: leave out rows without a text or a label, and count them in the notes.

    Raises:
        InputError: a file that is not UTF-8 or not of its format, a missing column, an empty text or label; it names
            the file and the line.
    """
    files = text_files(path)
    items: list[tuple[Any, str, str, str]] = []  # input, label, name, split
    skipped = 0
    for split, file in files.items():
        for line, item, label in labelled_rows(file):
            if item is None or not label:
                if not skip_bad:
                    what = "label" if item is not None else "text"
                    raise InputError(
                        f"{file}, line {line}: the {what} is empty. Fill it in, remove the line, or leave such lines "
                        "out (skip_bad=True; --skip-bad on the command line)."
                    )
                skipped += 1
                continue
            items.append((item, label, f"{file.name}:{line}", split))
    classes = class_order([label for _, label, _, _ in items])
    index = {name: number for number, name in enumerate(classes)}
    return Labelled(
        modality="text",
        inputs=[item for item, *_ in items],
        labels=np.array([index[label] for _, label, *_ in items], dtype=np.int64),
        classes=classes,
        names=[name for *_, name, _ in items],
        hashes=[content_hash(item) for item, *_ in items],
        given=None if "all" in files else [split for *_, split in items],
        notes=(f"{skipped} line{'s' * (skipped > 1)} without text or label skipped",) if skipped else (),
    )


def text_files(path: Path) -> dict[str, Path]:
    """The table of each split, or a single file as that of "all".

    Raises:
        InputError: a folder without a train file, or with two for one split.
    """
    files = {"all": path} if path.is_file() else _split_files(path)
    if "all" not in files and "train" not in files:
        raise InputError(
            f"{path} has {', '.join(file.name for file in files.values())} and no train file. Add train.csv."
        )
    return files


def labelled_rows(file: Path) -> Iterator[tuple[int, Any, str]]:
    """Line number, text or pair of texts (None where one is empty) and label (which may be empty) of every row.

    Raises:
        InputError: as `table_rows` and `columns.text_columns`.
    """
    columns: TextColumns | None = None
    for line, row in table_rows(file):
        columns = columns or text_columns(list(row), str(file))
        yield line, *_item(row, columns)


def _split_files(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        split = SPLIT_FOLDERS.get(path.stem.lower())
        if split is None or path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        if split in found:
            raise InputError(f"{folder} has both {found[split].name} and {path.name}. Keep one of them.")
        found[split] = path
    return found


def _item(row: dict[str, Any], columns: TextColumns) -> tuple[Any, str]:
    """The text or pair of a row (None where one is empty) and its label."""
    names = (columns.text,) if columns.text2 is None else (columns.text, columns.text2)
    texts = tuple(str(value).strip() if (value := row.get(name)) is not None else "" for name in names)
    value = row.get(columns.label)
    label = "" if value is None else str(value).strip()
    if not all(texts):
        return None, label
    return (texts[0] if len(texts) == 1 else texts), label


def table_rows(path: Path) -> Iterator[Row]:
    """Line numbers and values by column of a .csv, .tsv or .jsonl file in UTF-8.

    Raises:
        InputError: a file that cannot be read, is not of its format, or is empty; it names the file and the line.
    """
    try:
        with open_file(path) as stream:
            content = stream.read().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Check the path and its permissions.") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text. Save the file as UTF-8.") from error
    rows = list(_jsonl_rows(path, content) if path.suffix.lower() == ".jsonl" else _separated_rows(path, content))
    if not rows:
        raise InputError(f"{path} has no rows. Add some, each with a text and a label.")
    return iter(rows)


def _jsonl_rows(path: Path, content: str) -> Iterator[Row]:
    first: dict[str, Any] | None = None
    # only line feeds end a line: JSON strings may hold other separators, such as U+2028
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = read_json(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number}: not JSON ({error}). Write one object a line.") from error
        if not isinstance(row, dict):
            raise InputError(
                f"{path}, line {number}: {type(row).__name__} instead of an object. Write one object a line."
            )
        first = first or row
        yield number, {**dict.fromkeys(first), **row}


def _separated_rows(path: Path, content: str) -> Iterator[Row]:
    header_line = content.split("\n", 1)[0]
    comma = (
        ";" if ";" in header_line and "," not in header_line else ","
    )  # spreadsheets in many countries write semicolons
    delimiter = "\t" if path.suffix.lower() == ".tsv" else comma
    # a strict reader: a lax one swallows the lines after an unbalanced quote
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if header is None:
                if twice := [name for name, count in Counter(fields).items() if count > 1 and name]:
                    raise InputError(f"{path}: column {twice[0][:80]!r} stands there twice. Rename one of them.")
                header = fields
                continue
            if len(fields) != len(header):
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(fields)} fields, and the header has {len(header)} "
                    f"({shown(header)}). Quote texts that hold the separator."
                )
            yield reader.line_num, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: {error}. Quote texts, and double the quotes inside them."
        ) from error
