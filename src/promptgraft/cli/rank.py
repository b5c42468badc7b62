"""`promptgraft rank`: which prompt would take, before any is tried."""

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
    say_json,
)

if TYPE_CHECKING:
    import pandas as pd
    from rich.text import Text


def rank(
    data: Data,
    library: Annotated[str, typer.Option(metavar="DIR", help="A folder, 'user' or 'starter'.")] = "starter",
    estimators: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Joined by commas; the first one orders the table. Default: leave-one-out,gap,norm,volume; for a "
            "shortlist without the first.",
            show_default=False,
        ),
    ] = None,
    shortlist: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Read only the N prompts whose sketches score best by the first estimator: for large libraries.",
            show_default=False,
        ),
    ] = None,
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
    'leave-one-out' runs the model on at most 1,000 training examples under each prompt; the other defaults do not.

    --shortlist is for large libraries; 'promptgraft library index' makes beforehand the sketches that it looks at.

    Example: promptgraft rank builtin/orl-faces --library starter
    """
    from rich.console import Console

    from promptgraft.adapt.plan import bridging_method
    from promptgraft.cli.run import announce
    from promptgraft.library import Entry, open_library
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
    names = None if estimators is None else [name.strip() for name in estimators.split(",")]
    table = ranking.rank(prompts, model, task, names, seed=seed, shortlist=shortlist)
    if as_json:
        say_json(_rows(table), indent=2)
        return
    announce(task, model)
    for part in _tables(table):
        Console(highlight=False).print(part, soft_wrap=True)
    for line in [*table.attrs["notes"], *_evidence(table), _seconds(table)]:
        typer.echo(printable(line))
    target, place = shlex.quote(data), shlex.quote(library)
    same = "" if backbone is None else f" --backbone {shlex.quote(backbone)}"
    same += "" if image_size is None else f" --image-size {image_size}"
    for name in dict.fromkeys(table["prompt"]):
        prompt = prompts[name]
        if method := bridging_method(Entry.of(name, prompt.id, prompt.card), model.info, task.modality):
            best = shlex.quote(printable(name))
            typer.echo(
                f"next: promptgraft transfer {best} {target} --method {method} --library {place}{same} --out DIR"
            )
            return
    typer.echo(f"none of these can be grafted onto this backbone     next: promptgraft adapt {target}{same} --out DIR")


def _rows(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """The rows as JSON can hold them, each with its estimator's evidence: a missing score is null."""
    rows = [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
    evidence = table.attrs["evidence"]
    return [
        {
            **row,
            "score": row["score"] if math.isfinite(row["score"]) else None,
            "evidence": evidence[row["estimator"]],
        }
        for row in rows
    ]


def _evidence(table: "pd.DataFrame") -> list[str]:
    from promptgraft.transferability.track_record import NONE, long_form

    evidence = table.attrs["evidence"]
    if not any(evidence.values()):
        return [f"{NONE}: a rank is a guess"]
    return [long_form(name, record) for name, record in evidence.items()]


def _seconds(table: "pd.DataFrame") -> str:
    once = table.drop_duplicates("estimator")
    return "seconds: " + ", ".join(f"{row.estimator} {row.seconds:.1f}" for row in once.itertuples())


def _tables(table: "pd.DataFrame") -> "list[Text]":
    """One line per prompt, in the order of the first estimator, with the score and rank that each gives.

    Where that takes more than 100 columns, ranks alone under headings that are broken at a hyphen; estimators that
    there is still no room for follow in a further table.
    """
    from promptgraft.report.tables import WIDTH, Column
    from promptgraft.report.tables import table as lay_out

    def pivot(cell: str) -> list[dict[str, str | None]]:
        lines: dict[str, dict[str, str | None]] = {}
        for row in _rows(table):
            shown = None if row["score"] is None else cell.format(**row)
            lines.setdefault(row["prompt"], {"prompt": row["prompt"]})[row["estimator"]] = shown
        return list(lines.values())

    def blocks(lines: list[dict[str, str | None]], headings: dict[str, list[str]]) -> list[list[str]]:
        """Estimators that fit beside one another, names of prompts uncut."""
        found: list[list[str]] = [[]]
        room = whole = WIDTH - 2 - max(len(line["prompt"] or "") for line in lines)
        for name, heading in headings.items():
            width = 3 + max(map(len, [*heading, *(line[name] or "-" for line in lines)]))
            if width > room and found[-1]:
                found.append([])
                room = whole
            found[-1].append(name)
            room -= width
        return found

    names = list(dict.fromkeys(table["estimator"]))
    lines, headings = pivot("{score:.4g}  #{rank}"), {name: [name] for name in names}
    if len(blocks(lines, headings)) > 1:
        lines, headings = pivot("{rank}"), {name: name.replace("-", "- ", 1).split() for name in names}
    tables = []
    for block in blocks(lines, headings):
        columns = [Column("prompt", "prompt"), *(Column(name, headings[name][0], right=True) for name in block)]
        below = {"prompt": "", **{name: "".join(headings[name][1:]) for name in block}}
        tables.append(lay_out([below, *lines] if any(below.values()) else lines, columns))
    return tables
