"""Other people's prompt formats, read into `SoftPrompt`: one file and one line each."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from promptgraft.registry import Registry

if TYPE_CHECKING:
    from promptgraft.prompt import SoftPrompt

IMPORTERS: "Registry[Callable[..., SoftPrompt]]" = Registry(
    "importer",
    {"thunlp": "promptgraft.exchange.thunlp:import_thunlp"},
)
