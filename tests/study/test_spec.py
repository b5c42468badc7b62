from typing import Any

import pytest
from pydantic import ValidationError

from promptgraft.study.spec import (
    BackboneSpec,
    MethodSpec,
    RecipeSpec,
    SearchSpec,
    SomeSources,
    SourcesSpec,
    Span,
    StudySpec,
    TaskSpec,
    TunedSources,
)
from promptgraft.tuning.recipes import RECIPES

SMALL: dict[str, Any] = {
    "study": "s",
    "backbones": ["packs/vit-small"],
    "targets": ["builtin/digits"],
    "methods": ["linear"],
}
TUNE = {"backbone": "packs/minilm-l6", "tasks": ["builtin/newsgroups"]}
LIBRARY = {"library": "starter"}


def strictly(**fields: Any) -> StudySpec:
    """As `study.yaml` is read: nothing is taken for something else."""
    return StudySpec.model_validate(tuples(SMALL | fields), strict=True)


def tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: tuples(below) for key, below in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def message(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        strictly(**fields)
    return "\n".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in caught.value.errors())


def test_python_and_yaml_say_the_same() -> None:
    written = strictly(
        description="all of it",
        backbones=[{"name": "packs/vit-small", "image_size": 70, "pool": "mean", "label": "small"}],
        targets=["builtin/digits", {"task": "photos/", "n_train": 100, "split_seed": 3}],
        methods=[
            "linear",
            {"method": "vpt", "layers": "shallow", "prompt_length": 5, "recipe": "paper", "search": False},
            {"method": "projection", "sources": ["a", "b"]},
            {"method": "projection", "sources": {"top": 2, "by": "gap"}, "label": "best two"},
        ],
        sources={"library": "starter", "prompts": ["a", "b"], "tune": [TUNE], "same_task": True},
        estimators=["gap"],
        seeds=[0, 1],
        recipe={"name": "short", "epochs": 3},
        search={"sampler": "tpe", "over": {"lr": {"low": 1e-3, "high": 1}, "warmup": [0.0, 1.0]}, "trials": 9},
        threads=2,
    )
    tuned = TunedSources(backbone=BackboneSpec(name="packs/minilm-l6"), tasks=(TaskSpec(task="builtin/newsgroups"),))
    assert written == StudySpec(
        study="s",
        description="all of it",
        backbones=(BackboneSpec(name="packs/vit-small", image_size=70, pool="mean", label="small"),),
        targets=(TaskSpec(task="builtin/digits"), TaskSpec(task="photos/", n_train=100, split_seed=3)),
        methods=(
            MethodSpec(method="linear"),
            MethodSpec(method="vpt", layers="shallow", prompt_length=5, recipe=RecipeSpec(name="paper"), search=False),
            MethodSpec(method="projection", sources=("a", "b")),
            MethodSpec(method="projection", sources=SomeSources(top=2, by="gap"), label="best two"),
        ),
        sources=SourcesSpec(library="starter", prompts=("a", "b"), tune=(tuned,), same_task=True),
        estimators=("gap",),
        seeds=(0, 1),
        recipe=RecipeSpec(name="short", changes={"epochs": 3}),
        search=SearchSpec(sampler="tpe", over={"lr": Span(low=1e-3, high=1), "warmup": (0.0, 1.0)}, trials=9),
        threads=2,
    )
    assert StudySpec.model_validate(written.model_dump(mode="json")) == written  # as the store keeps it


def test_a_word_stands_for_the_first_field() -> None:
    spec = strictly(methods=["linear", "vpt"], recipe="paper")
    assert spec.backbones == (BackboneSpec(name="packs/vit-small"),)
    assert spec.targets == (TaskSpec(task="builtin/digits"),)
    assert spec.methods[1] == MethodSpec(method="vpt")
    assert spec.recipe.recipe("vpt", None) == RECIPES["paper"]
    assert RecipeSpec(epochs=3).recipe("vpt", None) == RECIPES["short"].model_copy(update={"epochs": 3})  # type: ignore[call-arg]


def test_what_tables_call_things() -> None:
    shown = {"hf/google/vit-base": "vit-base", "packs/vit-small": "vit-small", "dir:/models/mine": "mine"}
    assert {name: BackboneSpec(name=name).shown for name in shown} == shown
    assert TaskSpec(task="data/photos/").shown == "photos"
    assert TaskSpec(task="data/photos/", label="birds").shown == "birds"
    words = {"linear": "linear", "vpt": "vpt deep", "spt": "spt deep", "projection": "projection", "frozen": "frozen"}
    assert {name: MethodSpec(method=name).shown for name in words} == words
    assert MethodSpec(method="vpt", label="ours").shown == "ours"


@pytest.mark.parametrize("seed", [True, 1.0, "1", -1, 2**63, None])
def test_what_is_no_seed(seed: Any) -> None:
    assert message(seeds=[seed]).startswith("seeds.0: Input should be")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"methods": ["vptt"]}, "methods.0: Value error, there is no method named 'vptt'. Did you mean 'vpt'?"),
        (
            {"estimators": ["nrm"], "sources": LIBRARY},
            "estimators.0: Value error, there is no estimator named 'nrm'. Did you mean 'norm'?",
        ),
        ({"recipe": "shrt"}, "recipe: Value error, there is no recipe named 'shrt'. Did you mean 'short'?"),
        ({"recipe": {"epoch": 3}}, "recipe: Value error, a recipe has no 'epoch'. Did you mean 'epochs'?"),
        ({"recipe": {"epochs": "3"}}, "recipe: epochs: must be a value like 3, got '3'"),
        ({"recipe": {"epochs": True}}, "recipe: epochs: must be a value like 1, got True"),
        ({"recipe": {"epochs": 0}}, "recipe: epochs: Input should be greater than or equal to 1, got 0."),
        ({"recipe": {"lr": None}}, "recipe: lr: must be a value like 0.01, got None"),
        ({"methods": [{"method": "vpt", "recipe": {"lr": -1}}]}, "methods.0.recipe: Value error, recipe: lr: Input"),
        ({"study": "../elsewhere"}, "study: String should match pattern"),
        ({"threads": 0}, "threads: Input should be greater than or equal to 1"),
        ({"backbones": []}, "backbones: Tuple should have at least 1 item"),
        ({"targets": [{"task": "t", "n_val": -1}]}, "targets.0.n_val: Input should be greater than or equal to 0"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"methods": []}, "a study needs methods or estimators"),
        ({"methods": ["projection"]}, "method 'projection' needs source prompts: add `sources`"),
        ({"estimators": ["norm"]}, "estimator 'norm' needs source prompts: add `sources`"),
        ({"sources": {}}, "sources: Value error, name a library, or tasks to tune prompts on"),
        (
            {"sources": {"prompts": ["a"], "tune": [TUNE]}},
            "sources: Value error, prompts are names in a library: name the library too",
        ),
        (
            {"sources": {"tune": [TUNE | {"method": "linear"}]}},
            "sources.tune.0: Value error, method 'linear' makes no shallow prompt of its own; 'vpt' and 'spt' do",
        ),
        (
            {"sources": {"tune": [TUNE | {"method": "initial"}]}},
            "method 'initial' makes no shallow prompt of its own; 'vpt' and 'spt' do",
        ),
        (
            {"methods": [{"method": "frozen", "sources": {"top": 1, "by": "gap"}}], "sources": LIBRARY},
            "method 'frozen' takes sources by 'gap': add it to estimators",
        ),
        (
            {"targets": ["builtin/digits"], "methods": [{"method": "vpt", "targets": ["builtin/digit"]}]},
            "method 'vpt deep': the study has no target 'builtin/digit'",
        ),
        ({"seeds": [1, 1]}, "seed 1 stands there twice; leave one out"),
        ({"estimators": ["gap", "gap"], "sources": LIBRARY}, "estimator 'gap' stands there twice; leave one out"),
        ({"methods": ["vpt", "vpt"]}, "method 'vpt deep' stands there twice; give one of them another `label`"),
        ({"targets": ["a/photos", "b/photos"]}, "target 'photos' stands there twice; give one of them another"),
        (
            {"backbones": ["hf/a/vit", "hf/b/vit"]},
            "backbone 'vit' stands there twice; give one of them another `label`",
        ),
    ],
)
def test_every_mistake_is_named_with_its_cure(fields: dict[str, Any], words: str) -> None:
    assert words in message(**fields)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"over": {}}, "search.over: Dictionary should have at least 1 item"),
        ({"over": {"lrr": [1]}}, "search: Value error, a recipe has no 'lrr'. Did you mean 'lr'?"),
        ({"over": {"lr": []}}, "search: Value error, lr: takes at least one value"),
        ({"over": {"lr": [0.1, 0.0]}}, "recipe: lr: Input should be greater than 0, got 0.0."),
        ({"over": {"lr": ["0.1"]}}, "recipe: lr: must be a value like 0.1, got '0.1'"),
        ({"over": {"lr": [True]}}, "recipe: lr: must be a value like 1.0, got True"),
        ({"over": {"lr": {"low": 0.1, "high": 1.0}}}, "lr: a grid takes a list of values, not a range"),
        ({"over": {"lr": [0.1]}, "trials": 3}, "`trials` and `epochs` belong to sampler tpe; a grid tries every"),
        ({"over": {"lr": [0.1]}, "epochs": 3}, "`trials` and `epochs` belong to sampler tpe; a grid tries every"),
        ({"sampler": "tpe", "over": {"lr": [0.1]}}, "tpe needs `trials`, the number of settings that it may draw"),
        (
            {"sampler": "tpe", "trials": 2, "over": {"epochs": {"low": 1, "high": 9}}},
            "epochs: takes a list of values, not a range",
        ),
        (
            {"sampler": "tpe", "trials": 2, "over": {"lr": {"low": 1.0, "high": 0.1}}},
            "must be 0 < low < high where log is true, else low < high; got 1.0, 0.1",
        ),
        (
            {"sampler": "tpe", "trials": 2, "over": {"weight_decay": {"low": 0.0, "high": 0.1}}},
            "must be 0 < low < high where log is true",
        ),
        (
            {"sampler": "tpe", "trials": 2, "over": {"weight_decay": {"low": -1.0, "high": 0.1, "log": False}}},
            "recipe: weight_decay: Input should be greater than or equal to 0, got -1.0.",
        ),
        ({"sampler": "random", "over": {"lr": [0.1]}}, "search.sampler: Input should be 'grid' or 'tpe'"),
    ],
)
def test_every_mistake_of_a_search_is_named(search: dict[str, Any], words: str) -> None:
    assert words in message(search=search)


def test_a_search_may_choose_what_is_no_number() -> None:
    over = {"class_balanced": [True, False], "patience": [None, 3], "optimizer": ["sgd", "adam"], "lr": [1, 0.1]}
    assert strictly(search={"over": over}).search is not None
    plain = {"weight_decay": {"low": 0.0, "high": 0.1, "log": False}}
    assert strictly(search={"sampler": "tpe", "over": plain, "trials": 2, "epochs": 9}).search is not None


def test_a_spec_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        strictly().threads = 2
