"""How a command that trains begins, goes on after a stop, and ends."""

import contextlib
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from promptgraft.cli.arguments import say_json
from promptgraft.files import atomic_folder, cache_root, content_key, path_text
from promptgraft.readme import printable
from promptgraft.report.wording import new_inputs
from promptgraft.version import __version__

if TYPE_CHECKING:
    from promptgraft.backbones.transformer import TransformerBackbone
    from promptgraft.tasks.base import Task
    from promptgraft.tuning.adapted import Adapted


def announce(task: "Task", backbone: "TransformerBackbone") -> None:
    """Print one line on the data and one on the frozen model."""
    info = backbone.info
    pixels = "" if info.image_size is None else f", {info.image_size} px"
    typer.echo(printable(task.describe()))
    typer.echo(printable(f"backbone {info.name} ({info.dim}-d, {info.depth} layers{pixels})"))


def command_line() -> str:
    """What the user typed, as it can be pasted."""
    return shlex.join(["promptgraft", *map(path_text, sys.argv[1:])])


@contextlib.contextmanager
def resumable(task: "Task", backbone: "TransformerBackbone", *settings: Any) -> Iterator[Path]:
    """Yield the checkpoint file in the cache of the run with these settings.

    When the block succeeds it is removed, with what stands beside it under the same name and another ending.
    """
    run = content_key(
        __version__, task.fingerprint, backbone.info.model_dump(mode="json"), str(backbone.dtype), settings
    )
    path = cache_root() / "runs" / f"{run}.safetensors"
    yield path
    for left in path.parent.glob(f"{run}.*"):
        left.unlink(missing_ok=True)


def conclude(
    adapted: "Adapted",
    task: "Task",
    out: Path,
    *,
    test: bool,
    as_json: bool,
    beside: Mapping[str, str] | None = None,
) -> None:
    """Save a classifier, and print what it reached and the next command.

    Args:
        adapted: the classifier, with its validation accuracy.
        task: what it was made for.
        out: the folder to write.
        test: also measure the accuracy on the test split.
        as_json: print one JSON object instead of lines.
        beside: contents of further files of the folder, by name.
    """
    if test:
        adapted = adapted.with_score("test", adapted.evaluate(task.test))
    with atomic_folder(out) as folder:
        adapted.write_into(folder)
        for name, content in (beside or {}).items():
            (folder / name).write_text(content, encoding="utf-8")
    info, scores = adapted.info, adapted.info.training.scores
    if as_json:
        facts = {"out": str(out), "method": info.method, "layers": info.layers, "source": info.source}
        accuracies = {f"{split}_accuracy": score.model_dump() for split, score in scores.items()}
        say_json(facts | accuracies | {"seconds": info.training.seconds}, indent=2)
        return
    for split, score in scores.items():
        interval = f"95 % interval {score.low:.3f} to {score.high:.3f}, n = {score.n}"
        typer.echo(f"{split} accuracy {score.value:.3f} ({interval})")
    named = f" with {' and '.join(beside)}" if beside else ""
    new = new_inputs(info.task.modality)
    typer.echo(f"wrote {out}{named}     next: promptgraft predict {shlex.quote(str(out))} {new}")
