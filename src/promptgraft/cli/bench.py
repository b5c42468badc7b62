"""`promptgraft bench`: how fast the exact shortcuts are here, and how far estimators agree with measured transfer."""

import json
import time
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from promptgraft.bench.base import BENCHES, Row, Size
from promptgraft.cli.arguments import Json, say_json
from promptgraft.errors import InputError

ESTIMATORS = "estimators"
KEPT = 0.7
"""Share of a ratio that a bench must keep: on a busy machine ratios vary by a fifth."""


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help=f"{', '.join(BENCHES)}; all of these by default. Or {ESTIMATORS}.", show_default=False
        ),
    ] = None,
    size: Annotated[
        str, typer.Option(help="'pocket'; 'paper', larger and on a GPU where there is one; 'smoke', only to run.")
    ] = "pocket",
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What --json printed before: run its benches, fail where one lost much of its ratio.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Of 'estimators': published prompts and accuracies.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Time promptgraft's exact shortcuts against the loops that they replace, in turns, on this machine.

    'ratio' is how many times faster; 'error' the largest difference of the results, relative to the largest value
    (~ where the two do not compute the same); 'floors' the time in those that the operations need at this machine's
    own matrix rate; 'MB' the peak memory beyond what was held before.

    '--check FILE' compares ratios, not seconds, so that FILE may come from another machine of the kind.

    The name 'estimators' times nothing: it ranks the prompts of DIR by every estimator that needs prompts only, and
    prints how far that agrees with the accuracies in its transfer_accuracy.tsv.

    Example: promptgraft bench deep-prompt
    """
    from promptgraft.bench.circumstances import circumstances
    from promptgraft.progress import progress_bar

    if ESTIMATORS in (names or []):
        if set(names or []) != {ESTIMATORS}:
            raise InputError(f"'{ESTIMATORS}' prints a table of its own. Name it alone.")
        _estimators(data, as_json)
        return
    if data is not None:
        raise InputError(f"--data {data} is for `promptgraft bench {ESTIMATORS}`. Leave it out.")
    before = None if check is None else _read_rows(check, names)
    if size not in get_args(Size):
        raise InputError(f"size {size!r} is not known. Choose one of: {', '.join(get_args(Size))}.")
    chosen = [(name, BENCHES[name]) for name in dict.fromkeys(names or BENCHES)]
    if before is not None:
        chosen = [(name, run) for name, run in chosen if any(row["name"].startswith(name) for row in before)]
    rows: list[Row] = []
    where, started = circumstances(), time.perf_counter()
    with progress_bar("benches", len(chosen), "bench") as bar:
        for name, run in chosen:
            bar.note(name)
            rows += run(cast(Size, size))
            bar.advance()
    if as_json:
        from dataclasses import asdict

        say_json([asdict(row) | where for row in rows], indent=2)
    else:
        _print(rows, where, time.perf_counter() - started)
    if before is not None:
        _compare(rows, before, check)


def _print(rows: list[Row], where: dict[str, str], seconds: float) -> None:
    from dataclasses import asdict

    from rich.console import Console

    from promptgraft.report.tables import Column, table

    columns = [
        Column("name", "bench"),
        Column("baseline", "baseline"),
        Column("seconds", "seconds", "{:.3g}".format, right=True),
        Column("ratio", "ratio", "{:.2f}".format, right=True),
        Column("floors", "floors", "{:.1f}".format, right=True),
        Column("megabytes", "MB", "{:.0f}".format, right=True),
        Column("difference", "error", right=True),
    ]
    Console(highlight=False).print(table([asdict(row) | _derived(row) for row in rows], columns), soft_wrap=True)
    for row in rows:
        typer.echo(f"{row.name}: {row.note}")
    typer.echo(f"{seconds:.0f} s in all, {where['date']}, {where['machine']}")
    typer.echo(where["versions"])
    typer.echo("next: promptgraft adapt DATA --out DIR")


def _derived(row: Row) -> dict[str, float | str | None]:
    return {
        "floors": None if row.floor is None else row.seconds / row.floor,
        "difference": f"{'' if row.exact else '~'}{row.error:.0e}",
        "megabytes": None if row.memory is None else row.memory / 1e6,
    }


def _read_rows(path: Path, names: list[str] | None) -> list[dict[str, Any]]:
    """Rows that an earlier run printed."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        found: list[dict[str, Any]] = [{"name": str(row["name"]), "ratio": float(row["ratio"])} for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not what `promptgraft bench --json` prints: {error}. Make one with `--json`."
        ) from error
    chosen = [row for row in found if not names or any(row["name"].startswith(name) for name in names)]
    if not chosen:
        raise InputError(f"{path} holds no row of {', '.join(names or BENCHES)}. Name a bench that it holds.")
    return chosen


def _compare(rows: list[Row], before: list[dict[str, Any]], path: Path | None) -> None:
    """Say which ratios fell below 70 % of what they were, and fail if any did."""
    now = {row.name: row.ratio for row in rows}
    lost = [
        f"{row['name']}: ratio {now[row['name']]:.2f}, was {row['ratio']:.2f}"
        if row["name"] in now
        else f"{row['name']}: no such row any more"
        for row in before
        if now.get(row["name"], 0.0) < KEPT * row["ratio"]
    ]
    for line in lost:
        typer.echo(line, err=True)
    typer.echo(f"{len(before) - len(lost)} of {len(before)} rows of {path} kept {KEPT:.0%} of their ratio", err=True)
    if lost:
        raise typer.Exit(1)


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
        say_json(rows, indent=2)
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
