"""Trials and their keys."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from promptgraft.card import BackboneInfo
from promptgraft.errors import InputError
from promptgraft.library import PromptLibrary
from promptgraft.prompt import SoftPrompt
from promptgraft.study import plan as planning
from promptgraft.study import trial as trials
from promptgraft.study.plan import Plan, backbone_identity, method_identity, plan_study
from promptgraft.study.spec import StudySpec
from promptgraft.tuning.method import METHODS, Method
from promptgraft.tuning.recipes import RECIPES, Recipe

MakeSpec = Callable[..., StudySpec]


def keys(plan: Plan) -> list[str]:
    return [trial.key for trial in plan.trials]


def kinds(plan: Plan) -> list[str]:
    return [trial.kind for trial in plan.trials]


@pytest.fixture
def target(image_folder: Path) -> dict[str, Any]:
    return {"task": str(image_folder), "n_train": 16, "n_val": 8, "n_test": 16}


@pytest.fixture
def texts(tmp_path: Path, texts_csv: Path) -> list[str]:
    """Two tables of texts with other contents."""
    other = tmp_path / "songs.csv"
    other.write_text(texts_csv.read_text().replace("the film", "the song very"))
    return [str(texts_csv), str(other)]


@pytest.fixture
def tuned(tiny_bert_folder: Path, texts: list[str]) -> dict[str, Any]:
    """Two sources that the study tunes."""
    return {"tune": [{"backbone": f"dir:{tiny_bert_folder}", "tasks": texts, "recipe": {"epochs": 1}}]}


@pytest.fixture
def prompts(tmp_path: Path, make_prompt: Callable[..., SoftPrompt]) -> Path:
    """A library: a shallow prompt that fits the tiny ViT, a narrow one, a deep one."""
    library = PromptLibrary(tmp_path / "prompts")
    library.add(make_prompt(dim=32, name="text/wide"))
    library.add(make_prompt(dim=16, name="text/narrow", seed=1))
    library.add(make_prompt(dim=32, layers=2, name="text/deep", seed=2))
    return library.folder


# keys


def test_paths_names_and_labels_are_in_no_key(
    tiny_study: MakeSpec, target: dict[str, Any], tiny_vit_folder: Path, tmp_path: Path
) -> None:
    moved_model = shutil.copytree(tiny_vit_folder, tmp_path / "model")
    moved_data = shutil.copytree(target["task"], tmp_path / "other")
    here = plan_study(tiny_study())
    there = plan_study(
        tiny_study(
            study="renamed",
            description="elsewhere",
            backbones=[{"name": f"dir:{moved_model}", "label": "m"}],
            targets=[target | {"task": str(moved_data), "label": "t"}],
            methods=[{"method": "linear", "label": "probe"}, {"method": "vpt", "prompt_length": 2, "label": "ours"}],
        )
    )
    assert keys(here) == keys(there)
    assert {trial.labels["method"] for trial in there.trials} == {"probe", "ours"}
    assert {(trial.labels["backbone"], trial.labels["target"]) for trial in there.trials} == {("m", "t")}


def other_pixel(folder: Path) -> None:
    image = next(folder.rglob("*.png"))
    image.write_bytes(image.read_bytes() + b"\0")


def other_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    first = next(iter(tensors))
    save_file(tensors | {first: tensors[first] + 1}, folder / "model.safetensors", {"format": "pt"})


def test_other_data_has_other_keys(tiny_study: MakeSpec, target: dict[str, Any], tmp_path: Path) -> None:
    folder = shutil.copytree(target["task"], tmp_path / "other")
    before = plan_study(tiny_study(targets=[target | {"task": str(folder)}]))
    other_pixel(folder)
    after = plan_study(tiny_study(targets=[target | {"task": str(folder)}]))
    assert not set(keys(before)) & set(keys(after))
    (was,), (now,) = ([fact for fact in plan.facts if fact.kind == "data"] for plan in (before, after))
    assert was.differences(now).endswith(".png was altered")


def test_other_weights_have_other_keys(tiny_study: MakeSpec, tiny_vit_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_vit_folder, tmp_path / "model")
    before = keys(plan_study(tiny_study(backbones=[f"dir:{folder}"])))
    other_weight(folder)
    assert not set(before) & set(keys(plan_study(tiny_study(backbones=[f"dir:{folder}"]))))


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": [2, 3]},
        {"recipe": {"name": "short", "epochs": 2, "batch_size": 4}},
        {"threads": 2},
        {"targets": {"n_train": 12}},
        {"targets": {"split_seed": 7}},
        {"backbones": {"pool": "mean"}},
        {"backbones": {"image_size": 42}},
        {"backbones": {"dtype": "float64"}},
    ],
    ids=str,
)
def test_other_settings_have_other_keys(
    change: dict[str, Any], tiny_study: MakeSpec, target: dict[str, Any], tiny_vit_folder: Path
) -> None:
    if "targets" in change:
        change = {"targets": [target | change["targets"]]}
    elif "backbones" in change:
        change = {"backbones": [{"name": f"dir:{tiny_vit_folder}"} | change["backbones"]]}
    assert not set(keys(plan_study(tiny_study()))) & set(keys(plan_study(tiny_study(**change))))


@pytest.mark.parametrize("change", [{"prompt_length": 3}, {"layers": "shallow"}, {"recipe": {"epochs": 1}}], ids=str)
def test_other_settings_of_a_method_are_of_that_method(change: dict[str, Any], tiny_study: MakeSpec) -> None:
    vpt = {"method": "vpt", "prompt_length": 2}
    before = plan_study(tiny_study(methods=["linear", vpt]))
    after = plan_study(tiny_study(methods=["linear", vpt | change]))
    same = {trial.labels["method"] for trial in after.trials if trial.key in keys(before)}
    assert same == {"linear"}


def test_a_raised_version_of_a_method_is_another_trial(tiny_study: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(plan_study(tiny_study(methods=["vpt"])))
    raised = Method(**{**vars(METHODS["vpt"]), "version": 2})
    monkeypatch.setattr("promptgraft.tuning.methods.vpt", raised)
    method_identity.cache_clear()
    try:
        assert not set(before) & set(keys(plan_study(tiny_study(methods=["vpt"]))))
    finally:
        method_identity.cache_clear()


def test_a_raised_version_of_a_kind_is_another_trial(tiny_study: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(plan_study(tiny_study()))
    monkeypatch.setitem(trials.VERSIONS, "train", 2)
    assert not set(before) & set(keys(plan_study(tiny_study())))


def test_what_a_method_does_not_look_at_is_not_in_its_key() -> None:
    recipe = RECIPES["short"]
    assert method_identity("linear", "deep", 10, recipe) == method_identity("linear", "shallow", 5, recipe)
    assert method_identity("projection", "deep", 10, recipe) == method_identity("projection", "shallow", 5, recipe)
    assert method_identity("vpt", "deep", 10, recipe) != method_identity("vpt", "deep", 5, recipe)


def test_a_field_that_a_recipe_gains_changes_no_key() -> None:
    class Longer(Recipe):
        momentum: float = 0.9

    longer = Longer(**RECIPES["short"].model_dump())
    assert method_identity("vpt", "deep", 10, longer) == method_identity("vpt", "deep", 10, RECIPES["short"])
    other = Longer(**RECIPES["short"].model_dump(), momentum=0.5)
    assert method_identity("vpt", "deep", 10, other)["recipe"]["momentum"] == 0.5


def test_a_field_that_a_backbones_info_gains_changes_no_key(tiny_vit_folder: Path) -> None:
    class Longer(BackboneInfo):
        author: str = "unknown"

    class Backbone:
        dtype = torch.float32

        def __init__(self, info: BackboneInfo) -> None:
            self.info = info

    info = planning.load_backbone(f"dir:{tiny_vit_folder}").info
    longer = Longer(**info.model_dump(), author="somebody")
    plain, gained = (backbone_identity(Backbone(each)) for each in (info, longer))  # type: ignore[arg-type]
    assert plain == gained
    text = info.model_copy(update={"preprocessing": {"tokenizer": "A", "max_length": 9}})
    renamed = info.model_copy(update={"preprocessing": {"tokenizer": "B", "max_length": 9}})
    shorter = info.model_copy(update={"preprocessing": {"tokenizer": "A", "max_length": 8}})
    first, second, third = (backbone_identity(Backbone(each)) for each in (text, renamed, shorter))  # type: ignore[arg-type]
    assert first == second != third


# order


def test_trials_stand_after_what_they_need_and_each_once(tiny_study: MakeSpec, tuned: dict[str, Any]) -> None:
    spec = tiny_study(
        sources=tuned,
        methods=["linear", "projection", {"method": "vpt", "prompt_length": 2}],
        estimators=["norm", "gap"],
        search={"over": {"lr": [0.1, 0.01]}},
    )
    plan = plan_study(spec)
    seen: set[str] = set()
    for trial in plan.trials:
        assert seen.issuperset(trial.needs)
        assert trial.key not in seen
        seen.add(trial.key)
    assert kinds(plan)[:4] == ["source", "head"] * 2
    assert [trial.labels["seed"] for trial in plan.trials[4:]] == sorted(t.labels["seed"] for t in plan.trials[4:])


def test_trials_of_one_target_stand_together(tiny_study: MakeSpec, target: dict[str, Any]) -> None:
    spec = tiny_study(targets=[target, target | {"n_train": 12, "label": "fewer"}])
    shown = [trial.labels["target"] for trial in plan_study(spec).trials]
    assert shown == ["photos"] * 4 + ["fewer"] * 4


def test_what_is_asked_for_twice_is_there_once(tiny_study: MakeSpec, target: dict[str, Any]) -> None:
    once = plan_study(tiny_study())
    twice = plan_study(tiny_study(targets=[target, target | {"label": "again"}]))
    assert keys(once) == keys(twice)


def test_a_method_may_be_tried_in_some_places_only(tiny_study: MakeSpec, target: dict[str, Any]) -> None:
    fewer = target | {"n_train": 12, "label": "fewer"}
    methods = ["linear", {"method": "vpt", "targets": ["fewer"]}, {"method": "spt", "backbones": []}]
    plan = plan_study(tiny_study(targets=[target, fewer], methods=methods, seeds=[0]))
    tried = [(trial.labels["target"], trial.labels["method"]) for trial in plan.trials]
    assert tried == [("photos", "linear"), ("fewer", "linear"), ("fewer", "vpt deep")]


# sources


def test_sources_come_from_a_library_and_from_the_study(
    tiny_study: MakeSpec, prompts: Path, tuned: dict[str, Any]
) -> None:
    plan = plan_study(
        tiny_study(sources=tuned | {"library": str(prompts), "prompts": ["text/wide"]}, methods=["projection"])
    )
    shown = [(trial.kind, trial.labels["source"], trial.labels["seed"]) for trial in plan.trials]
    sources = ["text/reviews.csv", "text/songs.csv"]
    expected = [(kind, source, 0) for source in sources for kind in ("source", "head")]
    expected += [("train", source, seed) for seed in (0, 1) for source in ("text/wide", *sources)]
    assert shown == expected
    by_source = {trial.labels["source"]: trial for trial in plan.trials if trial.kind == "train"}
    first = plan.trials[0].key
    assert by_source["text/reviews.csv"].needs == (first,)
    assert by_source["text/reviews.csv"].identity["sources"] == [{"trial": first}]
    prompt = PromptLibrary(prompts)["text/wide"].id
    assert by_source["text/wide"].needs == ()
    assert by_source["text/wide"].identity["sources"] == [{"prompt": prompt}]
    assert {(fact.kind, fact.value) for fact in plan.facts} >= {("prompt", prompt)}
    assert {fact.kind for fact in plan.facts} == {"data", "weights", "prompt"}


def test_prompts_that_do_not_fit_are_left_out_with_the_reason(tiny_study: MakeSpec, prompts: Path) -> None:
    plan = plan_study(tiny_study(sources={"library": str(prompts)}, methods=["initial", "frozen", "projection"]))
    tried = {(trial.labels["method"], trial.labels["source"]) for trial in plan.trials}
    fits = {(method, source) for method in ("initial", "frozen") for source in ("text/wide", "text/deep")}
    assert tried == fits | {("projection", "text/wide"), ("projection", "text/narrow")}
    reasons = "\n".join(plan.left_out)
    assert len(plan.left_out) == 3  # once, not for each seed
    assert "initial of text/narrow on vit: prompt 'text/narrow' is 16 wide" in reasons
    assert "frozen of text/narrow on vit" in reasons
    assert "projection of text/deep on vit: prompt 'text/deep' is deep (2 layers)" in reasons


def test_a_prompt_of_the_targets_own_task_is_left_out_unless_asked_for(
    tiny_study: MakeSpec, tiny_vit_folder: Path, target: dict[str, Any]
) -> None:
    tuned = {"tune": [{"backbone": f"dir:{tiny_vit_folder}", "tasks": [target | {"label": "own"}]}]}
    plan = plan_study(tiny_study(sources=tuned, methods=["initial"]))
    assert kinds(plan) == ["source", "head"]
    assert plan.left_out == ("vision/own for photos: it was tuned on this task; `same_task: true` takes it",)
    plan = plan_study(tiny_study(sources=tuned | {"same_task": True}, methods=["initial"]))
    assert kinds(plan) == ["source", "head", "train", "train"]
    assert plan.left_out == ()


def test_a_librarys_prompt_of_the_targets_own_task_is_known_by_the_tasks_name(
    tiny_study: MakeSpec, target: dict[str, Any], prompts: Path, make_prompt: Callable[..., SoftPrompt]
) -> None:
    library = PromptLibrary(prompts)
    card = library["text/wide"].card
    library.add(make_prompt(dim=32, name="a", seed=5, task=card.task.model_copy(update={"name": "photos"})))
    plan = plan_study(tiny_study(sources={"library": str(prompts), "prompts": ["a"]}, methods=["initial"]))
    assert kinds(plan) == []
    assert len(plan.left_out) == 1


def test_named_sources_are_taken_alone_and_unknown_ones_are_refused(
    tiny_study: MakeSpec, tuned: dict[str, Any]
) -> None:
    chosen = {"method": "projection", "sources": ["text/songs.csv"]}
    plan = plan_study(tiny_study(sources=tuned, methods=[chosen], seeds=[0]))
    assert [trial.labels["source"] for trial in plan.trials if trial.kind == "train"] == ["text/songs.csv"]
    with pytest.raises(InputError, match=r"there is no source prompt 'text/son'\. There are \['text/reviews.csv'"):
        plan_study(tiny_study(sources=tuned, methods=[chosen | {"sources": ["text/son"]}]))


def test_two_sources_of_one_name_are_refused(tiny_study: MakeSpec, tuned: dict[str, Any]) -> None:
    (group,) = tuned["tune"]
    with pytest.raises(InputError, match=r"'text/reviews.csv' is there twice\. Give one of the tasks another `label`"):
        plan_study(tiny_study(sources={"tune": [group, group | {"seed": 1}]}, methods=["projection"]))


def test_a_method_takes_the_best_by_an_estimator(tiny_study: MakeSpec, prompts: Path) -> None:
    top = {"method": "initial", "sources": {"top": 9, "by": "norm"}}
    plan = plan_study(
        tiny_study(sources={"library": str(prompts)}, methods=[top], estimators=["gap", "norm"], seeds=[0])
    )
    assert kinds(plan) == ["estimate", "estimate", "train", "train"]  # two of three fit
    estimate = plan.trials[1]
    assert estimate.labels["estimator"] == "norm"
    assert estimate.labels["sources"] == PromptLibrary(prompts).names() == ["text/deep", "text/narrow", "text/wide"]
    assert [trial.labels["source"] for trial in plan.trials[2:]] == ["#1 by norm", "#2 by norm"]
    for place, trial in enumerate(plan.trials[2:], 1):
        assert trial.needs == (estimate.key,)
        assert trial.identity["choice"] == {"rank": place, "estimate": estimate.key, "places": [0, 2]}
        assert trial.places["sources"] == ["text/deep", "text/wide"]


def test_one_source_is_not_ranked(tiny_study: MakeSpec) -> None:
    plan = plan_study(tiny_study(sources=True, estimators=["norm"], seeds=[0]))
    assert "estimate" not in kinds(plan)
    assert plan.left_out == ("norm for photos: it ranks two sources or more, got 1",)


# searches


def test_a_grid_is_tried_on_val_and_ended_by_one_last_training(tiny_study: MakeSpec, tuned: dict[str, Any]) -> None:
    over = {"lr": [0.1, 0.01], "weight_decay": [0.0, 0.1]}
    spec = tiny_study(sources=tuned, methods=["linear", "projection"], seeds=[0], search={"over": over})
    plan = plan_study(spec)
    assert kinds(plan) == ["source", "head"] * 2 + ["search", "final"] + (["search"] * 4 + ["final"]) * 2
    settings = [trial.identity["setting"] for trial in plan.trials if trial.kind == "search"]
    grid = [{"lr": lr, "weight_decay": decay} for lr in (0.1, 0.01) for decay in (0.0, 0.1)]
    assert settings == [{}, *grid, *grid]  # a head tries its whole grid at once
    tried, final = plan.trials[6:10], plan.trials[10]
    source = plan.trials[0].key
    assert all(trial.needs == (source,) for trial in tried)
    assert final.needs == (source, *(trial.key for trial in tried))
    assert final.identity["searched"] == [trial.key for trial in tried]


def test_a_method_may_stay_out_of_the_search(tiny_study: MakeSpec) -> None:
    methods = [{"method": "vpt", "search": False}, "spt"]
    plan = plan_study(tiny_study(methods=methods, seeds=[0], search={"over": {"lr": [0.1]}}))
    assert kinds(plan) == ["train", "search", "final"]


def test_a_chain_needs_all_settings_before(tiny_study: MakeSpec, tuned: dict[str, Any]) -> None:
    search = {"sampler": "tpe", "over": {"lr": {"low": 1e-3, "high": 1.0}}, "trials": 3, "epochs": 5, "seed": 4}
    recipe = {"epochs": 7, "batch_size": 8}
    plan = plan_study(tiny_study(sources=tuned, methods=["projection"], seeds=[0], search=search, recipe=recipe))
    assert kinds(plan) == ["source", "head"] * 2 + (["search"] * 3 + ["final"]) * 2
    source, chain = plan.trials[0].key, plan.trials[4:7]
    for number, trial in enumerate(chain):
        assert trial.needs == (source, *(earlier.key for earlier in chain[:number]))
        over = {"lr": {"low": 1e-3, "high": 1.0, "log": True}}
        assert trial.identity["tpe"] == {"over": over, "number": number, "epochs": 5, "stop_from": 3, "seed": 4}


def test_each_division_of_the_data_has_a_search_of_its_own(tiny_study: MakeSpec, target: dict[str, Any]) -> None:
    search = {"over": {"lr": [0.1, 0.01]}, "seed": 5}
    anew = plan_study(tiny_study(methods=["vpt"], search=search))
    assert kinds(anew) == ["search", "search", "final"] * 2
    seeds = [(t.identity["task"]["seed"], t.identity["seed"], t.labels["seed"]) for t in anew.trials]
    assert seeds == [(0, 0, 0)] * 3 + [(1, 1, 1)] * 3


def test_a_given_division_is_searched_once_for_all_seeds(tiny_study: MakeSpec, target: dict[str, Any]) -> None:
    search = {"over": {"lr": [0.1, 0.01]}, "seed": 5}
    once = plan_study(tiny_study(methods=["vpt"], search=search, targets=[target | {"split_seed": 9}]))
    assert kinds(once) == ["search", "search", "final", "final"]
    seeds = [(t.identity["task"]["seed"], t.identity["seed"], t.labels["seed"]) for t in once.trials]
    assert seeds == [(9, 5, 5), (9, 5, 5), (9, 0, 0), (9, 1, 1)]
    assert once.trials[2].needs == once.trials[3].needs == tuple(trial.key for trial in once.trials[:2])


# mistakes


def test_what_cannot_be_had_is_named(tiny_study: MakeSpec, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data /nowhere does not exist\. Check the path"):
        plan_study(tiny_study(targets=["/nowhere"]))
    with pytest.raises(InputError, match="nowhere"):
        plan_study(tiny_study(backbones=[f"dir:{tmp_path}/nowhere"]))
    with pytest.raises(InputError, match="there is no library folder"):
        plan_study(tiny_study(sources={"library": str(tmp_path / "none")}, methods=["projection"]))
