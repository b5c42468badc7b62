"""Which candidates a run tries."""

import pytest

from promptgraft.adapt.plan import FROM_SCRATCH, bridging_method, plan_candidates, rank_library
from promptgraft.backbones.load import load_backbone
from promptgraft.library import Entry, PromptLibrary
from promptgraft.measured import Transfer
from promptgraft.tasks.embedded import embed_task
from promptgraft.tasks.load import load_task


def entry(modality, layers, dim):
    return Entry("x", "0" * 64, modality, "task", 10, "b", layers, 4, dim, "vpt", "CC0-1.0", None, None)


@pytest.mark.parametrize(
    ("modality", "layers", "dim", "method"),
    [
        ("vision", 1, 16, "initial"),  # shallow: the width of the embeddings
        ("vision", 12, 64, "initial"),  # deep: that of the blocks
        ("vision", 1, 64, "projection"),
        ("vision", 12, 16, None),
        ("vision", 6, 64, None),
        ("text", 1, 16, "projection"),
        ("text", 1, 768, "projection"),
        ("text", 12, 64, None),
    ],
)
def test_bridging_method(make_prompt, modality, layers, dim, method):
    info = make_prompt(dim=16).card.backbone.model_copy(update={"modality": "vision", "dim": 64, "depth": 12})
    assert bridging_method(entry(modality, layers, dim), info, "vision") == method


@pytest.fixture
def data(image_folder, tiny_vit_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTGRAFT_CACHE", str(tmp_path / "cache"))
    return embed_task(load_backbone(f"dir:{tiny_vit_folder}"), load_task(image_folder))


def test_the_best_ranked_prompts_that_fit_are_planned_under_their_names(make_prompt, data, tmp_path):
    library = PromptLibrary(tmp_path / "library")
    for name, shape in (("wide", (1, 4, 48)), ("same", (1, 4, 32)), ("deep", (2, 4, 32)), ("deeper", (3, 4, 32))):
        layers, length, dim = shape
        library.add(make_prompt(layers, length, dim, modality="vision", name="vision/all-alike"), name)
    ranking = rank_library(library, data, seed=0)
    assert set(ranking.fitting) == {"wide", "same", "deep"}
    assert ranking.fitting[-1] == "wide"  # the model does not take another width, so it has no score
    assert {row["prompt"] for row in ranking.rows()} == {"wide", "same", "deep", "deeper"}
    assert [row["score"] for row in ranking.rows() if (row["prompt"], row["estimator"]) == ("wide", "gap")] == [None]
    plans = plan_candidates(library, ranking, data, top=3)
    assert [(plan.method, plan.layers) for plan in plans[:4]] == list(FROM_SCRATCH)
    assert {(plan.source_name, plan.method, plan.layers) for plan in plans[4:]} == {
        ("same", "initial", "shallow"),
        ("deep", "initial", "deep"),
        ("wide", "projection", "shallow"),
    }
    assert [plan.source_name for plan in plans[4:]] == list(ranking.fitting)
    assert len(plan_candidates(library, ranking, data, top=1)) == 5


def test_the_ranking_says_how_far_to_trust_it(make_prompt, data, tmp_path):
    library = PromptLibrary(tmp_path / "library")
    for seed, name in enumerate("ab"):
        library.add(make_prompt(dim=32, seed=seed), name)
    assert rank_library(library, data, seed=0).evidence is None
    scores = {"one": [(1, 2), (2, 1)], "two": [(2, 1), (1, 1)]}  # norm says nothing on the second
    library.add_measured(
        Transfer(
            study="s",
            target=target,
            modality="vision",
            backbone="vit",
            weights_sha256=data.backbone.info.weights_sha256,
            method="projection",
            source=entry.name,
            source_id=entry.id,
            accuracy=0.5 + place / 10,
            baseline=None,
            seeds=1,
            scores=dict(zip(("leave-one-out", "norm"), own[place], strict=True)),
        )
        for target, own in scores.items()
        for place, entry in enumerate(library.find())
    )
    ranking = rank_library(library, data, seed=0)
    assert ranking.evidence == "leave-one-out beats norm on 1 of 1 measured target"
    assert ranking.table.attrs["evidence"]["leave-one-out"]["targets"] == 2
    assert [set(row) for row in ranking.rows()] == [{"prompt", "estimator", "score", "rank", "seconds"}] * 8
    assert rank_library(library, data, 0, ("norm", "volume")).order == "norm"


def test_no_prompt_fits(make_prompt, data, tmp_path):
    library = PromptLibrary(tmp_path / "library")
    library.add(make_prompt(3, 4, 32, modality="vision"), "deeper")
    assert rank_library(library, data, seed=0) is None
    assert len(plan_candidates(library, None, data, top=3)) == len(FROM_SCRATCH)
