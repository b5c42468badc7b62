"""`study.yaml`: read with every mistake named by its line, written tidily, added to without touching the rest."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from promptgraft.card import Section
from promptgraft.errors import DocumentError, InputError
from promptgraft.files import path_text, read_file, write_atomic
from promptgraft.readme import printable
from promptgraft.registry import did_you_mean
from promptgraft.study.folder import LIMIT
from promptgraft.study.marked import Keys, Marked, inline, read_marked
from promptgraft.study.mistakes import mistakes
from promptgraft.study.spec import RecipeSpec, StudySpec, _Short

MAX_MISTAKES, MISTAKE_LENGTH = 5, 500
"""Named at a time, and characters of each."""
WIDTH = 100
"""Columns that a line is kept within where it can be."""

ADDABLE = ("targets", "methods", "estimators", "seeds", "backbones", "sources")
"""What `add_to_document` takes."""


def read_spec(path: Path) -> StudySpec:
    """Read a study.

    Raises:
        InputError: no such file, no YAML, or no study; names the first mistakes, each with its line and its cure.
    """
    return _validated(_read_text(path), _name(path))


def write_spec(spec: StudySpec) -> str:
    """The YAML that `read_spec` reads as `spec`: without defaults, a section as a word where its name says it all."""
    return "\n".join(_block(_plain(spec))) + "\n"


def add_to_document(path: Path, additions: Mapping[str, Sequence[str]]) -> StudySpec:
    """Append entries to the lists of a `study.yaml`; all else in it, comments and layout, stays byte for byte.

    Args:
        path: the file.
        additions: one of `ADDABLE` -> entries. `vpt:shallow` is method `vpt` with shallow layers. A source that starts
            with `builtin/` or is a path is a task that the study tunes a prompt on (the first of `sources.tune`), else
            it is a prompt of the library.

    Raises:
        InputError: an entry makes no valid study, or stands there already; the file is as it was.
    """
    name, text = _name(path), _read_text(path)
    for key, words in additions.items():
        if key not in ADDABLE:
            near = did_you_mean(key, list(ADDABLE))
            raise InputError(f"a study has no list {key!r} to add to.{near} Known: {', '.join(ADDABLE)}.")
        for word in words:
            document = read_marked(text, name)
            text = _appended(document, *_entry(document, key, word), name)
    try:
        spec = _validated(text, name)
    except InputError as error:
        lines = error.mistakes if isinstance(error, DocumentError) else (str(error),)
        raise DocumentError([f"{name} stays as it is. With what was to be added:", *lines]) from error
    write_atomic(path.resolve(), text)
    return spec


def _name(path: Path) -> str:
    return printable(path_text(path))


def _read_text(path: Path) -> str:
    name = _name(path)
    try:
        if path.is_dir():
            raise InputError(f"{name} is a folder. Name the file in it, such as {name}/study.yaml.")
        if not path.exists():
            raise InputError(f"{name} does not exist. `promptgraft study init` writes one.")
        data = read_file(path, LIMIT)
    except OSError as error:
        raise InputError(
            f"{name} cannot be read: {error.strerror or error}. Name a study.yaml; a few lines make one."
        ) from error
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}:{line}: this is not UTF-8. Save the file as UTF-8 text.") from error


def _validated(text: str, name: str) -> StudySpec:
    document = read_marked(text, name)
    if not isinstance(document.value, dict):
        raise InputError(f"{name}:{document.line(())}: a study is a mapping with `study`, `backbones` and `targets`")
    try:
        return StudySpec.model_validate(document.value, strict=True)
    except ValidationError as error:
        found = sorted(mistakes(error, document), key=lambda mistake: document.line(mistake[0]))
    lines = []
    for place, words in found[:MAX_MISTAKES]:
        # a mistake of the study as a whole has no line
        where = [f"{name}:{document.line(place)}", _dotted(place)] if place else [name]
        line = printable(": ".join([*where, words]))
        lines.append(line if len(line) <= MISTAKE_LENGTH else f"{line[:MISTAKE_LENGTH]} ...")
    if len(found) > MAX_MISTAKES:
        lines.append(f"and {len(found) - MAX_MISTAKES} more")
    raise DocumentError(lines)


def _dotted(place: Keys) -> str:
    return ".".join(map(str, place))


def _plain(value: Any) -> Any:
    """A section as a person writes it: without its defaults, and as a word where no more than its name is left."""
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(below) for key, below in value.items()}
    if not isinstance(value, Section):
        return value
    fields = type(value).model_fields
    word = next(iter(fields)) if isinstance(value, _Short) else None
    given = {
        key: _plain(getattr(value, key))
        for key, field in fields.items()
        if key == word or field.is_required() or getattr(value, key) != field.get_default(call_default_factory=True)
    }
    if isinstance(value, RecipeSpec):
        given |= given.pop("changes", {})  # they stand beside the name
    return given[word] if word and len(given) == 1 else given


def _block(value: Any, indent: str = "") -> Iterator[str]:
    """The lines of a mapping or list, one for each entry where it fits."""
    if isinstance(value, dict):
        for key, below in value.items():
            line = f"{indent}{key}: {inline(below)}"
            if _is_flat(below) and (len(line) <= WIDTH or not below or isinstance(below, str)):
                yield line
            else:
                yield f"{indent}{key}:"
                yield from _block(below, f"{indent}  ")
        return
    for item in value:
        line = f"{indent}- {inline(item)}"
        if len(line) <= WIDTH or not item or not isinstance(item, (dict, list)):
            yield line
        else:
            first, *others = _block(item, f"{indent}  ")
            yield f"{indent}- {first.lstrip()}"
            yield from others


def _is_flat(value: Any) -> bool:
    """Whether no list or mapping is in it."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not any(isinstance(item, (dict, list)) for item in inside)


def _entry(document: Marked, key: str, word: str) -> tuple[Keys, Any]:
    """The list that an entry belongs to, and the entry."""
    if key == "seeds":
        if not re.fullmatch("[0-9]{1,19}", word):
            raise InputError(f"a seed is a whole number from 0 to 2**63 - 1, got {word!r}")
        return (key,), int(word)
    if key == "methods" and ":" in word:
        method, layers = word.split(":", 1)
        return (key,), {"method": method, "layers": layers}
    if key != "sources":
        return (key,), word
    tasks = ("sources", "tune", 0, "tasks")
    task = word.startswith("builtin/")
    if tasks in document.places and (task or Path(word).exists()):
        return tasks, word
    if task:
        raise InputError(
            f"source {word!r} is a task, and the study tunes no prompts: it has no `sources.tune`. Add it."
        )
    if ("sources", "prompts") not in document.places:
        what = "takes all prompts of its library" if ("sources", "library") in document.places else "has no library"
        raise InputError(f"source {word!r} cannot be added: the study {what}. Write `sources.prompts` by hand.")
    return ("sources", "prompts"), word


def _appended(document: Marked, place: Keys, entry: Any, name: str) -> str:
    """The text with one more entry in the list at `place`.

    Raises:
        InputError: there is no list, or it is written in a way that leaves no room, as in JSON without the key.
    """
    before = document.at(place)
    if not isinstance(before, tuple | None) or not isinstance(document.value, dict):
        _validated(document.text, name)  # says what is wrong there
    if place not in document.places:
        before = StudySpec.model_fields[str(place[0])].default
    items = (*before, entry) if isinstance(before, tuple) else (entry,)
    text = _spliced(document, place, items)
    try:
        if read_marked(text, name).value == _replaced(document.value, place, items):
            return text
    except InputError:
        pass
    raise InputError(
        f"{name}: `{_dotted(place)}` is written so that nothing can be added; add {inline(entry)} by hand"
    )


def _spliced(document: Marked, keys: Keys, items: tuple[Any, ...]) -> str:
    """The text with `items`, of which the last is new, in the list at `keys`, written as its neighbours are."""
    text, entry = document.text, inline(items[-1])
    newline = "\r\n" if "\r\n" in text else "\n"
    place = document.places.get(keys)
    if place is None:  # a new key at the end
        top = document.places[()]
        at, added = len(text), f"{' ' * top.column}{keys[0]}: {inline(items)}{newline}"
    elif len(items) == 1:  # nothing, or empty brackets
        start, end, space = place.start, place.end, ""
        if start == end:
            start = end = text.index(":", end) + 1
            space = " "
        return f"{text[:start]}{space}[{entry}]{text[end:]}"
    elif place.flow:
        at = document.places[(*keys, len(items) - 2)].end
        return f"{text[:at]}, {entry}{text[at:]}"
    else:
        at = text.find("\n", place.end - 1) + 1 or len(text)
        added = f"{' ' * place.column}- {entry}{newline}"
    if at and text[at - 1] != "\n":
        added = newline + added.removesuffix(newline)
    return text[:at] + added + text[at:]


def _replaced(value: Any, keys: Keys, new: Any) -> Any:
    """`value` with `new` at `keys`."""
    if not keys:
        return new
    key, *rest = keys
    if isinstance(value, dict):
        return {**value, key: _replaced(value.get(key), tuple(rest), new)}
    return tuple(_replaced(item, tuple(rest), new) if n == key else item for n, item in enumerate(value))
