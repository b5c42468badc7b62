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
    sources: Annotated[
        list[str],
        typer.Argument(metavar="PROMPT", help="Prompt folders, or names or ids in a library."),
    ],
    data: Data,
    out: Out,
    method: Annotated[
        str,
        typer.Option(
            help="From one prompt: 'initial', 'frozen', 'projection', 'attention', or a control: 'random-matched'. "
            "From a text prompt of another language model, by shared words: 'relative', 'copy', 'discretization', "
            "'neural-projector'. "
            "From two or more: 'average', 'concatenation', 'greedy', 'spot', 'attempt', 'panda', 'hgprompt'."
        ),
    ] = "initial",
    verbalizer: Annotated[
        str | None,
        typer.Option(
            metavar="WORDS",
            help="A word for each class in their order, such as bad,good, scored by a masked language model: with "
            "'frozen' and the methods of shared words nothing is trained then.",
            show_default=False,
        ),
    ] = None,
    library: Library = None,
    backbone: Backbone = None,
    image_size: ImageSize = None,
    recipe: Recipe = "short",
    epochs: Epochs = None,
    seed: Seed = 0,
    n_train: TrainSize = None,
    n_val: ValSize = None,
    n_test: TestSize = None,
    analyse: Annotated[
        bool,
        typer.Option(
            "--analyse",
            help="Also map the examples as seen under each of several prompts, and show how much of each was taken; "
            "writes analysis.html into the folder.",
        ),
    ] = False,
    test: Test = False,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Graft prompts that were trained elsewhere onto a backbone; if it is stopped, the same command goes on.

    The last name is that of the data; those before it are prompts.

    Example: promptgraft transfer vision/digits builtin/orl-faces --out orl
    """
    from promptgraft.analysis.sources import SourceWatch, check_takes_several
    from promptgraft.cli.run import announce, command_line, conclude, resumable
    from promptgraft.files import check_output_folder
    from promptgraft.library import find_prompt
    from promptgraft.report.source_page import source_files
    from promptgraft.tuning.method import METHODS
    from promptgraft.tuning.recipes import resolve_recipe
    from promptgraft.tuning.tune import transfer as transfer_prompt

    check_output_folder(out)
    if analyse:
        check_takes_several(METHODS[method])
    prompts = [find_prompt(source, library) for source in sources]
    task, model = open_data(
        data,
        backbone,
        image_size=image_size,
        device=device,
        dtype=dtype,
        pool=None if verbalizer is None else "mask",
        seed=seed,
        n_train=n_train,
        n_val=n_val,
        n_test=n_test,
    )
    words = None if verbalizer is None else verbalizer.split(",")
    chosen = resolve_recipe(recipe, method=method, task=task.name, epochs=epochs, verbalizer=words)
    if not as_json:
        announce(task, model)
    with resumable(task, model, method, [prompt.id for prompt in prompts], seed, recipe, epochs, words) as checkpoint:
        watch = SourceWatch() if analyse else None
        adapted = transfer_prompt(
            prompts,
            model,
            task,
            method=method,
            seed=seed,
            recipe=chosen,
            checkpoint=checkpoint,
            command=command_line(),
            on_epoch=watch,
        )
        beside = None if watch is None else source_files(watch.analysis(adapted, command=command_line()))
        conclude(adapted, task, out, test=test, as_json=as_json, beside=beside)
