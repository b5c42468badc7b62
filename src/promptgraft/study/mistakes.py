"""What is wrong with a study's document, in words: the findings of pydantic, each with the place that it is about."""

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from promptgraft.readme import printable
from promptgraft.registry import did_you_mean
from promptgraft.study.marked import Keys, Marked
from promptgraft.study.spec import StudySpec, _Short

_LIMITS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_WORDS: dict[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def mistakes(error: ValidationError, document: Marked) -> list[tuple[Keys, str]]:
    """The place and the words of each mistake, each once.

    A value that may be one of several things, such as `"all" | list | SomeSources`, gives findings for each of them.
    Those of the thing that it looks like are kept; if it looks like none, one line says what it may be.

    Args:
        error: of validating `document` as a `StudySpec`.
        document: what was validated.
    """
    located = [(details, *_locate(details)) for details in error.errors(include_url=False)]
    alike = {choice for details, _, _, choice in located if choice is not None and not _unlike(details, choice)}
    found: dict[tuple[Keys, str], None] = {}
    for details, path, kind, choice in located:
        if choice is not None and _unlike(details, choice) and choice in alike:
            continue
        given = document.at(path)
        if details["type"] == "too_short" and given:
            continue  # entries are missing only because they are wrong themselves
        place = path[:-1] if details["type"] == "missing" else path
        found[place, _words(details, path, kind, given)] = None
    return list(found)


def _locate(details: ErrorDetails) -> tuple[Keys, Any, Keys | None]:
    """The path in the document, the type asked for there, and the path of the choice on the way to it, if any."""
    path: Keys = ()
    kind: Any = StudySpec
    choice: Keys | None = None
    for number, step in enumerate(details["loc"]):
        below = _below(kind, step)
        if below is not None:
            path, kind = (*path, step), below
        elif details["type"] == "extra_forbidden" and number == len(details["loc"]) - 1:
            path = (*path, step)
        else:  # the name that pydantic gives to a member of a union
            choice = path
    return path, kind, choice


def _unlike(details: ErrorDetails, choice: Keys) -> bool:
    """Whether the value is not even of the right shape for this member of the union at `choice`."""
    return len(details["loc"]) == len(choice) + 1


def _below(kind: Any, step: str | int) -> Any:
    """The type of what stands under `step`, or None where the type knows of no such step."""
    for member in _members(kind):
        if isinstance(step, int) and get_origin(member) is tuple:
            return get_args(member)[0]
        if isinstance(step, str) and get_origin(member) is dict:
            return get_args(member)[1]
        if _is_model(member) and step in member.model_fields:
            return member.model_fields[step].annotation
    return None


def _members(kind: Any) -> Iterator[Any]:
    """What a value of this type may be: the members of a union, without None."""
    if get_origin(kind) is Annotated:
        yield from _members(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for member in get_args(kind):
            yield from _members(member)
    elif kind is not NoneType:
        yield kind


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _words(details: ErrorDetails, path: Keys, kind: Any, given: Any) -> str:
    name, limits = details["type"], details.get("ctx", {})
    if name == "missing":
        return f"`{path[-1]}` is missing"
    if name == "extra_forbidden":
        known = [key for member in _members(kind) if _is_model(member) for key in member.model_fields]
        return f"there is no such key.{did_you_mean(str(path[-1]), known) or ' Known: ' + ', '.join(known)}"
    if name == "value_error":
        return str(limits["error"])
    if name == "too_short":
        return "must have an entry at least"
    if name == "string_too_short":
        return "must not be empty"
    if name == "string_too_long":
        return f"must be at most {limits['max_length']} characters long, got {_shown(given)}"
    if name == "string_pattern_mismatch":
        return f"must be letters, digits, '.', '_' or '-', 100 at most, a letter or digit first, got {_shown(given)}"
    if name in _LIMITS:
        words, limit = _LIMITS[name]
        return f"must be {words} {limits[limit]}, got {_shown(given)}"
    quotes = "; put it in quotes" if str in _members(kind) and isinstance(given, (int, float)) else ""
    return f"must be {_expected(kind)}, got {_shown(given)}{quotes}"


def _expected(kind: Any) -> str:
    return " or ".join(_noun(member) for member in _members(kind))


def _noun(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if origin is tuple:
        return "a list"
    if origin is dict:
        return "a mapping"
    if _is_model(kind):
        keys = [key for key, field in kind.model_fields.items() if field.is_required()]
        mapping = f"a mapping with {' and '.join(f'`{key}`' for key in keys)}" if keys else "a mapping"
        return f"a word or {mapping}" if issubclass(kind, _Short) else mapping
    return _WORDS[kind]


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, tuple)):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = str(value) if len(str(value)) <= 60 else f"{str(value)[:60]}…"
    return printable(repr(text) if isinstance(value, str) else text)
