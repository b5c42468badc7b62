"""`promptgraft rank`: which prompt would take, before any is tried."""

import json
import math
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptgraft.cli.arguments import (
    Backbone,
    Data,
    Device,
    Dtype,
    ImageSize,
    Json,
    Seed,
    TestSize,
    TrainSize,
    ValSize,
    open_data,
)

if TYPE_CHECKING:
    import pandas as pd
    from rich.text import Text


def rank(
    data: Data,
    library: Annotated[str, typer.Option(metavar="DIR", help="A folder, 'user' or 'starter'.")] = "starter",
    estimators: Annotated[
        str, typer.Option(metavar="NAMES", help="Joined by commas; the first one orders the table.")
    ] = "gap,norm,volume",
    backbone: Backbone = None,
    image_size: ImageSize = None,
    seed: Seed = 0,
    n_train: TrainSize = None,
    n_val: ValSize = None,
    n_test: TestSize = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Rank a library's prompts for a task, before any of them is tried.

    'norm' and 'volume' (of the source's training data) are the trivial baselines that a better estimator has to beat.

    Example: promptgraft rank builtin/orl-faces --library starter
    """
    from rich.console import Console

    from promptgraft.cli.run import announce
    from promptgraft.library import open_library
    from promptgraft.readme import printable
    from promptgraft.transferability import ranking

    prompts = open_library(library)
    task, model = open_data(
        data,
        backbone,
        image_size=image_size,
        device=device,
        dtype=dtype,
        seed=seed,
        n_train=n_train,
        n_val=n_val,
        n_test=n_test,
    )
    table = ranking.rank(prompts, model, task, [name.strip() for name in estimators.split(",")], seed=seed)
    if as_json:
        typer.echo(json.dumps(_rows(table), indent=2, ensure_ascii=False))
        return
    announce(task, model)
    Console(highlight=False).print(_table(table), soft_wrap=True)
    for note in table.attrs["notes"]:
        typer.echo(printable(note))
    best = shlex.quote(printable(table["prompt"][0]))
    typer.echo(f"next: promptgraft transfer {best} {shlex.quote(data)} --library {shlex.quote(library)} --out DIR")


def _rows(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """The rows as JSON can hold them: a missing score is null."""
    rows = [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
    return [{**row, "score": row["score"] if math.isfinite(row["score"]) else None} for row in rows]


def _table(table: "pd.DataFrame") -> "Text":
    """One line per prompt, in the order of the first estimator: score and rank of each."""
    from promptgraft.report.tables import Column
    from promptgraft.report.tables import table as lay_out

    names = list(dict.fromkeys(table["estimator"]))
    lines: dict[str, dict[str, Any]] = {}
    for row in _rows(table):
        cell = None if row["score"] is None else f"{row['score']:.4g}  #{row['rank']}"
        lines.setdefault(row["prompt"], {"prompt": row["prompt"]})[row["estimator"]] = cell
    columns = [Column("prompt", "prompt"), *(Column(name, name, right=True) for name in names)]
    return lay_out(list(lines.values()), columns)
