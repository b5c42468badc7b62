"""`promptgraft tune`: adapt a backbone by a method that needs no prompt trained elsewhere."""

from typing import TYPE_CHECKING, Annotated, cast

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
    Test,
    TestSize,
    TrainSize,
    ValSize,
    open_data,
)

if TYPE_CHECKING:
    from promptgraft.tuning.method import Layers


def tune(
    data: Data,
    out: Out,
    method: Annotated[
        str, typer.Option(help="'vpt', 'spt', 'linear', or a control of transfers: 'random', 'random-projection'.")
    ] = "vpt",
    prompt_length: Annotated[int, typer.Option(help="Rows of the prompt in each layer.")] = 10,
    layers: Annotated[str, typer.Option(help="'deep' or 'shallow'.")] = "deep",
    backbone: Backbone = None,
    image_size: ImageSize = None,
    recipe: Recipe = "short",
    epochs: Epochs = None,
    seed: Seed = 0,
    n_train: TrainSize = None,
    n_val: ValSize = None,
    n_test: TestSize = None,
    name: Annotated[str | None, typer.Option(help="Of the prompt, in its card.", show_default=False)] = None,
    licence: Annotated[str, typer.Option(help="Under which the prompt may be used.")] = "unspecified",
    test: Test = False,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Tune a prompt from scratch, or a linear probe; if it is stopped, the same command goes on.

    Example: promptgraft tune builtin/orl-faces --image-size 56 --out orl
    """
    from promptgraft.cli.run import announce, command_line, conclude, resumable
    from promptgraft.files import check_output_folder
    from promptgraft.tuning.tune import tune as tune_prompt

    check_output_folder(out)
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
    if not as_json:
        announce(task, model)
    with resumable(task, model, method, prompt_length, layers, seed, recipe, epochs) as checkpoint:
        adapted = tune_prompt(
            model,
            task,
            method=method,
            prompt_length=prompt_length,
            layers=cast("Layers", layers),
            seed=seed,
            recipe=recipe,
            epochs=epochs,
            checkpoint=checkpoint,
            name=name,
            licence=licence,
            command=command_line(),
        )
        conclude(adapted, task, out, test=test, as_json=as_json)
