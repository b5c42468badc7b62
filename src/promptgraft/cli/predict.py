"""`promptgraft predict`: classify new inputs with an adapted model."""

from pathlib import Path
from typing import Annotated

import typer

from promptgraft.cli.arguments import Device, Dtype, Json, say_json


def predict(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `promptgraft adapt` or `tune` wrote.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Images and folders of them; for texts .csv, .tsv, .jsonl or .txt files, or the texts themselves.",
        ),
    ],
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out what cannot be read.")] = False,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Classify images or texts: a table of the most probable class, or all of it as JSON.

    Example: promptgraft predict faces new/ --json
    """
    from rich.console import Console

    from promptgraft.report.tables import Column, table
    from promptgraft.tasks.unlabelled import read_inputs
    from promptgraft.tuning.adapted import load_adapted

    adapted = load_adapted(model, device=device, dtype=dtype)
    names, items, skipped = read_inputs(
        inputs, adapted.info.task.modality, pair=adapted.info.task.pair, skip_bad=skip_bad
    )
    probabilities = adapted.predict_proba(items)
    order = (-probabilities).argsort(1, kind="stable")
    rows = [
        {
            "input": name,
            "class": adapted.classes[best[0]],
            "probability": float(row[best[0]]),
            "then": _runner_up(adapted.classes[best[1]], float(row[best[1]])),
        }
        for name, row, best in zip(names, probabilities, order, strict=True)
    ]
    if as_json:
        say_json([{k: row[k] for k in ("input", "class", "probability")} for row in rows])
    else:
        columns = [
            Column("input", "input"),
            Column("class", "class"),
            Column("probability", "p", "{:.2f}".format, right=True),
            Column("then", ""),
        ]
        Console().print(table(rows, columns), soft_wrap=True)
    if skipped:
        typer.echo(f"{skipped} unreadable input{'s' * (skipped > 1)} skipped", err=True)


def _runner_up(name: str, probability: float) -> str:
    """The second class where it is worth a look."""
    return f"({name} {probability:.2f})" if probability >= 0.2 else ""
