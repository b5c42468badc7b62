"""Ensembles of the library's best-ranked prompts, in the race."""

import json

import pytest

from promptgraft.adapt import run
from promptgraft.adapt.plan import ENSEMBLES, plan_candidates, rank_library
from promptgraft.backbones.load import load_backbone
from promptgraft.library import PromptLibrary
from promptgraft.report.wording import ensemble
from promptgraft.tasks.embedded import embed_task
from promptgraft.tasks.load import load_task
from promptgraft.tuning.adapted import load_adapted


@pytest.fixture
def library(make_prompt, tiny_vit_folder, tmp_path):
    """Three prompts of one length for the tiny ViT, a longer one, and one of another model."""
    own = load_backbone(f"dir:{tiny_vit_folder}").info
    library = PromptLibrary(tmp_path / "prompts")
    for seed in range(3):
        library.add(make_prompt(1, 4, 32, modality="vision", name="card", seed=seed, backbone=own), f"own/{seed}")
    library.add(make_prompt(1, 6, 32, modality="vision", name="card", seed=7, backbone=own), "longer")
    library.add(make_prompt(1, 4, 32, modality="vision", name="card", seed=8), "other")
    return library


def data_of(photos, tiny_vit_folder):
    return embed_task(load_backbone(f"dir:{tiny_vit_folder}"), load_task(photos))


def test_the_best_ranked_that_go_together_are_planned(library, photos, tiny_vit_folder, own_cache):
    data = data_of(photos, tiny_vit_folder)
    ranking = rank_library(library, data, seed=0)
    first, second = plan_candidates(library, ranking, data, top=3)[-2:]
    assert [first.method, second.method] == list(ENSEMBLES) == ["average", "hgprompt"]
    best = next(name for name in ranking.fitting if name != "other")
    if best != "longer":
        assert first.names == tuple(name for name in ranking.fitting if name.startswith("own/"))
        assert [source.id for source in first.sources] == [library[name].id for name in first.names]
    assert first.source_name == "3 prompts"
    assert first.passes < second.passes
    assert all(plan.method not in ENSEMBLES for plan in plan_candidates(library, ranking, data, top=2))


def test_two_are_too_few(library, photos, tiny_vit_folder, own_cache):
    library.remove("own/0")
    data = data_of(photos, tiny_vit_folder)
    plans = plan_candidates(library, rank_library(library, data, seed=0), data, top=9)
    assert all(plan.method not in ENSEMBLES for plan in plans)


def test_they_race_and_say_their_weights(promptgraft, common, library, tmp_path, monkeypatch):
    library.remove("longer")
    monkeypatch.setattr(run, "_winner", lambda candidates: next(c for c in candidates if c.method.name == "hgprompt"))
    out = tmp_path / "out"
    code, printed, error = promptgraft(*common, "--library", library.folder, "--out", out)
    assert (code, error) == (0, "")
    result = json.loads((out / "result.json").read_text())
    rows = {row["method"]: row for row in result["candidates"]}
    assert (rows["average"]["source"], rows["hgprompt"]["source"]) == ("3 prompts", "3 prompts")
    assert set(rows["average"]["weights"].values()) == {1 / 3}
    assert rows["hgprompt"]["weights"].keys() == {"own/0", "own/1", "own/2"}
    assert sum(rows["hgprompt"]["weights"].values()) == pytest.approx(1)
    assert rows["linear"]["weights"] == rows["initial"]["weights"] == {}
    line = ensemble(rows["hgprompt"])
    assert line.startswith("hgprompt weighs own/")
    assert f"\n{line}.\n" in printed
    assert f"{line}." in (out / "report.html").read_text()
    assert result["source"] == "3 prompts"
    card = load_adapted(out).prompt.card
    assert set(card.parents) == {library[f"own/{seed}"].id for seed in range(3)}
    assert card.prompt.init_args["weights"].keys() == set(card.parents)  # of the last training, on train and val


def test_a_start_that_takes_too_long_is_left_out(promptgraft, common, library, tmp_path, monkeypatch):
    asked = []
    one = 51e-6  # seconds of a pass over 42 training and 9 validation examples
    monkeypatch.setattr(run, "_forward_seconds", lambda data: 1e-6)
    monkeypatch.setattr(run.Clock, "has", lambda self, seconds: asked.append(seconds) or seconds < 5 * one)
    out = tmp_path / "out"
    code, _, _ = promptgraft(*common, "--library", library.folder, "--epochs", 1, "--out", out)
    assert code == 0
    rows = {row["method"]: row for row in json.loads((out / "result.json").read_text())["candidates"]}
    assert rows["hgprompt"]["reason"] == "the time budget ran out before it started"
    assert "before it started" not in rows["average"]["reason"]
    assert rows["average"]["weights"]
    assert any(seconds == pytest.approx(13 * one) for seconds in asked)


def test_wording():
    assert ensemble({"method": "average", "weights": {"a": 0.25, "b": 0.75}}) == "average weighs b 0.75, a 0.25"
    assert ensemble({"method": "linear", "weights": {}}) == ensemble({"method": "linear"}) == ""
