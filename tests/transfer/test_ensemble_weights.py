"""`ensemble_weights` against Algorithm 1 of HGPrompt taken literally: fused features, covariance and autograd anew."""

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf as sklearn_ledoit_wolf

from promptgraft.errors import InputError
from promptgraft.transfer.ensemble import LR, _Objective, descend, ensemble_weights
from promptgraft.transfer.labelled import ledoit_wolf
from promptgraft.transferability import h_score


def make(M=3, N=60, D=6, C=3, G=20, seed=0):
    """Source 0 shows the classes, the others less and less; gradients share a direction, except the last."""
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % C
    centres = rng.normal(size=(C, D))
    features = np.stack([centres[labels] * 0.6**i + rng.normal(size=(N, D)) + rng.normal() for i in range(M)])
    shared = rng.normal(size=G)
    gradients = np.stack([shared * (i < M - 1) + rng.normal(size=G) for i in range(M)])
    return features, labels, gradients / np.linalg.norm(gradients, axis=1, keepdims=True)


def literal_loss(alpha, features, labels, gradients, lam, shrink):
    """Eq. 4, 5, 8 to 10 and 12 as written, each example's outer product, everything by autograd."""
    features, gradients = torch.from_numpy(features), torch.from_numpy(gradients)
    labels = torch.from_numpy(labels)
    f = sum(a * each for a, each in zip(alpha, features, strict=True))
    x = f - f.mean(0)
    N, D = x.shape
    outer = x[:, :, None] * x[:, None, :]
    covariance = outer.mean(0)
    per_example = torch.stack([x[labels == y].mean(0) for y in labels])
    between = sum(torch.outer(row, row) for row in per_example) / N
    keep = 1.0
    if shrink:
        mean = covariance.trace() / D
        distance = (covariance - mean * torch.eye(D, dtype=f.dtype)).square().sum()
        noise = (outer - covariance).square().sum() / N**2
        delta = torch.minimum(noise, distance) / distance
        covariance, keep = (1 - delta) * covariance + delta * mean * torch.eye(D, dtype=f.dtype), 1 - delta
    h = keep * torch.trace(torch.linalg.inv(covariance) @ between)
    consensus = sum(a * g for a, g in zip(alpha, gradients, strict=True))
    consensus = consensus / consensus.norm()
    align = sum(1 - g @ consensus for g in gradients) / len(gradients)
    return -h + lam * align


@pytest.mark.parametrize("shrink", [True, False])
def test_trajectory_equals_the_literal_algorithm(shrink):
    features, labels, gradients = make()
    start = torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 0.5]], dtype=torch.float64)
    ours = list(descend(_Objective(features, labels, gradients, 0.7, shrink), start, 6))
    assert len(ours) == 7
    for run in range(2):
        logits = start[run].clone().requires_grad_()
        optimizer = torch.optim.Adam([logits], lr=LR)
        for weights, losses in ours:
            alpha = torch.softmax(logits, 0)
            loss = literal_loss(alpha, features, labels, gradients, 0.7, shrink)
            torch.testing.assert_close(weights[run], alpha.detach(), rtol=0, atol=1e-9)
            torch.testing.assert_close(losses[run], loss.detach(), rtol=0, atol=1e-9)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@pytest.mark.parametrize("shrinkage", ["ledoit-wolf", None])
def test_transferability_is_the_h_score_of_fused_features(shrinkage):
    features, labels, gradients = make(M=4)
    alpha = np.array([0.1, 0.2, 0.3, 0.4])
    objective = _Objective(features, labels, gradients, 1.0, shrinkage is not None)
    fused = np.tensordot(alpha, features, 1)
    ours = float(objective.transferability(torch.from_numpy(alpha)[None]))
    assert ours == pytest.approx(h_score(fused, labels, shrinkage=shrinkage), abs=1e-9)


@pytest.mark.parametrize(("N", "D"), [(60, 6), (10, 30), (40, 1)])
def test_shrinkage_is_that_of_scikit_learn(N, D):
    X = np.random.default_rng(0).normal(size=(N, D)) * np.linspace(0.5, 2, D)
    X -= X.mean(0)
    S = X.T @ X / N
    fourth = np.square(np.square(X).sum(1)).mean()
    expected = sklearn_ledoit_wolf(X, assume_centered=True)[1]
    sums = [float(np.trace(S)), float(np.square(S).sum()), float(fourth)]
    assert ledoit_wolf(*sums, N, D) == pytest.approx(expected, abs=1e-12)
    tensors = [torch.tensor(value, dtype=torch.float64) for value in sums]
    assert float(ledoit_wolf(*tensors, N, D)) == pytest.approx(expected, abs=1e-12)


def test_weights_are_no_worse_than_any_on_a_fine_grid():
    features, labels, gradients = make()
    found = ensemble_weights(features, labels, gradients, lam=0.5, steps=400)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    objective = _Objective(features, labels, gradients, 0.5, True)
    ticks = np.linspace(0, 1, 21)
    grid = np.array([(a, b, 1 - a - b) for a in ticks for b in ticks if a + b <= 1 + 1e-9])
    assert float(objective(torch.from_numpy(found)[None])) <= float(objective(torch.from_numpy(grid)).min()) + 1e-5
    assert found[0] > 0.5


def test_the_alignment_loss_alone_is_least_at_equal_weights():
    features, labels, gradients = make()
    assert ensemble_weights(features, labels, gradients, lam=1e4) == pytest.approx([1 / 3] * 3, abs=1e-3)
    assert ensemble_weights(features, labels, gradients, lam=0)[0] > 0.5


def test_one_source_gets_all_the_weight_and_identical_sources_share_it():
    features, labels, gradients = make()
    assert ensemble_weights(features[:1], labels, gradients[:1]) == pytest.approx([1])
    same = ensemble_weights(np.repeat(features[:1], 3, 0), labels, np.repeat(gradients[:1], 3, 0), restarts=1)
    assert same == pytest.approx([1 / 3] * 3, abs=1e-5)


def test_the_search_ends_when_weights_stand_still():
    features, labels, gradients = make()
    objective = _Objective(features, labels, gradients, 1.0, True)
    seen = list(descend(objective, torch.zeros(1, 3, dtype=torch.float64), 5000))
    assert len(seen) < 5000
    step = (seen[-1][0] - seen[-2][0]).abs().max()
    assert step <= 1e-6 < (seen[-2][0] - seen[-3][0]).abs().max()


def test_a_seed_gives_one_result_and_torch_inputs_the_same():
    features, labels, gradients = make()
    first, again = (ensemble_weights(features, labels, gradients, steps=5, seed=3) for _ in range(2))
    tensors = [torch.from_numpy(each) for each in (features, labels, gradients)]
    assert first.tolist() == again.tolist() == ensemble_weights(*tensors, steps=5, seed=3).tolist()


def test_opposite_gradients_leave_a_finite_loss():
    features, labels, gradients = make(M=2)
    objective = _Objective(features, labels, np.stack([gradients[0], -gradients[0]]), 1.0, True)
    start = torch.zeros(1, 2, dtype=torch.float64)
    assert all(bool(torch.isfinite(each).all()) for pair in descend(objective, start, 5) for each in pair)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"lam": -1.0}, "lam is -1"),
        ({"lam": float("nan")}, "lam is nan"),
        ({"shrinkage": "oas"}, "'oas'"),
        ({"labels": np.zeros(60)}, "class 0"),
        ({"labels": np.arange(60) % 3 - 1}, "is -1"),
        ({"gradients": np.zeros((3, 4))}, "gradient of source 0 is zero"),
        ({"gradients": np.ones((2, 4))}, "same prompts"),
        ({"gradients": np.ones(3)}, "flat row"),
        ({"features": np.ones((3, 60, 6))}, "features of source 0 are the same"),
        ({"features": np.full((3, 60, 6), np.nan)}, "features of source 0 hold NaN"),
        ({"features": [np.eye(60)[:, :6], np.eye(60)[:, :5], np.eye(60)[:, :6]]}, "same examples and width"),
        ({"features": np.eye(60)[None].repeat(3, 0), "shrinkage": None}, "60 examples 60 wide"),
        ({"features": np.eye(60)[None, :, [0, 1, 1]].repeat(3, 0), "shrinkage": None}, "singular"),
    ],
)
def test_bad_input_is_named(change, message):
    features, labels, gradients = make()
    arguments = {"features": features, "labels": labels, "gradients": gradients, **change}
    with pytest.raises(InputError, match=message):
        ensemble_weights(**arguments)
