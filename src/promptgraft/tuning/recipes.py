"""Training recipes: every choice of a training run, as one frozen value."""

from typing import Literal

from pydantic import Field, ValidationError

from promptgraft.card import Section
from promptgraft.errors import InputError
from promptgraft.registry import did_you_mean


class Recipe(Section):
    """How prompts and heads are trained.

    lr: of the prompt; head_lr: of the head. warmup: epochs of linear warm-up. keep: whether the best epoch on the
    validation split is kept, or the last. patience: epochs without a better validation epoch before training stops,
    None for never. head_start: `probe` starts the head at the linear probe's solution on the starting prompt's
    features, `random` as the papers do. class_balanced: every class weighs the same in the loss.
    """

    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: float = Field(gt=0)
    head_lr: float = Field(gt=0)
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


RECIPES = {
    # smoothing keeps a gradient where the linear probe already separates the training examples
    "short": Recipe(lr=1e-2, head_lr=1e-3, weight_decay=1e-4, epochs=10, label_smoothing=0.1),
    # VPT (Jia et al. 2022): SGD, momentum 0.9, cosine with 10 epochs of warm-up, 100 epochs, random head
    "paper": Recipe(
        optimizer="sgd",
        lr=0.25,
        head_lr=0.25,
        weight_decay=1e-3,
        epochs=100,
        batch_size=64,
        warmup=10,
        keep="last",
        head_start="random",
    ),
}


def resolve_recipe(recipe: str | Recipe, **changes: object) -> Recipe:
    """A recipe by name or value, with some of its fields changed.

    Raises:
        InputError: unknown name, unknown field, or a value out of range.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            near = did_you_mean(recipe, list(RECIPES))
            raise InputError(f"there is no recipe named {recipe!r}.{near} Known: {', '.join(RECIPES)}.")
        recipe = RECIPES[recipe]
    wanted = {key: value for key, value in changes.items() if value is not None}
    try:
        return Recipe(**{**recipe.model_dump(), **wanted})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise InputError(f"recipe: {field}: {first['msg']}, got {first['input']!r}.") from error
