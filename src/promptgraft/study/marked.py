"""YAML as a person writes a study in: plain values, each with its place in the text. Fit for hostile files.

Read from the parser's events, never composed: an alias, a tag or a bomb of them is met before anything is built of it.
Plain scalars are those of YAML 1.2's core schema.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)
from ruamel.yaml.reader import ReaderError

from promptgraft.errors import InputError
from promptgraft.readme import printable

DEEPEST = 30
LARGEST = 20_000
"""Values in one file. A study has a few dozen."""

Keys = tuple[str | int, ...]
"""Keys and indices from the top of a document to a value."""

_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WHOLE = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt\s].*)?")
_PLAIN = re.compile(r"[A-Za-z_./]([A-Za-z0-9_./@+:-]*[A-Za-z0-9_./@+-])?( [A-Za-z0-9_./@+-]+)*")


@dataclass(frozen=True)
class Place:
    """Where a value stands in the text.

    start, end: offsets of its first character and behind its last; behind its key where nothing is written.
    line: from 1, of its key where it has one. column: of its start, from 0. flow: a list or mapping in brackets.
    """

    start: int
    end: int
    line: int
    column: int
    flow: bool


@dataclass(frozen=True)
class Marked:
    """A document: its text, its top value (tuples for lists), and the place of each value in it."""

    text: str
    value: Any
    places: dict[Keys, Place]

    def at(self, keys: Keys) -> Any:
        """The value there, or None."""
        value = self.value
        try:
            for key in keys:
                value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
        return value

    def line(self, keys: Keys) -> int:
        """The line of what stands there, or of the nearest thing around it."""
        while keys not in self.places:
            keys = keys[:-1]
        return self.places[keys].line


def read_marked(text: str, name: str) -> Marked:
    """Read one YAML document of mappings, lists, text, numbers, true, false and null.

    Args:
        text: the YAML.
        name: what messages call the file.

    Raises:
        InputError: no YAML, or more of YAML than a study needs; names the line.
    """
    places: dict[Keys, Place] = {}
    try:
        value = _Reader(name, YAML(typ="safe", pure=True).parse(text), places).document()
    except InputError:
        raise
    except ReaderError as error:
        _refuse(name, text.count("\n", 0, error.position) + 1, f"character U+{error.character:04X} is not allowed")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = f"this is no YAML: {error.problem or error.context}"
        if "'\\t'" in problem:
            problem = "a tab stands where only spaces may; indent with spaces"
        _refuse(name, mark.line + 1 if mark else 1, problem)
    except (YAMLError, ValueError, OverflowError) as error:  # of escapes such as \UFFFFFFFF; it knows no line
        raise InputError(f"{name}: this is no YAML: {printable(error)}") from error
    return Marked(text, value, places)


class _Reader:
    """Builds the value from events, and notes the place of each part."""

    def __init__(self, name: str, events: Iterator[Event], places: dict[Keys, Place]) -> None:
        self._name, self._events, self._places = name, events, places

    def document(self) -> Any:
        next(self._events)  # the start of the stream
        event = next(self._events)
        if isinstance(event, StreamEndEvent):
            self._refuse(event, "the file is empty")
        if isinstance(event, DocumentStartEvent) and (event.version or event.tags):
            self._refuse(event, "directives (%) are not read; leave them out")
        value = self._value(next(self._events), ())
        next(self._events)  # the end of the document
        if not isinstance(event := next(self._events), StreamEndEvent):
            self._refuse(event, "a second document starts here; a file holds one")
        return value

    def _value(self, event: Any, keys: Keys, key: Event | None = None) -> Any:
        self._check(event)
        if len(keys) > DEEPEST:
            self._refuse(event, f"lists and mappings are nested deeper than {DEEPEST}")
        if len(self._places) >= LARGEST:
            self._refuse(event, f"the file holds more than {LARGEST} values")
        start, end, line = event.start_mark, event.end_mark.index, (key or event).start_mark.line + 1
        if (
            key and isinstance(event, ScalarEvent) and start.index == end
        ):  # nothing stands there; the parser puts it behind comments
            start = key.end_mark
            end = start.index
        self._places[keys] = Place(start.index, end, line, start.column, flow=False)
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        mapping = isinstance(event, MappingStartEvent)
        value, close = self._mapping(keys) if mapping else self._list(keys)
        if event.flow_style:
            end = close.end_mark.index
        elif value:  # a block is closed by the next token, behind comments: it ends where its last part ends
            end = self._places[(*keys, next(reversed(value)) if mapping else len(value) - 1)].end
        self._places[keys] = Place(start.index, end, line, start.column, bool(event.flow_style))
        return value

    def _list(self, keys: Keys) -> tuple[tuple[Any, ...], Event]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._value(event, (*keys, len(items))))
        return tuple(items), event

    def _mapping(self, keys: Keys) -> tuple[dict[str, Any], Event]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            self._check(event)
            key = self._scalar(event) if isinstance(event, ScalarEvent) else None
            if not isinstance(key, str):
                self._refuse(event, "a key must be text; put it in quotes")
            if key in found:
                first = self._places[(*keys, key)].line
                self._refuse(event, f"key {_short(key)} stands here again; line {first} has it already")
            found[key] = self._value(next(self._events), (*keys, key), event)
        return found, event

    def _check(self, event: Any) -> None:
        if isinstance(event, AliasEvent) or event.anchor:
            self._refuse(event, "anchors and aliases are not read; write the value out")
        if event.tag:
            self._refuse(event, "tags (!) are not read; leave them out")

    def _scalar(self, event: ScalarEvent) -> Any:
        text: str = event.value
        if not event.implicit[0]:  # in quotes, or a block
            if any(0xD800 <= ord(character) < 0xE000 for character in text):
                self._refuse(event, r"half a character (\uD800 to \uDFFF); write the character itself")
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _NO_NUMBER.fullmatch(text) or (_DECIMAL.fullmatch(text) and not math.isfinite(float(text))):
            self._refuse(event, f"{_short(text)} is no finite number")
        if _WHOLE.fullmatch(text):
            if len(text) > 100:
                self._refuse(event, f"{_short(text)} is too large a number")
            return int(text, 0 if text[:2] in ("0o", "0x") else 10)
        if _DECIMAL.fullmatch(text):
            return float(text)
        if _DATE.fullmatch(text):
            self._refuse(event, f"{_short(text)} is a date to YAML; put it in quotes")
        return text

    def _refuse(self, event: Event, problem: str) -> NoReturn:
        _refuse(self._name, event.start_mark.line + 1, problem)


def _refuse(name: str, line: int, problem: str) -> NoReturn:
    raise InputError(f"{name}:{line}: {printable(problem)}")


def inline(value: Any) -> str:
    """A plain value on one line, as `read_marked` reads it: brackets, and quotes where needed."""
    if isinstance(value, str):
        other = value in _CONSTANTS or _DECIMAL.fullmatch(value) or _NO_NUMBER.fullmatch(value)
        bare = _PLAIN.fullmatch(value) and not other
        return value if bare else f'"{"".join(map(_escaped, value))}"'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{inline(key)}: {inline(below)}" for key, below in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(inline, value)) + "]"
    return json.dumps(value, allow_nan=False)


def _escaped(character: str) -> str:
    if character.isprintable() and character not in '"\\':
        return character
    return json.dumps(character)[1:-1] if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


def _short(text: str) -> str:
    return printable(repr(text if len(text) <= 60 else text[:60] + "…"))
