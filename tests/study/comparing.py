"""What a study has found, to be compared with what another has found."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptgraft.files import canonical_json
from promptgraft.study.store import Store
from promptgraft.study.summary import summarize

PASSING = {"created", "folder", "cost", "seconds", "peak_memory", "host", "device", "started", "versions"}
"""Fields of a summary that say when, where and at what cost."""


def stable(value: Any) -> Any:
    """A summary without its passing fields."""
    if isinstance(value, dict):
        return {name: stable(item) for name, item in value.items() if name not in PASSING}
    return [stable(item) for item in value] if isinstance(value, list) else value


def findings(folder: Path, url: str | None = None) -> str:
    """All that a study named `tiny`, which must be done, has found."""
    store = Store(folder, "tiny", url)
    assert set(store.states().values()) == {"done"}
    found = canonical_json(stable(summarize(store)))
    store.close()
    return found


@dataclass(frozen=True)
class Calm:
    """A study that ran undisturbed: what it found, the keys of its trials, and how many steps its driver took."""

    folder: Path
    found: str
    keys: frozenset[str]
    steps: int

    def copy(self, folder: Path) -> Path:
        """The same study in another folder, to be run there."""
        folder.mkdir()
        shutil.copy(self.folder / "study.yaml", folder)
        return folder
