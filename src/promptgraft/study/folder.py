"""A study's folder: `study.yaml`, the store, prompts, the report. Nothing slow is imported here."""

import re
from pathlib import Path

from promptgraft.errors import InputError
from promptgraft.files import path_text, read_file
from promptgraft.study.store import Store

DOCUMENT, DATABASE = "study.yaml", "study.sqlite"
LIMIT = 1_000_000
"""Bytes of a `study.yaml`; a few lines make one."""
# in block style, at the start of a line; else in flow style, as JSON has it
_NAME = re.compile(r"^['\"]?study['\"]?\s*:\s*['\"]?([A-Za-z0-9][A-Za-z0-9._-]{0,99})", re.MULTILINE)
_FLOW_NAME = re.compile(r"[{,]\s*['\"]?study['\"]?\s*:\s*['\"]?([A-Za-z0-9][A-Za-z0-9._-]{0,99})")


def study_document(folder: Path) -> Path:
    """The folder's `study.yaml`.

    Raises:
        InputError: there is none.
    """
    if not (folder / DOCUMENT).is_file():
        where = path_text(folder)
        raise InputError(f"{where} holds no {DOCUMENT}. `promptgraft study init baselines {where}` makes one.")
    return folder / DOCUMENT


def open_started(folder: Path, url: str | None = None) -> Store:
    """The store of a study that was started.

    Raises:
        InputError: there is no study, or it has not been started.
    """
    store = open_existing(folder, url)
    if store is None or store.spec() is None:
        where = path_text(folder)
        raise InputError(f"study {where} has not been started. `promptgraft study run {where}` does.")
    return store


def open_existing(folder: Path, url: str | None = None) -> Store | None:
    """The study's store; None where it has no database yet."""
    try:
        text = read_file(study_document(folder), LIMIT).decode("utf-8", "replace")
    except OSError as error:
        where = path_text(folder / DOCUMENT)
        raise InputError(f"{where} cannot be read: {error.strerror or error}. Check it.") from error
    name = _NAME.search(text) or _FLOW_NAME.search(text)
    if name is None:
        raise InputError(f"{folder / DOCUMENT} names no study: it lacks a line like `study: my-study`.")
    if url is None and not (folder / DATABASE).is_file():
        return None
    return Store(folder, name.group(1), url)
