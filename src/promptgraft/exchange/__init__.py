"""Other people's prompt formats, read into `SoftPrompt` and written from it: one file and one line each.

`hub` shares prompts in their own format; `sums` lists a library's files for those who sign.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from promptgraft.registry import Registry

if TYPE_CHECKING:
    from promptgraft.prompt import SoftPrompt

IMPORTERS: "Registry[Callable[..., SoftPrompt]]" = Registry(
    "importer",
    {
        "thunlp": "promptgraft.exchange.thunlp:import_thunlp",
        "peft": "promptgraft.exchange.peft:import_peft",
        "adapterhub": "promptgraft.exchange.adapterhub:import_adapterhub",
        "array": "promptgraft.exchange.arrays:import_array",
    },
)
"""Format -> reader of one file or folder: (path, *, and of `backbone`, `task`, `task_id` those that it needs)."""

EXPORTERS: "Registry[Callable[..., Path]]" = Registry(
    "exporter",
    {"peft": "promptgraft.exchange.peft:export_peft"},
)
"""Format -> writer of one folder: (prompt, folder, *, backbone=None)."""
