"""`promptgraft study`: plan, run, resume and report a study of many trials."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptgraft.cli.arguments import Device, Json, say_json
from promptgraft.errors import InputError

if TYPE_CHECKING:
    from promptgraft.study.plan import Plan
    from promptgraft.study.store import Store

app = typer.Typer(no_args_is_help=True, help="Studies of many trials: one YAML file, resumable, with a report.")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The study's folder, which holds study.yaml.")]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="PROMPTGRAFT_STORE",
        help="A PostgreSQL database, such as postgresql+psycopg://host/name; by default DIR/study.sqlite.",
        show_default=False,
    ),
]
Where = Annotated[
    str,
    typer.Option(
        "--on",
        metavar="ENGINE",
        help="'inline', 'processes', 'ray' (starts a local one), or ray://HOST:PORT to join a cluster.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, help="Trials at a time; by default as many as there is room for.", show_default=False),
]
Gpus = Annotated[
    float, typer.Option("--gpus-per-trial", min=0.0, help="Share of a GPU that a trial takes, such as 0.25 (Ray).")
]
Track = Annotated[
    list[str] | None, typer.Option(help="'tensorboard' or 'mlflow': also show every result there.", show_default=False)
]


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="A ready study, such as 'baselines'.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    size: Annotated[str, typer.Option(help="'smoke' (minutes), 'pocket' (hours on 2 cores) or 'paper'.")] = "pocket",
) -> None:
    """Make the folder of a ready study: its study.yaml, to be read and changed.

    Example: promptgraft study init baselines --size smoke s
    """
    from promptgraft.study.ready import init_study

    typer.echo(f"wrote {init_study(name, size, folder)}     next: promptgraft study plan {_quoted(folder)}")


@app.command()
def plan(
    folder: Folder,
    store: StoreUrl = None,
    device: Device = "cpu",
    jobs: Jobs = None,
    probe: Annotated[bool, typer.Option("--probe/--no-probe", help="Estimate time, memory and disk.")] = True,
    as_json: Json = False,
) -> None:
    """Print the trials of a study, what is done, and what the rest will cost on this machine.

    Example: promptgraft study plan s
    """
    from promptgraft.readme import printable
    from promptgraft.study.folder import open_existing

    planned, opened = _planned(folder), open_existing(folder, store)
    states = dict.fromkeys((trial.key for trial in planned.trials), "pending")
    done = {} if opened is None else {r.key: r.measured or {} for r in opened.records(state="done", curves=False)}
    known = set() if opened is None else opened.known(list(states))
    rows: list[dict[str, Any]] = []
    disk = None
    if probe:
        from dataclasses import asdict

        from promptgraft.study.estimate import Estimator

        estimator = Estimator(planned.spec.threads, device)
        rows = [asdict(cost) | {"left": cost.left} for cost in estimator.costs(planned, done)]
        disk = estimator.disk(planned)
    else:
        rows = _counted(planned, known)
    if as_json:
        say_json({"trials": len(states), "done": len(known), "costs": rows, "disk": disk}, indent=2)
        return
    _print_plan(planned, rows, len(known), disk, jobs)
    for reason in planned.left_out:
        typer.echo(printable(f"left out: {reason}"))
    typer.echo(f"next: promptgraft study run {_quoted(folder)}")


@app.command()
def run(
    folder: Folder,
    on: Where = "inline",
    jobs: Jobs = None,
    device: Device = "cpu",
    gpus: Gpus = 0.0,
    store: StoreUrl = None,
    track: Track = None,
    trial: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", help="Only run this trial again and compare it with what is stored.", show_default=False
        ),
    ] = None,
) -> None:
    """Run what is missing of a study. If it is stopped or killed, the same command goes on.

    Example: promptgraft study run s --on processes
    """
    if trial is not None:
        _again(folder, store, trial, device)
        return
    _run(folder, on, jobs, device, gpus, store, track or [])


@app.command()
def resume(
    folder: Folder,
    on: Where = "inline",
    jobs: Jobs = None,
    device: Device = "cpu",
    gpus: Gpus = 0.0,
    store: StoreUrl = None,
    track: Track = None,
) -> None:
    """Go on with a study that was started before.

    Example: promptgraft study resume s
    """
    _opened(folder, store).close()
    _run(folder, on, jobs, device, gpus, store, track or [])


@app.command()
def status(
    folder: Folder,
    store: StoreUrl = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every second until all is done.")] = False,
    as_json: Json = False,
) -> None:
    """Show how far a study is, what runs, and what failed.

    Example: promptgraft study status s --watch
    """
    from promptgraft.study.status import look, show

    opened = _opened(folder, store)
    if as_json:
        say_json(look(opened), indent=2)
    elif watch:
        from promptgraft.study.status import follow

        follow(opened)
    else:
        show(look(opened))
        typer.echo(f"next: promptgraft study report {_quoted(folder)}")


@app.command()
def retry(
    folder: Folder,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="KEY", help="Only these trials.", show_default=False)
    ] = None,
    running: Annotated[
        bool,
        typer.Option("--running", help="Also free trials whose driver was lost on another machine, or is stuck."),
    ] = False,
    store: StoreUrl = None,
) -> None:
    """Put failed trials back to be run again.

    Example: promptgraft study retry s
    """
    opened = _opened(folder, store)
    if keys:
        chosen = [opened.record(key) for key in keys]
    else:
        chosen = opened.records(state="failed", curves=False)
        chosen += opened.records(state="running", curves=False) if running else []
    opened.redo([record.key for record in chosen])
    typer.echo(f"{len(chosen)} trials will run again     next: promptgraft study resume {_quoted(folder)}")


@app.command()
def add(
    folder: Folder,
    target: Annotated[list[str] | None, typer.Option(help="builtin/NAME or a path.", show_default=False)] = None,
    method: Annotated[list[str] | None, typer.Option(help="Such as spt, or vpt:shallow.", show_default=False)] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="A prompt of the library, or a task to tune one on.", show_default=False)
    ] = None,
    estimator: Annotated[list[str] | None, typer.Option(help="Such as gap.", show_default=False)] = None,
    backbone: Annotated[list[str] | None, typer.Option(help="Such as packs/vit-small.", show_default=False)] = None,
    seed: Annotated[list[str] | None, typer.Option(help="A whole number.", show_default=False)] = None,
) -> None:
    """Add targets, methods, sources, estimators, backbones or seeds to study.yaml; what is done stays done.

    Example: promptgraft study add s --target builtin/textile --seed 3
    """
    from promptgraft.study.document import add_to_document
    from promptgraft.study.folder import study_document

    asked = {"targets": target, "methods": method, "sources": source, "estimators": estimator}
    asked |= {"backbones": backbone, "seeds": seed}
    additions = {name: values for name, values in asked.items() if values}
    if not additions:
        raise InputError("nothing to add. Name a --target, --method, --source, --estimator, --backbone or --seed.")
    add_to_document(study_document(folder), additions)
    typer.echo(f"changed {folder / 'study.yaml'}     next: promptgraft study plan {_quoted(folder)}")


@app.command()
def report(folder: Folder, store: StoreUrl = None, as_json: Json = False) -> None:
    """Write report.html, tables.md and tables.tex from what is done so far.

    Example: promptgraft study report s
    """
    from promptgraft.report.study_page import write_study_report
    from promptgraft.study.summary import summarize

    summary = summarize(_opened(folder, store))
    written = write_study_report(summary, folder)
    if as_json:
        say_json(summary, indent=2)
        return
    from promptgraft.report.study_tables import markdown

    typer.echo(markdown(summary))
    figures = [path for path in written if path.parent.name == "figures"]
    drawn = f", and {len(figures)} heat maps in {figures[0].parent}" if figures else ""
    typer.echo(f"wrote {', '.join(str(path) for path in written if path not in figures)}{drawn}")


@app.command()
def export(
    folder: Folder,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .csv or .parquet file.")],
    store: StoreUrl = None,
) -> None:
    """Write one row per trial, for other programs.

    Example: promptgraft study export s trials.csv
    """
    from promptgraft.study.export import export_trials
    from promptgraft.study.summary import trial_row

    rows = [trial_row(record) for record in _opened(folder, store).records()]
    typer.echo(f"wrote {export_trials(rows, file)} ({len(rows)} trials)")


@app.command()
def evidence(
    folder: Folder,
    library: Annotated[
        str, typer.Option("--library", metavar="DIR", help="'user' or a folder; it is made where there is none.")
    ],
    licence: Annotated[
        str | None,
        typer.Option(help="Under which the tuned prompts may be used, for their cards.", show_default=False),
    ] = None,
    store: StoreUrl = None,
    as_json: Json = False,
) -> None:
    """Give a library the prompts that a study tuned and the transfers it measured: `rank` judges estimators by these.

    Example: promptgraft study evidence s --library prompts
    """
    import shlex

    from promptgraft.cli.library import writeable
    from promptgraft.measured import MEASURED_FILE
    from promptgraft.readme import printable
    from promptgraft.study.evidence import give_evidence

    place = writeable(library)
    given = give_evidence(_opened(folder, store), place, licence=licence)
    if as_json:
        transfers = [transfer.model_dump() for transfer in given.transfers]
        facts = {"added": given.added, "transfers": transfers, "left_out": given.left_out}
        say_json(facts, indent=2)
        return
    for reason in given.left_out:
        typer.echo(printable(f"left out: {reason}"))
    sources, targets = (len({getattr(t, name) for t in given.transfers}) for name in ("source_id", "target"))
    what = f"transfers of {sources} prompts to {targets} target{'s' * (targets != 1)}"
    typer.echo(f"{len(given.transfers)} {what}; {len(given.added)} prompts are new to the library")
    where = shlex.quote(library)
    typer.echo(f"wrote {place.folder / MEASURED_FILE}     next: promptgraft rank DATA --library {where}")


def _planned(folder: Path) -> "Plan":
    from promptgraft.study.document import read_spec
    from promptgraft.study.folder import study_document
    from promptgraft.study.plan import plan_study

    return plan_study(read_spec(study_document(folder)))


def _opened(folder: Path, url: str | None) -> "Store":
    from promptgraft.study.folder import open_started

    return open_started(folder, url)


def _run(folder: Path, on: str, jobs: int | None, device: str, gpus: float, url: str | None, track: list[str]) -> None:
    from promptgraft.study.session import run_folder

    summary = run_folder(folder, on=on, jobs=jobs, device=device, gpus=gpus, url=url, track=track)
    typer.echo(f"{summary.done} trials run, {summary.total} in the study")
    if summary.failed:
        typer.echo(f"{summary.failed} failed: promptgraft study status {_quoted(folder)} tells why")
    if summary.blocked:
        typer.echo(f"{summary.blocked} wait for trials that failed")
    typer.echo(f"next: promptgraft study report {_quoted(folder)}")
    if summary.failed or summary.blocked:
        raise typer.Exit(1)


def _again(folder: Path, url: str | None, key: str, device: str) -> None:
    """Run one trial anew beside the store, and say whether it gives what is stored."""
    from promptgraft.study.drive import run_again

    stored, anew = run_again(_planned(folder), _opened(folder, url), key, device)
    say_json({name: value for name, value in anew.result.items() if name != "curve"}, indent=2)
    if stored is None:
        typer.echo("the store has no result to compare with")
    else:
        same = dict(stored) == anew.result
        typer.echo("the same result as in the store" if same else "NOT the result that is in the store")
        if not same:
            raise typer.Exit(1)


def _counted(planned: "Plan", known: set[str]) -> list[dict[str, Any]]:
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for trial in planned.trials:
        what = trial.labels.get("method") or trial.labels["estimator"]
        row = rows.setdefault((trial.kind, what), {"kind": trial.kind, "what": what, "trials": 0, "done": 0})
        row["trials"] += 1
        row["done"] += trial.key in known
    return list(rows.values())


def _print_plan(planned: "Plan", rows: list[dict[str, Any]], done: int, disk: int | None, jobs: int | None) -> None:
    from rich.console import Console

    from promptgraft.report.tables import Column, table
    from promptgraft.report.wording import duration

    columns = [
        Column("kind", "kind"),
        Column("what", "what"),
        Column("trials", "trials", right=True),
        Column("done", "done", right=True),
    ]
    if disk is not None:
        columns += [
            Column("seconds", "seconds each", "{:.2g}".format, right=True),
            Column("left", "time left", duration, right=True),
            Column("memory", "memory", _bytes, right=True),
            Column("basis", "from"),
        ]
    typer.echo(f"study {planned.spec.study}: {len(planned.trials)} trials, {done} done")
    Console(highlight=False).print(table(rows, columns), soft_wrap=True)
    if disk is not None:
        left = sum(row["left"] for row in rows) / (jobs or 1)
        memory = max((row["memory"] or 0 for row in rows), default=0) * (jobs or 1)
        at_once = "one after another" if (jobs or 1) == 1 else f"{jobs} at a time"
        typer.echo(f"about {duration(left)} {at_once}, {_bytes(memory)} of memory, {_bytes(disk)} of cache on disk")


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _quoted(folder: Path) -> str:
    import shlex

    from promptgraft.files import path_text

    return shlex.quote(path_text(folder))
