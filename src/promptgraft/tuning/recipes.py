"""Training recipes: every choice of a training run, as one frozen value.

`recipes_cross_modality.toml` holds those that the paper on cross-modality prompt transfer prints.
"""

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from promptgraft.card import Section
from promptgraft.errors import InputError
from promptgraft.registry import did_you_mean


class Recipe(Section):
    """How prompts and heads are trained.

    lr: of the prompt; head_lr: of the head, None for the prompt's. warmup: epochs of linear warm-up. keep: whether the
    best epoch on the validation split is kept, or the last. patience: epochs without a better validation epoch before
    training stops, None for never. head_start: `probe` starts the head at the linear probe's solution on the starting
    prompt's features, `random` as the papers do. class_balanced: every class weighs the same in the loss.
    source_share: of the rows of attention transfer's prompt, those that are made from the source (l_s / l; 0.8 is the
    median of the paper's 19 tasks); the others are learned anew. prototype_share, prototype_layer: of Self-Prompt
    Tuning, the part of the training inputs that the starting rows are made of, and whether each layer's are made of
    its own tokens (`own`) or all layers' of the `first` or the `last` one's. alignment: of HGPrompt, λ, how much the
    agreement of gradients weighs beside the H-score. verbalizer: a word for each class, in their order: no head is
    learned, the masked-language head scores these words (for a backbone of pool `mask`).

    A method that trains only a head has constant features: it tries the linear probe's whole grid on them, and takes
    from its recipe class_balanced and label_smoothing alone.
    """

    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: float = Field(gt=0)
    head_lr: float | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    epochs: int = Field(ge=1)
    batch_size: int = Field(default=32, ge=1)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = Field(default=1.0, ge=0)
    patience: int | None = Field(default=None, ge=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_balanced: bool = False
    keep: Literal["best", "last"] = "best"
    head_start: Literal["probe", "random"] = "probe"
    source_share: float = Field(default=0.8, gt=0, le=1)
    prototype_share: float = Field(default=1.0, gt=0, le=1)
    prototype_layer: Literal["own", "first", "last"] = "own"
    alignment: float = Field(default=1.0, ge=0)
    verbalizer: tuple[str, ...] | None = None

    @property
    def head_rate(self) -> float:
        """The learning rate of the head."""
        return self.lr if self.head_lr is None else self.head_lr


RECIPES = {
    # smoothing keeps a gradient where the linear probe already separates the training examples
    "short": Recipe(lr=1e-2, head_lr=1e-3, weight_decay=1e-4, epochs=10, label_smoothing=0.1),
    # VPT (Jia et al. 2022): SGD, momentum 0.9, cosine with 10 epochs of warm-up, 100 epochs, random head
    "paper": Recipe(
        optimizer="sgd",
        lr=0.25,
        weight_decay=1e-3,
        epochs=100,
        batch_size=64,
        warmup=10,
        keep="last",
        head_start="random",
    ),
}

PAPER_SEEDS = (42, 44, 100)
"""The three seeds of every experiment on cross-modality prompt transfer."""


def paper_recipe(method: str, task: str) -> Recipe:
    """What a method was trained with on a task of VTAB-1k, in the paper on cross-modality prompt transfer.

    Zhang et al. 2025, appendix, tables 5, 6 and 8 and section C.5.3. Rates of SGD are printed for batches of 256
    examples and scaled to the batch here. One rate serves prompt and head. Which epoch was tested is not said: the
    last is kept.

    Args:
        method: `linear`, `frozen`, `random`, `vpt`, `projection`, `random-projection` or `attention`.
        task: what its folder or the paper calls it, such as `cifar` or `CIFAR100`, `smallnorb_azi` or `SmallNORB/azi`.

    Raises:
        InputError: the paper has no recipe for such a method or task.
    """
    methods, tasks = _paper()
    _check_name("recipe of method", method, list(methods))
    if _plain(task) not in tasks:
        _check_name("task", task, sorted(set(tasks.values())))
    found = _printed(method, task)
    assert found is not None
    return found


def paper_grid(method: str) -> dict[str, tuple[float, ...]]:
    """The fields of a recipe that the paper searched for `vpt` or `attention`, with the values that it tried, scaled.

    It chose them for each task on 200 validation examples. Attention transfer's l_s was searched too; over which
    values is not said, and tables hold multiples of ten rows.

    Raises:
        InputError: the paper has no grid for the method.
    """
    methods, _ = _paper()
    _check_name("grid of method", method, [name for name, table in methods.items() if "grid" in table])
    table = methods[method]
    return {field: tuple(_scaled(table, field, value) for value in values) for field, values in table["grid"].items()}


def _check_name(kind: str, name: str, known: list[str]) -> None:
    if name not in known:
        raise InputError(f"the paper has no {kind} {name!r}.{did_you_mean(name, known)} It has: {', '.join(known)}.")


@cache
def _paper() -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The paper's table of each method, and the task that each plain name stands for."""
    content = tomllib.loads(Path(__file__).with_name("recipes_cross_modality.toml").read_text(encoding="utf-8"))
    tasks = content.pop("names")
    methods = {method: table for table in content.values() for method in table["methods"]}
    return methods, {_plain(name): task for task, printed in tasks.items() for name in (task, printed)}


def _plain(name: str) -> str:
    """A task's name without what spellings differ in: `SmallNORB/azi` and `smallnorb_azi` are one."""
    return re.sub("[^a-z0-9]", "", name.lower())


def _printed(method: str | None, task: str | None) -> Recipe | None:
    """The paper's recipe of a method for a task, else for any task, None where it has neither."""
    methods, tasks = _paper()
    table = methods.get(method or "")
    if table is None:
        return None
    own = table.get("tasks", {}).get(tasks.get(_plain(task or "")), {})
    fields = {field: _scaled(table, field, value) for field, value in (table["recipe"] | own).items()}
    return Recipe(**fields, keep="last", head_start="random") if "lr" in fields else None


def _short(method: str | None) -> dict[str, Any]:
    """What a method changes of the recipe `short`."""
    from promptgraft.tuning.method import METHODS  # methods name their recipes

    return dict(METHODS[method].short) if method is not None and method in METHODS else {}


def _scaled(table: dict[str, Any], field: str, value: Any) -> Any:
    """A field's value for the paper's batch: rates may be printed for another."""
    return value * table["recipe"]["batch_size"] / table["batch"] if field == "lr" and "batch" in table else value


def resolve_recipe(
    recipe: str | Recipe, *, method: str | None = None, task: str | None = None, **changes: object
) -> Recipe:
    """A recipe by name or value, with some of its fields changed.

    `paper` is what the paper on cross-modality prompt transfer trained the method with: on the task if it is one of
    VTAB-1k, by its name, else on every task if it had one recipe for all. Where it has neither, it is VPT's.

    Args:
        recipe: a recipe, `short` or `paper`.
        method: what is to be trained.
        task: the name of the task.
        **changes: fields to change; None leaves one as it is.

    Raises:
        InputError: unknown name, unknown field, or a value out of range.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            near = did_you_mean(recipe[:80], list(RECIPES))
            raise InputError(f"there is no recipe named {recipe[:80]!r}.{near} Known: {', '.join(RECIPES)}.")
        if recipe == "paper":
            recipe = _printed(method, task) or RECIPES[recipe]
        else:
            recipe = RECIPES[recipe].model_copy(update=_short(method))
    wanted = {key: value for key, value in changes.items() if value is not None}
    try:
        return Recipe(**{**recipe.model_dump(), **wanted})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise InputError(f"recipe: {field}: {first['msg']}, got {first['input']!r}.") from error
