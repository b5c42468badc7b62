"""`task_gap` against the paper's procedure with every row projected, and `transferability` (eq. 6)."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from promptgraft.errors import CompatibilityError, InputError
from promptgraft.transferability import (
    ESTIMATORS,
    Evidence,
    kendall,
    modality_gap,
    prompt_norm,
    task_gap,
    transferability,
)

THUNLP = Path(os.environ.get("PROMPTGRAFT_SHARED", "../shared")) / "data" / "thunlp"


def literal(prompts, target, *, lr=1e-4, weight_decay=0.1, epochs=100, seed=0):
    """Appendix C.4.2 row by row: shuffle and mix, project every row, autograd, torch's own Adam; then eq. 5."""
    prompts = [torch.from_numpy(prompt) for prompt in prompts]
    target = torch.from_numpy(target)
    rows, lengths = torch.cat(prompts), [len(prompt) for prompt in prompts]
    projector = torch.nn.Linear(rows.shape[1], target.shape[1]).to(rows.dtype)
    bound = rows.shape[1] ** -0.5
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (projector.weight, projector.bias):
            start = torch.empty(parameter.shape, dtype=torch.float64).uniform_(-bound, bound, generator=generator)
            parameter.copy_(start)
    optimizer = torch.optim.Adam(projector.parameters(), lr=lr, weight_decay=weight_decay, fused=False, foreach=False)
    shuffles = np.random.default_rng(seed)
    for _ in range(epochs):
        mixed = rows[torch.from_numpy(shuffles.permutation(len(rows)))].split(lengths)
        distances = []
        for group in mixed:
            projected = torch.stack([projector(row) for row in group])
            distances.append((projected.mean(0) - target.mean(0)).square().sum().sqrt())
        optimizer.zero_grad()
        torch.stack(distances).mean().backward()
        optimizer.step()
    gaps = []
    with torch.no_grad():
        for prompt in prompts:
            a, b = torch.stack([projector(row) for row in prompt]).mean(0), target.mean(0)
            gaps.append(float(-(a @ b) / (a.norm() * b.norm())))
    return np.array(gaps)


def make(lengths=(4, 4, 4), source=6, target=5, seed=0):
    rng = np.random.default_rng(seed)
    prompts = [rng.normal(0.3, scale, (length, source)) for scale, length in enumerate(lengths, 1)]
    return prompts, rng.normal(0.5, 1, (3, target))


@pytest.mark.parametrize("lengths", [(4, 4, 4), (2, 7, 1, 3)])
@pytest.mark.parametrize("how", [{"epochs": 30}, {"lr": 0.05, "weight_decay": 0.0, "epochs": 40, "seed": 3}], ids=str)
def test_equals_the_literal_procedure(lengths, how):
    prompts, target = make(lengths)
    gaps = task_gap(prompts, target, **how)
    assert gaps.dtype == np.float64
    np.testing.assert_allclose(gaps, literal(prompts, target, **how), rtol=0, atol=1e-10)
    single = [prompt.astype(np.float32) for prompt in prompts], target.astype(np.float32)
    np.testing.assert_allclose(task_gap(*single, **how), gaps, atol=1e-4)


def test_seed_decides_and_training_brings_prompts_nearer():
    prompts, target = make()
    np.testing.assert_array_equal(task_gap(prompts, target, seed=1), task_gap(prompts, target, seed=1))
    assert (task_gap(prompts, target, seed=1) != task_gap(prompts, target, seed=2)).all()
    trained = task_gap(prompts, target, lr=0.02, weight_decay=0.0, epochs=200)
    assert trained.mean() < task_gap(prompts, target, epochs=1).mean() - 0.1
    assert (np.abs(trained) <= 1).all()


PROMPTS, TARGET = make()


@pytest.mark.parametrize(
    ("prompts", "target", "how", "error", "message"),
    [
        (PROMPTS[:1], TARGET, {}, InputError, "got 1 prompt. Give at least two"),
        ([*PROMPTS, PROMPTS[0][:, :3]], TARGET, {}, CompatibilityError, "prompt 3 is 3 wide, prompt 0 is 6 wide"),
        ([*PROMPTS, PROMPTS[0] * np.nan], TARGET, {}, InputError, "prompt 3 holds NaN"),
        ([*PROMPTS, PROMPTS[0] * 0], TARGET, {}, InputError, "row 0 of prompt 3 is all zeros"),
        (PROMPTS, TARGET[0], {}, InputError, r"the target prompt must be \(P, D\)"),
        (PROMPTS, np.vstack([TARGET, -TARGET]), {}, InputError, "rows of the target prompt cancel out"),
        (PROMPTS, TARGET, {"lr": 0.0}, InputError, "lr is 0.0"),
        (PROMPTS, TARGET, {"epochs": 0}, InputError, "epochs is 0"),
        (PROMPTS, TARGET, {"weight_decay": -1.0}, InputError, "weight_decay is -1.0"),
        (PROMPTS, TARGET, {"lr": 1e308}, InputError, "diverged"),
    ],
)
def test_refuses(prompts, target, how, error, message):
    with pytest.raises(error, match=message):
        task_gap(prompts, target, **how)


def test_transferability_adds_as_the_paper_does():
    np.testing.assert_allclose(transferability([1.0, 0.5], [-0.5, 0.25]), [-0.5, -0.75])
    np.testing.assert_allclose(transferability(np.ones(2), torch.tensor([-0.5, 0.25]), weight=2.0), [0.0, -1.5])


@pytest.mark.parametrize(
    ("gaps", "task_gaps", "weight", "message"),
    [
        ([1.0], [1.0, 2.0], 1.0, "1 modality gaps but 2 task gaps"),
        ([np.nan], [1.0], 1.0, "the modality gap of prompt 0 is nan"),
        ([1.0], [1.0], np.inf, "weight is inf"),
    ],
)
def test_transferability_refuses(gaps, task_gaps, weight, message):
    with pytest.raises(InputError, match=message):
        transferability(gaps, task_gaps, weight=weight)


def test_estimators_train_one_projector_for_each_width():
    prompts, target = make((4, 4, 4, 4, 4), source=5)
    wide, alone = [prompt[:, :3] for prompt in prompts[:2]], prompts[2][:, :2]
    patches = np.random.default_rng(5).normal(0, 1, (40, 5))
    mixed = [prompts[3], wide[0], alone, prompts[4], wide[1]]
    evidence = Evidence(mixed, [], lambda: patches, tune_prompt=lambda: target, activate=pytest.fail, seed=2)
    scores = ESTIMATORS["task-gap"].score(evidence)
    np.testing.assert_array_equal(scores[[0, 3]], -task_gap(prompts[3:], target, seed=2))
    np.testing.assert_array_equal(scores[[1, 4]], -task_gap(wide, target, seed=2))
    assert np.isnan(scores[2])
    gaps = modality_gap(prompts[3:], patches, seed=2, unbiased=True)
    total = ESTIMATORS["transferability"].score(evidence)
    np.testing.assert_allclose(total[[0, 3]], transferability(gaps, -scores[[0, 3]]))
    assert np.isnan(total[[1, 2, 4]]).all()


@pytest.mark.real
@pytest.mark.skipif(not THUNLP.is_dir(), reason="published prompts are not here")
def test_the_task_gap_of_the_published_prompts_follows_their_norm_even_to_a_random_target():
    prompts = [
        torch.load(path, map_location="cpu", weights_only=True) for path in sorted(THUNLP.glob("roberta-base/*.pt"))
    ]
    for seed in (42, 44, 100):
        target = np.random.default_rng(seed).normal(0, 0.05, (2, 768)).astype(np.float32)
        assert kendall(-task_gap(prompts, target, seed=seed), prompt_norm(prompts)) > 85
