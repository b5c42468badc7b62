"""`rank` with estimators that need a prompt of the target's own: it is tuned once, and only then."""

import numpy as np
import pytest

from promptgraft.tasks.embedded import embed_task
from promptgraft.transferability import (
    gather_evidence,
    mean_cosine,
    neuron_activations,
    neuron_overlap,
    rank,
    target,
    task_gap,
)
from promptgraft.tuning import tune
from tuning.samples import make_backbone, make_source, make_task

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")


@pytest.fixture
def tuned(monkeypatch):
    """Every call of `tune`; the target prompt takes one epoch."""
    calls, original = [], tune.tune
    monkeypatch.setattr(target, "EPOCHS", 1)
    monkeypatch.setattr(tune, "tune", lambda *args, **options: calls.append(options) or original(*args, **options))
    return calls


def test_scores_are_those_of_the_pure_functions(tuned):
    backbone = make_backbone("vit")
    task = embed_task(backbone, make_task())
    prompts = [make_source(seed=0), make_source(seed=1), make_source(width=16, seed=2)]
    names = ["mean-cosine", "overlap", "task-gap", "transferability"]
    table = rank(prompts, backbone, task, names, seed=3)
    scores = table.set_index(["estimator", "prompt"])["score"]
    assert [(call["method"], call["layers"], call["prompt_length"]) for call in tuned] == [("vpt", "shallow", 20)]
    own = target.target_prompt(backbone, task, seed=3)
    assert own.shape == (20, 32)
    rows = [prompt.tensor[0].numpy() for prompt in prompts[:2]]
    values = neuron_activations(backbone, [*rows, own])
    for name, expected in {
        "mean-cosine": mean_cosine(rows, own),
        "overlap": neuron_overlap(values[:2], values[2]),
        "task-gap": -task_gap(rows, own, seed=3),
    }.items():
        np.testing.assert_allclose(scores[name][["text/source0", "text/source1"]], expected, rtol=1e-5)
        assert np.isnan(scores[name, "text/source2"])  # of another width, and alone in that
    assert np.isfinite(scores["transferability"][["text/source0", "text/source1"]]).all()


def test_nothing_is_tuned_for_the_others(tuned):
    backbone = make_backbone("bert")
    rank([make_source(seed=0), make_source(seed=1)], backbone, make_task("text"), ["gap", "gap-rbf", "gap-linear"])
    assert tuned == []


def test_a_text_target_gives_the_same_evidence_embedded_or_not(tuned):
    backbone, task, prompts = make_backbone("albert"), make_task("text"), [make_source(width=16)]
    first, second = (gather_evidence(prompts, backbone, data, seed=1) for data in (task, embed_task(backbone, task)))
    np.testing.assert_array_equal(first.target_prompt, second.target_prompt)
    np.testing.assert_array_equal(first.patches, second.patches)
    assert first.target_prompt.shape == (20, 16)
    assert first.activate([first.target_prompt]).shape == (1, 3 * 64)
    assert len(tuned) == 2
