"""The ready studies of several sources: leave one out, prompts that can be added up, λ and nothing else varied."""

from pathlib import Path

import pytest

from promptgraft.study.document import read_spec
from promptgraft.study.ready import init_study
from promptgraft.study.spec import SomeSources, StudySpec
from promptgraft.tuning.method import METHODS

DRAWN = ["builtin/count-shapes", "builtin/dsprites-loc"]
"""Sources of the pocket study that are no targets."""


def spec_of(name: str, size: str, tmp_path: Path) -> StudySpec:
    return read_spec(init_study(name, size, tmp_path / f"{name}-{size}"))


@pytest.mark.parametrize("size", ["smoke", "pocket", "paper"])
def test_every_target_is_a_source_of_the_others(size: str, tmp_path: Path) -> None:
    spec = spec_of("ensembles", size, tmp_path)
    assert spec.sources is not None
    assert not spec.sources.same_task
    own = [group for group in spec.sources.tune if group.backbone == spec.backbones[0]]
    texts = [group for group in spec.sources.tune if group not in own]
    tuned_on = [task.task for group in own for task in group.tasks]
    targets = [target.task for target in spec.targets]
    assert tuned_on[: len(targets)] == targets
    assert tuned_on[len(targets) :] == (DRAWN if size == "pocket" else [])
    (length,) = {group.prompt_length for group in spec.sources.tune}
    assert {group.layers for group in spec.sources.tune} == {"shallow"}
    assert {method.prompt_length for method in spec.methods if METHODS[method.method].layers} == {length}
    together = [method for method in spec.methods if METHODS[method.method].sources == "several"]
    assert {method.method for method in together} == {"spot", "average", "attempt", "panda", "hgprompt"}
    mixed = [method.shown for method in together if not isinstance(method.sources, SomeSources)]
    assert mixed == (["hgprompt mixed"] if texts else [method.shown for method in together])


def test_each_source_starts_at_numbers_of_its_own(tmp_path: Path) -> None:
    spec = spec_of("ensembles", "pocket", tmp_path)
    assert spec.sources is not None
    seeds = [group.seed for group in spec.sources.tune if group.backbone == spec.backbones[0]]
    assert len(seeds) == len(set(seeds)) == len(spec.targets) + len(DRAWN)
    assert not set(seeds) & set(spec.seeds)


def test_the_ablation_varies_lambda_alone(tmp_path: Path) -> None:
    study, ablation = (spec_of(name, "pocket", tmp_path) for name in ("ensembles", "ensembles-ablation"))
    assert study.sources is not None
    assert ablation.sources is not None
    assert ablation.sources.tune == tuple(g for g in study.sources.tune if g.backbone == study.backbones[0])
    assert set(ablation.targets) < set(study.targets)
    first, *others = ablation.methods
    assert first.method == "average"
    recipes = [(method.recipe or ablation.recipe).recipe("hgprompt", None) for method in others]
    assert {method.method for method in others} == {"hgprompt"}
    assert {recipe.model_copy(update={"alignment": 1.0}) for recipe in recipes} == {
        ablation.recipe.recipe("vpt", None)
    }
    values = [recipe.alignment for recipe in recipes]
    assert values == sorted(set(values))
    assert [values[0], 1.0 in values] == [0.0, True]
