"""`promptgraft transfer`: adapt a backbone from a prompt that was trained elsewhere."""

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
    Library,
    Out,
    Recipe,
    Seed,
    Test,
    TestSize,
    TrainSize,
    ValSize,
    open_data,
)


def transfer(
    source: Annotated[str, typer.Argument(metavar="PROMPT", help="A prompt folder, or a name or id in a library.")],
    data: Data,
    out: Out,
    method: Annotated[
        str, typer.Option(help="'initial', 'frozen', 'projection', 'attention', or a control: 'random-matched'.")
    ] = "initial",
    library: Library = None,
    backbone: Backbone = None,
    image_size: ImageSize = None,
    recipe: Recipe = "short",
    epochs: Epochs = None,
    seed: Seed = 0,
    n_train: TrainSize = None,
    n_val: ValSize = None,
    n_test: TestSize = None,
    test: Test = False,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Graft a prompt that was trained elsewhere onto a backbone; if it is stopped, the same command goes on.

    Example: promptgraft transfer vision/digits builtin/orl-faces --out orl
    """
    from promptgraft.cli.run import announce, command_line, conclude, resumable
    from promptgraft.files import check_output_folder
    from promptgraft.library import find_prompt
    from promptgraft.tuning.tune import transfer as transfer_prompt

    check_output_folder(out)
    prompt = find_prompt(source, library)
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
    with resumable(task, model, method, prompt.id, seed, recipe, epochs) as checkpoint:
        adapted = transfer_prompt(
            prompt,
            model,
            task,
            method=method,
            seed=seed,
            recipe=recipe,
            epochs=epochs,
            checkpoint=checkpoint,
            command=command_line(),
        )
        conclude(adapted, task, out, test=test, as_json=as_json)
