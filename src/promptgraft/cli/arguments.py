"""What commands on data have in common: their arguments, and the task and backbone that these name."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptgraft.errors import InputError

if TYPE_CHECKING:
    from promptgraft.backbones.transformer import TransformerBackbone
    from promptgraft.card import Pool
    from promptgraft.tasks.base import Task

DEFAULT_BACKBONES = {"vision": "packs/dinov2-small", "text": "packs/minilm-l6"}
SMALL = 112
"""Pixels of an image's side that a CPU can train on in minutes."""

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="builtin/NAME, a folder of class folders, or a .csv, .tsv or .jsonl file of texts."
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The adapted model's folder; new, or empty.")]
Backbone = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        metavar="NAME",
        help="packs/NAME, hf/REPOSITORY, timm/MODEL or dir:FOLDER; by default packs/dinov2-small for images and "
        "packs/minilm-l6 for texts.",
        show_default=False,
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Side of images in pixels; by default the model's own, on a CPU 112 at most.", show_default=False
    ),
]
MaxLength = Annotated[int | None, typer.Option(help="Tokens kept of a text; by default 128.", show_default=False)]
Seed = Annotated[int, typer.Option(help="Of the split of the data and of the training.")]
Recipe = Annotated[str, typer.Option(help="'short', or 'paper' for the settings of the method's paper.")]
Epochs = Annotated[int | None, typer.Option(help="Instead of the recipe's.", show_default=False)]
TrainSize = Annotated[
    int | None, typer.Option("--n-train", help="Training examples; all by default.", show_default=False)
]
ValSize = Annotated[
    int | None, typer.Option("--n-val", help="Validation examples; all by default.", show_default=False)
]
TestSize = Annotated[int | None, typer.Option("--n-test", help="Test examples; all by default.", show_default=False)]
Device = Annotated[str, typer.Option(help="'cpu', 'cuda', ...")]
Dtype = Annotated[str, typer.Option(help="'float32', 'bfloat16' or 'float64'.")]
Test = Annotated[bool, typer.Option("--test", help="Measure the test accuracy too; look once.")]
Library = Annotated[
    str | None,
    typer.Option(
        "--library",
        metavar="DIR",
        help="A folder, 'user' or 'starter'; by default your own, then the starter.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def say_json(value: Any, **options: Any) -> None:
    """Print JSON, with escapes in the place of characters that could steer a terminal or reorder a line."""
    text = json.dumps(value, ensure_ascii=False, **options)
    typer.echo(re.sub(r"[^\n -~]", lambda sign: sign[0] if sign[0].isprintable() else json.dumps(sign[0])[1:-1], text))


def open_data(
    data: str,
    backbone: str | None,
    *,
    image_size: int | None,
    max_length: int | None = None,
    device: str,
    dtype: str,
    pool: "Pool | None" = None,
    **options: Any,
) -> "tuple[Task, TransformerBackbone]":
    """The task and the frozen model that a command's arguments name.

    Args:
        data: what `load_task` takes as its source.
        backbone: what `load_backbone` takes; None for the default of the task's modality.
        image_size: pixels; only for images.
        max_length: tokens; only for texts.
        device: where the model runs.
        dtype: in what precision.
        pool: where features are read; None for the model's own way.
        **options: `n_train`, `n_val`, `n_test`, `seed` and `skip_bad` of `load_task`.

    Raises:
        InputError: names the argument that is of no use, and the cure.
    """
    from promptgraft.backbones.load import load_backbone
    from promptgraft.tasks.load import load_task

    task = load_task(data, **options)
    if image_size is not None and task.modality != "vision":
        raise InputError(f"--image-size {image_size} does not apply: {task.name} holds texts. Leave it out.")
    if max_length is not None and task.modality != "text":
        raise InputError(f"--max-length {max_length} does not apply: {task.name} holds images. Leave it out.")
    name = backbone or DEFAULT_BACKBONES[task.modality]
    length = 128 if max_length is None else max_length
    model = load_backbone(name, image_size=image_size, max_length=length, pool=pool, device=device, dtype=dtype)
    info = model.info
    if device == "cpu" and image_size is None and (info.image_size or 0) > SMALL and info.patch_size:
        side = max(SMALL // info.patch_size, 1) * info.patch_size
        model = load_backbone(name, image_size=side, pool=pool, device=device, dtype=dtype)
    return task, model
