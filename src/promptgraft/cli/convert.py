"""`promptgraft convert`: a prompt for another language model, without labels."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from promptgraft.cli.arguments import Device, Json, Library


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
    library: Library = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Carry a text prompt to another language model by the words that both know, without labels.

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
    options: dict[str, Any] = {key: value for key, value in (("top_k", top_k), ("ridge", ridge)) if value is not None}
    converted = convert_prompt(
        found,
        source=load_backbone(made_on, pool=found.card.backbone.pool, device=device),
        target=load_backbone(to, device=device),
        method=method,
        command=command_line(),
        **options,
    )
    converted.save(out)
    card, facts = converted.card, converted.card.prompt.init_args
    if as_json:
        typer.echo(json.dumps({"out": str(out), "id": converted.id, "method": method, **facts}, ensure_ascii=False))
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
