"""Estimators that look at the target under each whole source prompt."""

import numpy as np
import pytest
import torch

from promptgraft.prompt import SoftPrompt
from promptgraft.tasks.embedded import embed_task
from promptgraft.transferability import (
    ESTIMATORS,
    gather_evidence,
    h_score,
    leave_one_out,
    leep,
    log_me,
    n_leep,
    rank,
)
from promptgraft.tuning import features as tuned_features
from promptgraft.tuning.tune import tune
from tuning.samples import FAST, make_backbone, make_source, make_task

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")
NAMES = ["h-score", "leave-one-out", "log-me", "n-leep", "leep"]


@pytest.fixture(scope="module")
def backbone():
    return make_backbone("bert", seed=3, dtype=torch.float64)


@pytest.fixture
def prompts(backbone):
    """Of this backbone (shallow, deep); of another one as wide; of one that is narrower."""
    own = [
        tune(backbone, make_task("text", seed=5), layers=layers, prompt_length=4, recipe=FAST, epochs=1, name=layers)
        for layers in ("shallow", "deep")
    ]
    return [*(adapted.prompt for adapted in own), make_source(32, seed=1), make_source(16, seed=2)]


def test_scores_are_those_of_the_functions_on_features_under_the_prompt(backbone, prompts):
    task = make_task("text")
    scores = rank(prompts, backbone, task, NAMES, seed=4).set_index(["estimator", "prompt"])["score"]
    tokens = backbone.embed(list(task.train.inputs))
    labels = task.train.labels
    for prompt in prompts[:3]:
        features = backbone.run(tokens, prompt.tensor).double().numpy()
        name = prompt.card.name
        assert scores["h-score", name] == pytest.approx(h_score(features, labels), abs=1e-6)
        assert scores["leave-one-out", name] == pytest.approx(leave_one_out(features, labels), abs=1e-6)
        assert scores["log-me", name] == pytest.approx(log_me(features, labels), abs=1e-5)
        assert scores["n-leep", name] == pytest.approx(n_leep(features, labels, components=15, seed=4), abs=1e-4)
        if prompt.card.backbone == backbone.info:
            logits = features @ prompt.head.weight.double().numpy().T + prompt.head.bias.double().numpy()
            theta = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            assert scores["leep", name] == pytest.approx(leep(theta, labels), abs=1e-6)
        else:
            assert np.isnan(scores["leep", name])  # its head belongs to another model
    assert all(np.isnan(scores[name, "text/source2"]) for name in NAMES)


def test_what_has_no_score_is_said(backbone, prompts):
    table = rank(prompts, backbone, make_task("text"), ["h-score", "leep"])
    first, second = table.attrs["notes"]
    assert first.startswith("h-score has no score for text/source2: it applies to prompts of a shape")
    assert second.startswith("leep has no score for text/source1, text/source2: it applies to prompts that were tuned")


def test_dead_rows_stay_behind(backbone, prompts):
    prompt = prompts[2]
    said = prompt.card.prompt.model_copy(update={"dead_rows": (1,)})
    prompt = SoftPrompt(prompt.tensor, prompt.card.model_copy(update={"prompt": said}))
    task = embed_task(backbone, make_task("text"))
    seen = gather_evidence([prompt], backbone, task).graft(0)
    expected = torch.cat([backbone.run(tokens, prompt.tensor[:, [0, 2, 3]]) for tokens in task.train.batches()])
    np.testing.assert_allclose(seen.features, expected.numpy(), atol=1e-6)
    np.testing.assert_array_equal(seen.labels, task.train.labels)


def test_each_prompt_is_run_once_on_a_part_of_large_tasks(backbone, prompts, monkeypatch):
    ran, original = [], tuned_features.np.save
    monkeypatch.setattr(
        tuned_features.np, "save", lambda file, values: ran.append(values.shape) or original(file, values)
    )
    evidence = gather_evidence(prompts, backbone, make_task("text"), seed=1, limit=8)
    assert ran == []  # nothing is looked at before it is asked for
    for name in NAMES:
        ESTIMATORS[name].score(evidence)
    assert ran == [(8, 32)] * 3
    assert len(evidence.graft(0).labels) == 8


def test_evidence_without_a_model_has_no_score(prompts):
    from promptgraft.transferability import Evidence

    rows = [prompt.tensor[0].numpy() for prompt in prompts]
    evidence = Evidence(rows, [], pytest.fail, tune_prompt=pytest.fail, activate=pytest.fail)
    for name in NAMES:
        assert ESTIMATORS[name].needs == "features"
        assert np.isnan(ESTIMATORS[name].score(evidence)).all()
