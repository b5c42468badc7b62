"""`promptgraft export`: an adapted model as one file for a server."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from promptgraft.cli.arguments import Json, say_json
from promptgraft.errors import InputError

if TYPE_CHECKING:
    from promptgraft.serving.classifier import Inputs


def export(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `promptgraft adapt` or `tune` wrote.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file, new: .onnx, or .pt2 of torch-export.")],
    format: Annotated[
        str, typer.Option(metavar="NAME", help="'onnx', or 'torch-export' in place of the deprecated TorchScript.")
    ] = "onnx",
    uint8: Annotated[
        bool, typer.Option("--uint8", help="Take images as (N, H, W, 3) uint8 and normalise them inside.")
    ] = False,
    inputs_embeds: Annotated[
        bool, typer.Option("--inputs-embeds", help="Take word vectors (N, T, D) in place of token ids.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write an adapted model, prompt or edit and head included, as one file that runs without promptgraft.

    Example: promptgraft export faces --out faces.onnx
    """
    from promptgraft.readme import printable
    from promptgraft.serving.export import export as export_model
    from promptgraft.tuning.adapted import load_adapted

    if uint8 and inputs_embeds:
        raise InputError("--uint8 is of images and --inputs-embeds of texts. Give one of them.")
    inputs: Inputs | None = "uint8" if uint8 else "embeds" if inputs_embeds else None
    made = export_model(load_adapted(model), out, format=format, inputs=inputs)
    if as_json:
        facts = {"out": str(made.path), "format": made.format, "bytes": made.bytes, "difference": made.difference}
        say_json(facts | {"inputs": [str(port) for port in made.inputs]})
        return
    for port in made.inputs:
        typer.echo(f"takes {port}")
    typer.echo("gives logits, probabilities (batch, classes) float32")
    if made.difference is None:
        typer.echo("not compared with the original: pip install onnxruntime, or 'promptgraft[onnx]'")
    else:
        typer.echo(f"compared with the original: largest difference {made.difference:.1g}")
    typer.echo(printable(f"wrote {made.path}, {made.bytes / 1e6:.1f} MB     next: serve it as docs/serving.md shows"))
