"""PANDA: its penalty written out, and that the one training loop adds it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ensembles.several import own_source, setting_of
from promptgraft.ensembles import nearest
from promptgraft.ensembles.panda import DistilledPrompt
from promptgraft.initialization.random import random_prompt
from promptgraft.transferability import target
from promptgraft.tuning import fit
from promptgraft.tuning.candidate import Candidate
from promptgraft.tuning.method import METHODS
from tuning.samples import FAST, make_backbone

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")


@pytest.fixture
def backbone(monkeypatch):
    monkeypatch.setattr(target, "EPOCHS", 1)
    return make_backbone(dtype=torch.float64)


def test_the_penalty_is_the_weighted_distance_to_the_teachers_features(backbone):
    setting = setting_of(backbone)
    tokens = setting.train.tokens(torch.arange(6))
    teacher, start = own_source(backbone, length=3, seed=1).tensor, own_source(backbone, seed=2).tensor
    scale = torch.rand(32).double() + 0.5
    module = DistilledPrompt(start, teacher, scale, 0.3, {}).double()
    features = module.features(backbone, tokens)
    penalty = module.penalty(backbone, tokens, features)
    total = 0.0
    for i in range(6):
        one = setting.train.tokens(torch.tensor([i]))
        theirs, mine = backbone.run(one, teacher)[0], backbone.run(one, start)[0]
        total += sum(((mine[f] - theirs[f]) / scale[f]).item() ** 2 for f in range(32))
    assert penalty.item() == pytest.approx(0.3 * total / (6 * 32))
    (gradient,) = torch.autograd.grad(penalty, module.prompt)
    assert gradient.abs().max() > 0
    unlike = DistilledPrompt(start, teacher, scale, -0.3, {}).double()
    assert unlike.penalty(backbone, tokens, features).item() == 0


def test_the_teacher_is_the_nearest_source_and_the_student_starts_at_random(backbone):
    own = nearest.target_rows(setting_of(backbone))
    far = own_source(backbone, seed=1)
    near = type(far)(
        own[:, :5], far.card.model_copy(update={"prompt": far.card.prompt.model_copy(update={"length": 5})})
    )
    setting = setting_of(backbone, far, near)
    module = METHODS["panda"].build(setting)
    assert torch.equal(module.teacher, near.tensor)
    assert torch.equal(module.prompt, random_prompt(backbone.info, 5, "shallow", 0))
    cosines = nearest.similarities(setting, [far.tensor, near.tensor])
    assert module.similarity == pytest.approx(cosines[1])
    assert module.facts == {
        "similarities": {far.id: cosines[0], near.id: cosines[1]},
        "weights": {far.id: 0.0, near.id: 1.0},
    }
    features = torch.cat([backbone.run(tokens, near.tensor) for tokens in setting.train.batches()])
    torch.testing.assert_close(module.scale.double(), features.std(0, correction=0), rtol=1e-5, atol=0)


def test_the_trainer_adds_the_penalty(backbone, monkeypatch):
    recipe = FAST.model_copy(update={"epochs": 1, "batch_size": 20, "warmup": 0})  # one step
    setting = setting_of(backbone, *(own_source(backbone, seed=seed) for seed in range(2)), recipe=recipe)
    candidate = Candidate(METHODS["panda"], setting, setting.val, 3, recipe)
    model = candidate.model
    model.prompt.similarity = 0.7
    tokens = setting.train.tokens(torch.arange(20))
    features = model.prompt.features(backbone, tokens)
    teacher = backbone.run(tokens, model.prompt.teacher)
    distance = ((features - teacher) / model.prompt.scale).square().mean()
    expected = F.cross_entropy(model.head(features), setting.train.labels) + 0.7 * distance
    wanted = torch.autograd.grad(expected, model.prompt.prompt)[0]
    seen = []

    def backward(loss):
        seen.append(loss.item())
        found = torch.autograd.grad(loss, model.prompt.prompt, retain_graph=True)[0]
        np.testing.assert_allclose(found, wanted, atol=1e-9)

    monkeypatch.setattr(fit.torch.autograd, "backward", backward)
    candidate.advance()
    assert seen == [pytest.approx(expected.item())]
