"""`promptgraft convert`: a prompt for another language model, without labels."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from promptgraft.cli.arguments import Device, Json, Library, say_json

IMAGES = 100
"""Of the data's training images, those that are compared."""


def convert(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="A prompt folder, or a name or id in a library.")],
    to: Annotated[str, typer.Option("--to", metavar="BACKBONE", help="packs/NAME, hf/REPOSITORY or dir:FOLDER.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The new prompt's folder; new, or empty.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="BACKBONE",
            help="The model that the prompt was tuned on; by default the one that its card names.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(help="'relative', or a baseline: 'copy', 'discretization', 'neural-projector'.")
    ] = "relative",
    top_k: Annotated[
        int | None,
        typer.Option(help="Shared words that count for a row; 8192 by default.", show_default=False),
    ] = None,
    ridge: Annotated[
        float | None,
        typer.Option(help="For fewer shared words than dimensions, such as 0.1.", show_default=False),
    ] = None,
    keep_spread: Annotated[
        bool,
        typer.Option("--keep-spread", help="As spread against the target's words as it was against the source's."),
    ] = False,
    anchors: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="For vision models: images to compare them by, such as builtin/textile; no label is read.",
            show_default=False,
        ),
    ] = None,
    library: Library = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Carry a prompt to another model, without labels: by the words that both know, or by images that both see.

    Example: promptgraft convert text/newsgroups --to packs/minilm-l3 --out mine
    """
    from promptgraft.backbones.load import load_backbone
    from promptgraft.cli.run import command_line
    from promptgraft.files import check_output_folder
    from promptgraft.library import find_prompt
    from promptgraft.readme import printable
    from promptgraft.transfer.convert import convert as convert_prompt

    check_output_folder(out)
    found = find_prompt(prompt, library)
    made_on = found.card.backbone.name if source is None else source
    given: dict[str, Any] = {"top_k": top_k, "ridge": ridge, "keep_spread": keep_spread or None}
    options = {key: value for key, value in given.items() if value is not None}
    size = found.card.backbone.image_size
    converted = convert_prompt(
        found,
        source=load_backbone(made_on, pool=found.card.backbone.pool, image_size=size, device=device),
        target=load_backbone(to, device=device),
        anchors=None if anchors is None else _images(anchors),
        method=method,
        command=command_line(),
        **options,
    )
    converted.save(out)
    card, facts = converted.card, converted.card.prompt.init_args
    if as_json:
        say_json({"out": str(out), "id": converted.id, "method": method, **facts})
        return
    rows = f"{card.prompt.length} rows"
    typer.echo(printable(f"{found.card.name}: {rows}, {made_on} ({found.card.prompt.dim}-d)"))
    typer.echo(printable(f"{card.name}: {rows}, {card.backbone.name} ({card.prompt.dim}-d)"))
    for key, value in facts.items():
        if isinstance(value, dict):
            typer.echo(f"{key.replace('_', ' ')} {value['mean']:.3f} (lowest row {value['lowest']:.3f})")
        elif isinstance(value, float | int) and key in ("anchors", "neighbour_agreement", "held_out_r2"):
            typer.echo(f"{key.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{key} {value}")
        elif key == "words":
            typer.echo(printable(f"words {' '.join(value)}"))
    arguments = f"{shlex.quote(str(out))} DATA --backbone {shlex.quote(to)}"
    typer.echo(f"wrote {out}     next: promptgraft transfer {arguments} --method frozen --out DIR")


def _images(data: str) -> list[Any]:
    from promptgraft.tasks.load import load_task

    inputs = load_task(data).train.inputs
    return [inputs[i] for i in range(min(IMAGES, len(inputs)))]
