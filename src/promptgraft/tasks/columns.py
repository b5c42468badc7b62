"""Which columns of a table hold the text, the second text and the label."""

from collections.abc import Sequence
from dataclasses import dataclass

from promptgraft.errors import InputError

ALIASES = {
    "text": ("sentence", "sentence1", "text1", "content", "question", "premise", "review"),
    "text2": ("sentence2", "passage", "context", "hypothesis"),
    "label": ("labels", "category", "class", "target"),
    "image": ("img",),
}


@dataclass(frozen=True)
class TextColumns:
    """The columns of a labelled text table, spelt as the table spells them."""

    text: str
    text2: str | None
    label: str


def text_columns(columns: Sequence[str], where: str) -> TextColumns:
    """Find the columns of labelled texts or pairs of texts.

    Raises:
        InputError: no text or no label column, or several that might be meant; the message lists the columns.
    """
    text2 = find_column(columns, "text2", where)
    return TextColumns(need_column(columns, "text", where), text2, need_column(columns, "label", where))


def need_column(columns: Sequence[str], role: str, where: str) -> str:
    """As `find_column`, and the column must be there.

    Raises:
        InputError: no such column, or several that might be meant.
    """
    found = find_column(columns, role, where)
    if found is None:
        raise InputError(f"{where} has no {role} column among {shown(columns)}. Name one of them {role!r}.")
    return found


def shown(columns: Sequence[str]) -> str:
    """The names of columns, of many or long ones a part."""
    more = " ..." if len(columns) > 20 else ""
    return ", ".join(repr(name[:80]) for name in columns[:20]) + more


def find_column(columns: Sequence[str], role: str, where: str) -> str | None:
    """The column called `role` (case does not matter), else the only one called by an alias of it, else None.

    Raises:
        InputError: several columns that might be meant.
    """
    for names in ((role,), ALIASES[role]):
        found = [column for column in columns if column.strip().lower() in names]
        if len(found) > 1:
            raise InputError(
                f"{where} has several columns that may be the {role}: {shown(found)}. Name one of them {role!r}."
            )
        if found:
            return found[0]
    return None
