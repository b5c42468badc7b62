"""`promptgraft adapt`: the main job."""

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from promptgraft.cli.arguments import (
    Backbone,
    Data,
    Device,
    Dtype,
    Epochs,
    ImageSize,
    Json,
    Out,
    Recipe,
    Seed,
    TestSize,
    TrainSize,
    ValSize,
    open_data,
    say_json,
)
from promptgraft.errors import InputError


def adapt(
    data: Data,
    out: Out,
    budget: Annotated[
        str | None,
        typer.Option(help="Time for the whole run, such as 90s, 5m or 1h; no limit by default.", show_default=False),
    ] = None,
    backbone: Backbone = None,
    image_size: ImageSize = None,
    library: Annotated[
        str, typer.Option(metavar="DIR", help="Prompts to transfer: a folder, 'user' or 'starter'.")
    ] = "starter",
    top: Annotated[int, typer.Option(help="How many prompts of the library are tried.")] = 3,
    prompt_length: Annotated[int, typer.Option(help="Rows of a new prompt in each layer.")] = 10,
    recipe: Recipe = "short",
    epochs: Epochs = None,
    balanced: Annotated[bool, typer.Option("--balanced", help="Let every class weigh the same in training.")] = False,
    seed: Seed = 0,
    n_train: TrainSize = None,
    n_val: ValSize = None,
    n_test: TestSize = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out files that cannot be read.")] = False,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Adapt a frozen backbone to labelled data: race the candidates, keep the best, say how sure that is.

    On a CPU images are 112 pixels wide unless --image-size says otherwise. If it is stopped, the same command goes on.

    Example: promptgraft adapt builtin/orl-faces --budget 2m --out faces
    """
    from promptgraft.adapt.run import adapt as run
    from promptgraft.cli.run import announce, command_line
    from promptgraft.files import check_output_folder
    from promptgraft.library import open_library, starter
    from promptgraft.readme import printable
    from promptgraft.tuning.recipes import resolve_recipe

    check_output_folder(out)
    seconds = None if budget is None else parse_budget(budget)
    chosen = resolve_recipe(recipe, epochs=epochs, class_balanced=balanced or None)
    prompts = starter() if library == "starter" else open_library(library)
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
        skip_bad=skip_bad,
    )

    def say(line: str) -> None:
        if not as_json:
            typer.echo(printable(line))

    if not as_json:
        announce(task, model)
    outcome = run(
        task,
        model,
        prompts,
        out,
        recipe=chosen,
        prompt_length=prompt_length,
        top=top,
        seed=seed,
        budget=seconds,
        command=command_line(),
        say=say,
    )
    if as_json:
        say_json(outcome.result, indent=2)
        return
    show(outcome.result, out)


def show(result: dict[str, object], out: Path) -> None:
    """Print the table of candidates, the verdict, the test accuracy, and what to do next."""
    from rich.console import Console

    from promptgraft.card import Score
    from promptgraft.files import path_text
    from promptgraft.readme import printable
    from promptgraft.report.tables import candidates_table
    from promptgraft.report.wording import ensemble, method_name, new_inputs

    console = Console()
    candidates, test = result["candidates"], Score.model_validate(result["test_accuracy"])
    assert isinstance(candidates, list)
    console.print()
    console.print(candidates_table(candidates), soft_wrap=True)
    console.print()
    for candidate in candidates:
        if together := ensemble(candidate):
            typer.echo(printable(f"{together}."))
        if candidate["status"] == "failed":
            source = f" of {candidate['source']}" if candidate["source"] else ""
            typer.echo(printable(f"{method_name(candidate)}{source} failed: {candidate['reason']}"))
    typer.echo(printable(result["verdict"]))
    examples = f"{test.n} example{'s' * (test.n > 1)}"
    typer.echo(f"test accuracy {test.value:.3f} ({test.low:.3f} to {test.high:.3f}), measured once on {examples}.")
    task = result["task"]
    assert isinstance(task, dict)
    folder, new = shlex.quote(path_text(out)), new_inputs(task["modality"])
    typer.echo(
        f"wrote {folder} (adapted model, result.json, report.html)     next: promptgraft predict {folder} {new}"
    )


def parse_budget(text: str) -> float:
    """Seconds in a text such as `90s`, `5m` or `1h`.

    Raises:
        InputError: not a positive time.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if seconds <= 0:
        raise InputError(f"--budget {text!r} is not a time. Write it like 90s, 5m or 1h.")
    return seconds
