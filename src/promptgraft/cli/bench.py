"""`promptgraft bench`: how much faster the exact shortcuts are here, and how far their results differ."""

import json
from typing import Annotated, cast, get_args

import typer

from promptgraft.bench.base import BENCHES, Row, Size
from promptgraft.cli.arguments import Json
from promptgraft.errors import InputError


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help=f"{', '.join(BENCHES)}; all by default.", show_default=False),
    ] = None,
    size: Annotated[str, typer.Option(help="'pocket', or 'smoke' to see only that it runs.")] = "pocket",
    as_json: Json = False,
) -> None:
    """Time promptgraft's exact shortcuts against the loops that they replace, in turns, on this machine's CPU.

    'ratio' is how many times faster; 'error' the largest difference of the results, relative to the largest value.

    Example: promptgraft bench deep-prompt
    """
    from promptgraft.progress import progress_bar

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
