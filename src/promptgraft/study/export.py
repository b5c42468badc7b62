"""A study as a table for other programs: one row per trial, what was measured in columns of their own."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from promptgraft.errors import InputError
from promptgraft.files import write_atomic

MEASURED = ("seconds", "peak_memory", "device", "host", "started", "versions")
"""Columns `measured.*`: another run of the same trial gives others."""

_FORMULA = (*"=+-@\t\r\n", *"\uff1d\uff0b\uff0d\uff20")
"""What a formula may start with: also the wide signs, which a spreadsheet takes for the others."""


def trial_table(trials: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per trial of a summary: labels, state and results, then the columns `measured.*`.

    Nested values (setting, notes, curve, versions) are JSON texts.
    """
    rows = []
    for trial in trials:
        own = {name: _flat(value) for name, value in trial.items() if name not in MEASURED}
        rows.append(own | {f"measured.{name}": _flat(trial.get(name)) for name in MEASURED})
    return pd.DataFrame(rows)


def export_trials(trials: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write `trial_table` as .csv or .parquet.

    A text in a CSV that a spreadsheet would take for a formula gets an apostrophe before it.

    Raises:
        InputError: another suffix, no pyarrow for Parquet, or the file cannot be written.
    """
    table = trial_table(trials)
    if path.suffix == ".csv":
        # RFC 4180's line ends: with them a text that holds either of the two characters is quoted
        write_atomic(path, table.map(_harmless).to_csv(index=False, lineterminator="\r\n"))
    elif path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise InputError("a .parquet file needs pyarrow: pip install 'promptgraft[parquet]'.") from error
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        write_atomic(path, buffer.getvalue())
    else:
        raise InputError(f"{path} is neither .csv nor .parquet. Choose one of these.")
    return path


def _flat(value: Any) -> Any:
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False) if value else None
    return value


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
