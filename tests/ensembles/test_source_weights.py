"""How much of each source methods say they took, against what their prompts are made of."""

import numpy as np
import pytest
import torch

from ensembles.several import own_source, setting_of
from promptgraft.ensembles import hgprompt as module
from promptgraft.ensembles import nearest
from promptgraft.transfer.ensemble import ensemble_weights, gradient_cosines
from promptgraft.transferability import target
from promptgraft.tuning.method import METHODS
from tuning.samples import FAST, make_backbone

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")


@pytest.fixture(scope="module")
def backbone():
    return make_backbone(dtype=torch.float64)


@pytest.fixture(scope="module")
def sources(backbone):
    return [own_source(backbone, seed=seed) for seed in range(3)]


def built(name, backbone, sources, **recipe):
    setting = setting_of(backbone, *sources, recipe=FAST.model_copy(update=recipe))
    return METHODS[name].build(setting), setting


@pytest.mark.parametrize("name", ["average", "greedy", "hgprompt"])
def test_the_start_is_the_sources_weighed_so(name, backbone, sources):
    made, setting = built(name, backbone, sources)
    weights = made.source_weights(setting.train)
    expected = sum(weight * source.tensor for weight, source in zip(weights, sources, strict=True))
    torch.testing.assert_close(made(None).detach(), expected, rtol=0, atol=1e-6)
    assert sum(weights) == pytest.approx(1)


@pytest.mark.parametrize("name", ["spot", "panda"])
def test_the_nearest_has_all_the_weight(name, backbone, sources, monkeypatch):
    monkeypatch.setattr(target, "EPOCHS", 1)
    made, setting = built(name, backbone, sources)
    weights = made.source_weights(setting.train)
    near = nearest.similarities(setting, [source.tensor for source in sources])
    assert weights == [float(place == near.argmax()) for place in range(3)]
    chosen = made.teacher if name == "panda" else made.prompt
    assert torch.equal(chosen.detach(), sources[weights.index(1.0)].tensor)


def test_attempt_has_the_mean_attention_over_inputs(backbone, sources):
    made, setting = built("attempt", backbone, sources)
    attended = []
    with torch.no_grad():
        for i in range(len(setting.train)):
            attended.append(made.attention(setting.train.tokens(torch.tensor([i])))[0].tolist())
    expected = [sum(line[j] for line in attended) / len(attended) for j in range(4)]
    assert made.source_weights(setting.train) == pytest.approx(expected[:3])
    assert sum(expected) == pytest.approx(1)
    assert expected[3] > 0  # the new prompt's


def test_rows_that_stand_side_by_side_have_no_weights(backbone, sources):
    made, setting = built("concatenation", backbone, sources)
    assert made.source_weights(setting.train) is None


def test_cosines_are_those_of_the_gradients(backbone, sources, monkeypatch):
    seen = []
    original = module.loss_gradient
    monkeypatch.setattr(module, "loss_gradient", lambda *given: seen.append(original(*given)) or seen[-1])
    made, _ = built("hgprompt", backbone, sources)
    expected = [[float(g @ h / g.norm() / h.norm()) for h in seen] for g in seen]
    np.testing.assert_allclose(made.facts["gradient_cosines"], expected, atol=1e-12)


def test_any_gradients_by_the_definition():
    gradients = np.random.default_rng(0).normal(size=(4, 7))
    found = gradient_cosines(gradients).numpy()
    for i, g in enumerate(gradients):
        for j, h in enumerate(gradients):
            assert found[i, j] == pytest.approx(sum(g * h) / (sum(g * g) ** 0.5 * sum(h * h) ** 0.5))


@pytest.mark.parametrize("alignment", [0.0, 1.0, 30.0])
def test_the_recipes_alignment_is_lambda(alignment, backbone, sources, monkeypatch):
    seen = []
    monkeypatch.setattr(
        module, "ensemble_weights", lambda f, y, g, **rest: seen.append((f, y, g)) or ensemble_weights(f, y, g, **rest)
    )
    made, setting = built("hgprompt", backbone, sources, alignment=alignment)
    np.testing.assert_allclose(made.source_weights(setting.train), ensemble_weights(*seen[0], lam=alignment))


def test_a_large_lambda_ends_at_equal_weights(backbone, sources):
    weights = [built("hgprompt", backbone, sources, alignment=value)[0].facts["weights"] for value in (0.0, 1e6)]
    alone, aligned = (np.array(list(own.values())) for own in weights)
    np.testing.assert_allclose(aligned, 1 / 3, atol=1e-3)
    assert abs(alone - 1 / 3).max() > 0.05
