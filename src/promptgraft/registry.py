"""Names to lazily imported things: one line per entry, "did you mean" for the rest."""

import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar, cast

from promptgraft.errors import InputError

T = TypeVar("T")


def did_you_mean(name: str, known: list[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


class Registry(Generic[T]):
    """A read-only mapping from a name to `"module:attribute"`, imported when first asked for.

    Args:
        kind: what an entry is called in messages, such as "method".
        entries: name to `"package.module:attribute"`.
        hint: a closing sentence for the message about an unknown name, such as the command that lists the names.
    """

    def __init__(self, kind: str, entries: Mapping[str, str], hint: str = "") -> None:
        self.kind = kind
        self._entries = dict(entries)
        self._hint = hint

    def __getitem__(self, name: str) -> T:
        """Import and return the entry.

        Raises:
            InputError: no such name; the message carries the nearest known one.
        """
        if name not in self._entries:
            known = sorted(self._entries)
            cure = self._hint or f"Known: {', '.join(known)}."
            raise InputError(f"there is no {self.kind} named {name[:80]!r}.{did_you_mean(name[:80], known)} {cure}")
        module, attribute = self._entries[name].split(":")
        return cast(T, getattr(importlib.import_module(module), attribute))

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
