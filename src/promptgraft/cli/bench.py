"""`promptgraft bench`: how fast the exact shortcuts are here, and how far estimators agree with measured transfer."""

import json
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from promptgraft.bench.base import BENCHES, Row, Size
from promptgraft.cli.arguments import Json
from promptgraft.errors import InputError

ESTIMATORS = "estimators"


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help=f"{', '.join(BENCHES)}; all of these by default. Or {ESTIMATORS}.", show_default=False
        ),
    ] = None,
    size: Annotated[str, typer.Option(help="'pocket', or 'smoke' to see only that it runs.")] = "pocket",
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Of 'estimators': published prompts and accuracies.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Time promptgraft's exact shortcuts against the loops that they replace, in turns, on this machine's CPU.

    'ratio' is how many times faster; 'error' the largest difference of the results, relative to the largest value.

    The name 'estimators' times nothing: it ranks the prompts of DIR by every estimator that needs prompts only, and
    prints how far that agrees with the accuracies in its transfer_accuracy.tsv.

    Example: promptgraft bench deep-prompt
    """
    from promptgraft.progress import progress_bar

    if ESTIMATORS in (names or []):
        if set(names or []) != {ESTIMATORS}:
            raise InputError(f"'{ESTIMATORS}' prints a table of its own. Name it alone.")
        _estimators(data, as_json)
        return
    if data is not None:
        raise InputError(f"--data {data} is for `promptgraft bench {ESTIMATORS}`. Leave it out.")
    if size not in get_args(Size):
        raise InputError(f"size {size!r} is not known. Choose one of: {', '.join(get_args(Size))}.")
    chosen = [(name, BENCHES[name]) for name in dict.fromkeys(names or BENCHES)]
    rows: list[Row] = []
    with progress_bar("benches", len(chosen), "bench") as bar:
        for name, run in chosen:
            bar.note(name)
            rows += run(cast(Size, size))
            bar.advance()
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _print(rows)


def _print(rows: list[Row]) -> None:
    import platform
    from dataclasses import asdict

    import torch
    from rich.console import Console

    from promptgraft.report.tables import Column, table

    columns = [
        Column("name", "bench"),
        Column("baseline", "baseline"),
        Column("baseline_seconds", "baseline s", "{:.3g}".format, right=True),
        Column("seconds", "seconds", "{:.3g}".format, right=True),
        Column("ratio", "ratio", "{:.2f}".format, right=True),
        Column("error", "error", "{:.0e}".format, right=True),
    ]
    Console(highlight=False).print(table([asdict(row) for row in rows], columns), soft_wrap=True)
    for row in rows:
        typer.echo(f"{row.name}: {row.note}")
    threads = torch.get_num_threads()
    typer.echo(f"torch {torch.__version__}, {threads} thread{'' if threads == 1 else 's'}, {platform.machine()}")
    typer.echo("next: promptgraft adapt DATA --out DIR")


def _estimators(data: Path | None, as_json: bool) -> None:
    from dataclasses import asdict

    from rich.console import Console

    from promptgraft.bench.estimators import agreements, default_folder, read_measured
    from promptgraft.progress import progress_bar
    from promptgraft.report.tables import Column, table

    folder = data or default_folder()
    models = read_measured(folder)
    rows = []
    with progress_bar("models", len(models), "model") as bar:
        for measured in models:
            rows += [asdict(row) for row in agreements(measured, bar.note)]
            bar.advance()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        row["interval"] = None if row["low"] is None else f"{row['low']:.1f} to {row['high']:.1f}"
    columns = [
        Column("model", "model"),
        Column("estimator", "estimator"),
        Column("spearman", "spearman", "{:.1f}".format, right=True),
        Column("interval", "95 % interval", right=True),
        Column("kendall", "kendall", "{:.1f}".format, right=True),
        Column("targets", "targets", right=True),
    ]
    Console(highlight=False).print(table(rows, columns), soft_wrap=True)
    typer.echo("means over targets, x 100, a target's own prompt left out     next: promptgraft rank DATA")
