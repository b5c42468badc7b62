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
    MaxLength,
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
        str,
        typer.Option(
            help="A prompt: 'vpt', 'spt' (or 'spt-k-means', 'spt-mean', 'spt-max', 'spt-frozen'). A rival of prompts: "
            "'linear', 'mlp-2', 'mlp-3', 'mlp-5', 'partial-1', 'partial-2', 'partial-3', 'bias', 'full', 'adapter', "
            "'lora', 'ssf', 'side', 'gate-vpt', 'e2vpt', 'moment-probing', 'snf'. A control of transfers: 'random', "
            "'random-projection'."
        ),
    ] = "vpt",
    prompt_length: Annotated[int, typer.Option(help="Rows of the prompt in each layer.")] = 10,
    layers: Annotated[
        str | None, typer.Option(help="'deep' or 'shallow'; deep where the method has it.", show_default=False)
    ] = None,
    verbalizer: Annotated[
        str | None,
        typer.Option(
            metavar="WORDS",
            help="A word for each class in their order, such as bad,good: no head is learned, a masked language model "
            "scores these words at the first prompt row. Needs --layers shallow and, of the packs, bert-tiny-mlm.",
            show_default=False,
        ),
    ] = None,
    backbone: Backbone = None,
    image_size: ImageSize = None,
    max_length: MaxLength = None,
    recipe: Recipe = "short",
    epochs: Epochs = None,
    seed: Seed = 0,
    n_train: TrainSize = None,
    n_val: ValSize = None,
    n_test: TestSize = None,
    name: Annotated[str | None, typer.Option(help="Of the prompt, in its card.", show_default=False)] = None,
    licence: Annotated[str, typer.Option(help="Under which the prompt may be used.")] = "unspecified",
    analyse: Annotated[
        bool,
        typer.Option(
            "--analyse",
            help="Also measure, after each epoch, how the prompt relates to the tokens of 32 training inputs; writes "
            "analysis.html into the folder.",
        ),
    ] = False,
    test: Test = False,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Tune a prompt from scratch, or one of its rivals; if it is stopped, the same command goes on.

    Example: promptgraft tune builtin/orl-faces --image-size 56 --out orl
    """
    from promptgraft.analysis.watch import PromptWatch, check_has_prompt
    from promptgraft.cli.run import announce, command_line, conclude, resumable
    from promptgraft.files import check_output_folder
    from promptgraft.readme import printable
    from promptgraft.report.analysis_page import analysis_files
    from promptgraft.tuning.method import METHODS
    from promptgraft.tuning.recipes import resolve_recipe
    from promptgraft.tuning.tune import tune as tune_prompt

    check_output_folder(out)
    if analyse:
        check_has_prompt(METHODS[method])
    task, model = open_data(
        data,
        backbone,
        image_size=image_size,
        max_length=max_length,
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
        if words is not None:
            pairs = zip(task.classes, words, strict=False)  # their number is checked where the head is made
            typer.echo(printable("label words: " + ", ".join(f"{name} = {word}" for name, word in pairs)))
    with resumable(task, model, method, prompt_length, layers, seed, recipe, epochs, words) as checkpoint:
        watch = PromptWatch(checkpoint.with_suffix(".nmi.json")) if analyse else None
        adapted = tune_prompt(
            model,
            task,
            method=method,
            prompt_length=prompt_length,
            layers=cast("Layers | None", layers),
            seed=seed,
            recipe=chosen,
            checkpoint=checkpoint,
            name=name,
            licence=licence,
            command=command_line(),
            on_epoch=watch,
        )
        beside = None if watch is None else analysis_files(watch.analysis(adapted, command=command_line()))
        conclude(adapted, task, out, test=test, as_json=as_json, beside=beside)
