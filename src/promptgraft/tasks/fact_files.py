"""Files of facts as they are published, whose lines are one fact each.

- `relations.jsonl`, `train.jsonl`, `dev.jsonl`, `test.jsonl` in one folder, with the keys `relation`, `subject`,
  `object`;
- LAMA's (https://github.com/facebookresearch/LAMA): `relations.jsonl` and `TREx/P19.jsonl`, a file for each relation,
  with `sub_label` and `obj_label`; these facts are not divided;
- those of AutoPrompt and OptiPrompt (https://github.com/princeton-nlp/OptiPrompt): `autoprompt_data/P19/train.jsonl`,
  `dev.jsonl`, `test.jsonl`; where `LAMA-TREx/P19.jsonl` stands beside them, that is the test split.
"""

import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from promptgraft.errors import InputError
from promptgraft.files import open_file, path_text, read_json
from promptgraft.readme import printable

FactSplit = Literal["train", "dev", "test"]
SPLITS: tuple[FactSplit, ...] = ("train", "dev", "test")
SUBJECT, OBJECT = "[X]", "[Y]"
FILE_LIMIT, TEXT_LIMIT = 1 << 26, 1000
"""Bytes of an unpacked file; characters of a subject, an object or a template."""

_RELATIONS = ("relations", "LAMA_relations", "relation_metainfo/LAMA_relations")
_DIVIDED, _WHOLE = (".", "autoprompt_data"), (".", "LAMA-TREx", "TREx")
_KEYS = {"subject": ("subject", "sub_label"), "object": ("object", "obj_label")}


class Triple(NamedTuple):
    """One line."""

    relation: str
    subject: str
    object: str


@dataclass(frozen=True)
class FactFiles:
    """What files hold. templates: of all relations. splits: the lines of each split. whole: those of no split."""

    templates: Mapping[str, str]
    splits: Mapping[FactSplit, Sequence[Triple]]
    whole: Sequence[Triple]


def read_fact_files(folder: Path) -> FactFiles:
    """Read a folder in any of the three layouts: divided, or whole.

    Args:
        folder: with the files, or LAMA's or OptiPrompt's `data` folder, or the folder of relations in it.

    Raises:
        InputError: no such folder or file, or a line that is no fact.
    """
    if not folder.is_dir():
        raise InputError(
            f"there is no set of facts at {path_text(folder)}. Write facts/countries, facts/wordnet, or a folder with "
            "relations.jsonl, train.jsonl, dev.jsonl and test.jsonl, or one of LAMA or OptiPrompt."
        )
    place, name = _relations_at(folder)
    templates = _templates(place, name)
    divided = {relation: path for relation in templates if (path := _one(folder, _DIVIDED, relation))}
    whole = {relation: path for relation in templates if (path := _one(folder, _WHOLE, f"{relation}.jsonl"))}
    if not divided and not whole:
        of_one = {split: _facts(_found(folder, split), templates, None) for split in SPLITS}
        return FactFiles(templates, of_one, ())
    tested = [line for relation, path in whole.items() for line in _facts(path, templates, relation)]
    if not divided:
        if not tested:
            raise InputError(f"the files in {path_text(folder)} hold no fact.")
        return FactFiles(templates, {}, tested)
    splits: dict[FactSplit, Sequence[Triple]] = {
        split: [
            line for relation, path in divided.items() for line in _facts(_found(path, split), templates, relation)
        ]
        for split in SPLITS
        if split != "test" or not whole
    }
    return FactFiles(templates, splits if "test" in splits else splits | {"test": tested}, ())


def _relations_at(folder: Path) -> tuple[Path, str]:
    """Where the file of relations stands: in the folder, or above it where the folder is a part of a published set."""
    place = folder.resolve()
    places = [folder]
    while place.name in ("data", *_DIVIDED, *_WHOLE):
        place = place.parent
        places.append(place)
    found = ((place, name) for place in places for name in _RELATIONS if _packed(place / f"{name}.jsonl"))
    return next(found, (folder, _RELATIONS[0]))


def _templates(folder: Path, name: str) -> dict[str, str]:
    templates: dict[str, str] = {}
    for where, line in _lines(_found(folder, name)):
        relation, template = (_text(line, (key,), where) for key in ("relation", "template"))
        if template.count(SUBJECT) != 1 or template.count(OBJECT) != 1:
            raise InputError(f"{where}: template {printable(template)!r} must hold {SUBJECT} and {OBJECT} once each.")
        if relation in templates:
            raise InputError(f"{where}: relation {printable(relation)!r} stands there twice. Keep one of its lines.")
        templates[relation] = template
    return templates


def _facts(path: Path, templates: Mapping[str, str], relation: str | None) -> list[Triple]:
    """A file's lines; relation: of all of them, None where each names its own."""
    found = []
    for where, line in _lines(path):
        name = _text(line, ("relation",), where) if relation is None else relation
        subject, value = (_text(line, _KEYS[key], where) for key in ("subject", "object"))
        if name not in templates:
            raise InputError(f"{where}: relation {printable(name)!r} is not in relations.jsonl. Add its template.")
        found.append(Triple(name, subject, value))
    return found


def _one(folder: Path, places: Sequence[str], name: str) -> Path | None:
    """The first of the places that has a folder, or a file, of that name; a relation's name is no path."""
    if Path(name).name != name or name == ".." or len(name.encode()) > 200:
        return None
    tried = [folder / place / name for place in places]
    if name.endswith(".jsonl"):
        return next((found for path in tried if (found := _packed(path)) is not None), None)
    return next((path for path in tried if path.is_dir()), None)


def _found(folder: Path, name: str) -> Path:
    path = _packed(folder / f"{name}.jsonl")
    if path is None:
        raise InputError(f"{path_text(folder)} has no {name}.jsonl (or .jsonl.gz): it is no set of facts.")
    return path


def _packed(path: Path) -> Path | None:
    """A file, or the packed one of that name."""
    return next((each for each in (path, path.with_name(f"{path.name}.gz")) if each.is_file()), None)


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each line stands, and the JSON object that it holds, one at a time: of `{}` a small file has millions."""
    shown = printable(path_text(path))
    try:
        with open_file(path) as stream, gzip.open(stream) if path.suffix == ".gz" else stream as unpacked:
            data = unpacked.read(FILE_LIMIT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {shown}: {printable(error)}. Get an unaltered copy.") from error
    if len(data) > FILE_LIMIT:
        raise InputError(f"{shown} unpacks to more than {FILE_LIMIT} bytes. Take a part of it.")
    for number, line in enumerate(io.BytesIO(data), 1):
        if line.strip():
            where = f"{shown}, line {number}"
            try:
                value = read_json(line)
            except ValueError as error:
                raise InputError(f"{where} is not valid JSON ({error}).") from error
            if not isinstance(value, dict):
                raise InputError(f"{where} is not a JSON object.")
            yield where, value


def _text(line: dict[str, Any], keys: Sequence[str], where: str) -> str:
    """The text under the first of the keys that is there."""
    key = next((key for key in keys if key in line), keys[0])
    value = line.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where} has no text under the key {key!r}.")
    if len(value) > TEXT_LIMIT:
        raise InputError(f"{where}: {key} has {len(value)} characters, {TEXT_LIMIT} is the most.")
    return value.strip()
