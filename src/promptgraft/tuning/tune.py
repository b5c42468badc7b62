"""`tune` and `transfer`: one method on one task, in one call."""

from collections.abc import Callable, Sequence
from pathlib import Path

from promptgraft.backbones.base import Backbone
from promptgraft.card import Score
from promptgraft.errors import InputError
from promptgraft.progress import progress_bar
from promptgraft.prompt import SoftPrompt
from promptgraft.tasks.base import Task
from promptgraft.tasks.embedded import EmbeddedTask, embed_task
from promptgraft.tuning.adapted import Adapted, Naming, adapted_from
from promptgraft.tuning.candidate import Candidate
from promptgraft.tuning.fit import Epoch
from promptgraft.tuning.method import METHODS, Layers, Setting
from promptgraft.tuning.recipes import Recipe, resolve_recipe


def tune(
    backbone: Backbone,
    task: Task | EmbeddedTask,
    *,
    method: str = "vpt",
    prompt_length: int = 10,
    layers: Layers | None = None,
    seed: int = 0,
    recipe: str | Recipe = "short",
    epochs: int | None = None,
    checkpoint: str | Path | None = None,
    name: str | None = None,
    licence: str = "unspecified",
    command: str | None = None,
    on_epoch: Callable[[Candidate], None] | None = None,
) -> Adapted:
    """Adapt a frozen backbone to a task by a method that needs no source prompt.

    Args:
        backbone: from `load_backbone`.
        task: from `load_task`.
        method: a prompt, `vpt`, `spt`, `spt-k-means`, `spt-mean`, `spt-max`, `spt-frozen`; a rival of prompts,
            `linear`, `mlp-2`, `mlp-3`, `mlp-5`, `partial-1`, `partial-2`, `partial-3`, `bias`, `full`, `adapter`,
            `lora`, `ssf`, `side`, `gate-vpt`, `e2vpt`, `moment-probing`, `snf`; or a control of transfers, `random`,
            `random-projection` (shallow only).
        prompt_length: P, rows per layer.
        layers: `shallow` or `deep`; None takes `deep` where the method has it.
        seed: of the start and of the order of the examples; equal seeds give equal bits on a CPU.
        recipe: a recipe or its name.
        epochs: instead of the recipe's.
        checkpoint: a file that training goes on from after an interruption.
        name: of the prompt; `<modality>/<task>` if None.
        licence: under which the prompt may be used.
        command: that makes the prompt again, for its card.
        on_epoch: called with what is trained, before the first epoch (or where a checkpoint goes on) and after each,
            such as a `promptgraft.analysis.PromptWatch`.

    Raises:
        InputError, CompatibilityError, TrainingError: each names the thing and the cure.
    """
    return _fit(
        backbone,
        task,
        (),
        method=method,
        prompt_length=prompt_length,
        layers=METHODS[method].depth(layers),
        seed=seed,
        recipe=resolve_recipe(recipe, method=method, task=_task(task).name, epochs=epochs),
        checkpoint=checkpoint,
        naming=Naming(name or f"{_task(task).modality}/{_task(task).name}", licence, command),
        on_epoch=on_epoch,
    )


def transfer(
    source: SoftPrompt | Sequence[SoftPrompt],
    backbone: Backbone,
    task: Task | EmbeddedTask,
    *,
    method: str = "initial",
    seed: int = 0,
    recipe: str | Recipe = "short",
    epochs: int | None = None,
    checkpoint: str | Path | None = None,
    name: str | None = None,
    licence: str = "unspecified",
    command: str | None = None,
    on_epoch: Callable[[Candidate], None] | None = None,
) -> Adapted:
    """Adapt a frozen backbone to a task from a prompt that was trained elsewhere, or from several.

    The prompt keeps its source's length and layers.

    Args:
        source: the prompt, or several for a method that takes several.
        backbone: from `load_backbone`.
        task: from `load_task`.
        method: from one prompt, `initial`, `frozen`, `projection`, `attention`, or a control: `random-matched`; from
            a text prompt of another language model, by the words that both know, `relative`, `copy`,
            `discretization`, `neural-projector`; from two or more, `average`, `concatenation`, `greedy`, `spot`,
            `attempt`, `panda`, `hgprompt`.
        seed: of the order of the examples, and of new parts.
        recipe: a recipe or its name.
        epochs: instead of the recipe's.
        checkpoint: a file that training goes on from after an interruption.
        name: of the prompt; `<modality>/<task>` if None.
        licence: under which the prompt may be used.
        command: that makes the prompt again, for its card.
        on_epoch: called as by `tune`, such as a `promptgraft.analysis.SourceWatch`.

    Raises:
        InputError, CompatibilityError, TrainingError: each names the thing and the cure.
    """
    sources = (source,) if isinstance(source, SoftPrompt) else tuple(source)
    if not sources:
        raise InputError("transfer needs a source prompt, got none. `promptgraft library ls` lists prompts.")
    shape = sources[0].tensor.shape
    return _fit(
        backbone,
        task,
        sources,
        method=method,
        prompt_length=shape[1],
        layers="shallow" if shape[0] == 1 else "deep",
        seed=seed,
        recipe=resolve_recipe(recipe, method=method, task=_task(task).name, epochs=epochs),
        checkpoint=checkpoint,
        naming=Naming(name or f"{_task(task).modality}/{_task(task).name}", licence, command),
        on_epoch=on_epoch,
    )


def _task(task: Task | EmbeddedTask) -> Task:
    return task.task if isinstance(task, EmbeddedTask) else task


def _fit(
    backbone: Backbone,
    task: Task | EmbeddedTask,
    sources: tuple[SoftPrompt, ...],
    *,
    method: str,
    prompt_length: int,
    layers: Layers,
    seed: int,
    recipe: Recipe,
    checkpoint: str | Path | None,
    naming: Naming,
    on_epoch: Callable[[Candidate], None] | None = None,
) -> Adapted:
    if layers not in ("shallow", "deep"):
        raise InputError(f"layers must be 'shallow' or 'deep', got {layers!r}.")
    if prompt_length < 1:
        raise InputError(f"prompt_length must be at least 1, got {prompt_length}.")
    chosen = METHODS[method]
    chosen.check(sources, layers)
    data = task if isinstance(task, EmbeddedTask) else embed_task(backbone, task)
    if (data.backbone.info, data.backbone.dtype) != (backbone.info, backbone.dtype):
        raise InputError(
            f"task {data.task.name} was embedded by backbone {data.backbone.info.name}, {backbone.info.name} is to be "
            "adapted. Give both the same backbone."
        )
    info = data.task.info
    candidate = Candidate(
        chosen,
        Setting(backbone, data.train, prompt_length, layers, int(seed), sources),  # numpy's ints have no JSON
        data.val if len(data.val) else None,
        len(info.classes),
        recipe,
        checkpoint=None if checkpoint is None else Path(checkpoint),
    )
    tell = on_epoch or (lambda candidate: None)
    tell(candidate)
    with progress_bar(candidate.label, recipe.epochs, "epoch") as bar:
        bar.advance(len(candidate.history) - 1 if candidate.history else recipe.epochs)

        def step(line: Epoch) -> None:
            bar.advance()
            tell(candidate)

        candidate.advance(on_epoch=step)
    score = candidate.val_score()
    scores: dict[str, Score] = {} if score is None else {"val": score}
    return adapted_from(candidate, info, naming, scores)
