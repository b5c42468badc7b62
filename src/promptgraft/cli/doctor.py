"""`promptgraft doctor`: look for what is wrong before time is spent on it."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptgraft.cli.arguments import Json, Library, say_json

if TYPE_CHECKING:
    from promptgraft.card import Score
    from promptgraft.doctor.prompt import RowWords
    from promptgraft.prompt import SoftPrompt
    from promptgraft.tasks.findings import Diagnosis, Finding

_LINES = 25
"""Of a learning curve; of a longer one every second, third, ... epoch is shown, and all by --json."""

app = typer.Typer(no_args_is_help=True, help="Look for what is wrong, before time is spent on it.")


@app.command()
def data(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Class folders, a table of texts or a folder of such, a task of VTAB-1k or a folder of these, a data "
            "set of FGVC.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Check labelled data: counts, classes, missing, broken, equal and odd examples, copies known to be bad.

    Exits with 1 where an error stands: the other commands would refuse the data as it is.

    Example: promptgraft doctor data photos/
    """
    from dataclasses import asdict

    from promptgraft.tasks.diagnosis import diagnose

    found = diagnose(path)
    if as_json:
        say_json({"usable": found.usable, **asdict(found)}, indent=2)
    else:
        _print(found)
    if not found.usable:
        raise typer.Exit(1)


@app.command()
def prompt(
    name: Annotated[str, typer.Argument(metavar="PROMPT", help="A prompt folder, or a name or id in a library.")],
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            metavar="NAME",
            help="A language model to name the rows' nearest words of; by default the card's, if it is cached.",
            show_default=False,
        ),
    ] = None,
    library: Library = None,
    as_json: Json = False,
) -> None:
    """Check a prompt: faint, loud and equal rows, how far it moved, its scores beside the head's, where it fits.

    Example: promptgraft doctor prompt text/newsgroups
    """
    from promptgraft.doctor.prompt import check_prompt, known_start
    from promptgraft.library import find_prompt
    from promptgraft.readme import printable

    given = find_prompt(name, library)
    found = check_prompt(given, start=known_start(given.card, library), words=_words(given, backbone))
    if as_json:
        _dump(found)
        return
    typer.echo(printable(f"{found.name} ({found.id[:8]}): {' x '.join(map(str, found.shape))}"))
    _table(
        [vars(layer) for layer in found.layers],
        [("layer", "layer", "{}"), ("norm", "mean norm", "{:.3g}"), ("lowest", "lowest", "{:.3g}")],
        [("highest", "highest", "{:.3g}"), ("cosine", "cosine of rows", "{:.2f}"), ("drift", "moved by", "{:.0%}")],
    )
    for row in found.words:
        near = ", ".join(f"{word} {cosine:.2f}" for word, cosine in zip(row.words, row.cosines, strict=True))
        typer.echo(printable(f"row {row.row}: {near}"))
    _print_scores(found.scores)
    typer.echo(f"fits {', '.join(found.fits) or 'none of the packs that were loaded here'}")
    if found.projectable:
        typer.echo(f"by --method projection also {', '.join(found.projectable)}")
    if found.unread:
        typer.echo(f"not known of {', '.join(found.unread)}: never loaded here")
    _print_findings(found.findings)


@app.command()
def run(
    model: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that `promptgraft adapt`, `tune` or `transfer` wrote.")
    ],
    library: Library = None,
    as_json: Json = False,
) -> None:
    """Check a finished run that learned little: its learning curve, its scores, how far its prompt moved.

    Exits with 1 where an error stands: the model answers the same to everything.

    Example: promptgraft doctor run birds
    """
    from promptgraft.doctor.run import check_run
    from promptgraft.readme import printable

    found = check_run(model, library=library)
    if as_json:
        _dump(found)
    else:
        moved = "" if found.drift is None else f", prompt moved by {found.drift:.0%} of its start"
        typer.echo(printable(f"{found.task}: {found.method}, {found.epochs} epochs{moved}"))
        _print_scores(found.scores)
        if found.curve:
            typer.echo(printable(f"learning curve of {found.curve_of}, epoch {found.best_epoch} kept"))
            every = -(-len(found.curve) // _LINES)
            marked = {found.best_epoch, found.curve[-1].epoch}
            _table(
                [vars(line) for line in found.curve if line.epoch % every == 0 or line.epoch in marked],
                [("epoch", "epoch", "{}"), ("train_loss", "train loss", "{:.3g}")],
                [("val_loss", "val loss", "{:.3g}"), ("val_accuracy", "val accuracy", "{:.3f}")],
            )
        _print_findings(found.findings)
    if any(finding.severity == "error" for finding in found.findings):
        raise typer.Exit(1)


@app.command()
def environment(as_json: Json = False) -> None:
    """Check the installation: versions, PyTorch's build, bfloat16, torchvision, cache, disk, network switches.

    Exits with 1 where an error stands.

    Example: promptgraft doctor environment
    """
    from promptgraft.doctor.environment import check_environment
    from promptgraft.readme import printable

    found = check_environment()
    if as_json:
        _dump(found)
    else:
        typer.echo(f"Python {found.python}, torch {found.torch} ({found.build}), {found.threads} threads")
        for place in found.accelerators:
            typer.echo(printable(f"{place.device}: {place.name}, bfloat16 {'yes' if place.bfloat16 else 'no'}"))
        for extra in dict.fromkeys(package.extra for package in found.packages):
            own = [package for package in found.packages if package.extra == extra]
            named = ", ".join(f"{package.name} {package.installed or '-'}" for package in own)
            typer.echo(f"{extra or 'core'}: {named}")
        typer.echo(f"torchvision: {found.torchvision or 'not installed, and not needed'}")
        kinds = ", ".join(f"{kind} {size / 1e6:,.0f} MB" for kind, size in found.cache.items()) or "empty"
        typer.echo(printable(f"cache {found.cache_folder}: {kinds}; {found.free / 1e9:,.0f} GB free"))
        typer.echo(f"packs at hand: {', '.join(found.packs) or 'none'}")
        _print_findings(found.findings)
    if any(finding.severity == "error" for finding in found.findings):
        raise typer.Exit(1)


def _words(prompt: "SoftPrompt", backbone: str | None) -> "list[RowWords]":
    """The nearest words, where a language model is named, or the card's can be loaded without the network."""
    from promptgraft.backbones.load import load_backbone
    from promptgraft.backbones.packed import packed_shapes
    from promptgraft.doctor.prompt import nearest_words
    from promptgraft.errors import PromptgraftError

    card = prompt.card
    if backbone is not None:
        return nearest_words(prompt, load_backbone(backbone))
    if card.backbone.modality != "text" or card.prompt.layers > 1 or packed_shapes().get(card.backbone.name) is None:
        return []
    try:
        return nearest_words(prompt, load_backbone(card.backbone.name))
    except PromptgraftError:  # a prompt of a card that says too little
        return []


def _dump(found: Any) -> None:
    from dataclasses import asdict

    def plain(value: Any) -> Any:
        return value.model_dump(mode="json")  # a score

    say_json(asdict(found), indent=2, default=plain)


def _table(rows: list[dict[str, Any]], *columns: list[tuple[str, str, str]]) -> None:
    from rich.console import Console

    from promptgraft.report.tables import Column, table

    shown = [Column(key, title, write.format, right=True) for part in columns for key, title, write in part]
    Console(highlight=False).print(table(rows, shown), soft_wrap=True)


def _print_scores(scores: "dict[str, Score]") -> None:
    for split, score in scores.items():
        typer.echo(f"{split} {score.value:.3f} (95 % interval {score.low:.3f} to {score.high:.3f}, n = {score.n})")


def _print_findings(findings: "Iterable[Finding]") -> None:
    from promptgraft.readme import printable

    said = [printable(f"{finding.severity}: {finding.what}. {finding.cure}".rstrip()) for finding in findings]
    for line in said or ["nothing found"]:
        typer.echo(line)


def _print(found: "Diagnosis") -> None:
    from dataclasses import asdict

    from rich.console import Console

    from promptgraft.report.tables import Column, table

    parts = found.parts or (found,)
    rows = [{"task": Path(part.path).name, **asdict(size)} for part in parts for size in part.splits]
    columns = [
        *([Column("task", "task")] if found.parts else []),
        Column("split", "split"),
        Column("examples", "examples", "{:,}".format, right=True),
        Column("classes", "classes", "{:,}".format, right=True),
        Column("smallest", "fewest of a class", "{:,}".format, right=True),
        Column("median", "median", "{:,.10g}".format, right=True),
        Column("largest", "most", "{:,}".format, right=True),
    ]
    if rows:
        Console(highlight=False).print(table(rows, columns), soft_wrap=True)
    for line in _lines(found):
        typer.echo(line)
    if found.usable:  # of a folder of tasks, one is adapted to at a time
        typer.echo(f"usable     next: promptgraft adapt {shlex.quote(parts[0].path)} --out DIR")
    else:
        typer.echo("not usable as it is     next: see to the errors, then run the same command")


def _lines(found: "Diagnosis") -> list[str]:
    """A line for each finding, with the task that it is about where there are several."""
    own = [f"{finding.severity}: {finding.what}. {finding.cure}".rstrip() for finding in found.findings]
    return own + [f"{Path(part.path).name}: {line}" for part in found.parts for line in _lines(part)]
