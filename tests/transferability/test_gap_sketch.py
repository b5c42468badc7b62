"""The gap from sketches: exact where it is, near and in order where it is not."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from promptgraft.transferability import modality_gap
from promptgraft.transferability.base import ESTIMATORS, Evidence
from promptgraft.transferability.gap_sketch import _Patches
from promptgraft.transferability.mmd import median_bandwidth
from promptgraft.transferability.sketch import sketch

Rows = NDArray[np.float32]

D = 96


def evidence(patches: Rows, prompts: Sequence[Rows] = ()) -> Evidence:
    def absent(*_: Any) -> Any:
        raise AssertionError("not asked for")

    return Evidence(list(prompts), [], lambda: patches, absent, absent, seed=3)


def by_sketch(name: str, prompts: Sequence[Rows], patches: Rows) -> NDArray[np.float64]:
    scorer = ESTIMATORS[name].by_sketch
    assert scorer is not None
    return scorer(evidence(patches))(sketch(prompts, [0] * len(prompts)))


def exactly(name: str, prompts: Sequence[Rows], patches: Rows) -> NDArray[np.float64]:
    return ESTIMATORS[name].score(evidence(patches, prompts))


@pytest.fixture(scope="module")
def patches() -> Rows:
    """Words: an uneven cloud about a mean, and one in 20 far off, as special tokens are."""
    rng = np.random.default_rng(0)
    cloud = rng.normal(0, 1, (600, D)) * rng.gamma(2, 0.5, (600, 1)) * np.linspace(2, 0.2, D) + rng.normal(0, 0.3, D)
    cloud[::20] += 3 * rng.normal(0, 1, D)
    return cloud.astype("f4")


@pytest.fixture(scope="module")
def prompts() -> list[Rows]:
    rng = np.random.default_rng(1)
    scales, lengths = rng.lognormal(0, 0.7, 300), rng.choice([10, 25], 300)
    return [
        (scale * (rng.normal(0, 1, (length, D)) + rng.normal(0, 0.4, D))).astype("f4")
        for scale, length in zip(scales, lengths, strict=True)
    ]


@pytest.mark.parametrize("name", ["gap", "gap-rbf"])
def test_the_best_by_gap_are_among_the_best_by_sketch(name: str, prompts: list[Rows], patches: Rows) -> None:
    near, exact = by_sketch(name, prompts, patches), exactly(name, prompts, patches)
    best = set(np.argsort(-exact)[:10])
    assert best <= set(np.argsort(-near)[:14])
    errors = exact - near
    assert errors[np.argsort(-exact)[:30]].std() < 0.02 * exact.std()


@pytest.fixture(scope="module")
def clusters() -> list[Rows]:
    """Rows of twelve prompts at scales far apart: a few are much longer than all others, so draws differ."""
    rng = np.random.default_rng(7)
    shapes = rng.normal(0, 1, (12, 50, D)) * rng.gamma(1, 1, (12, 50, 1)) + rng.normal(0, 0.5, (12, 1, D))
    return [(scale * shape).astype("f4") for scale, shape in zip(2.0 ** np.linspace(-3, 3, 12), shapes, strict=True)]


def test_targets_whose_draws_differ_much(clusters: list[Rows]) -> None:
    """The target's rows are those that prompts are made of. With one bandwidth errors are three times these."""
    rng = np.random.default_rng(8)
    prompts = [
        (rng.uniform() * clusters[a] + rng.uniform() * clusters[b][rng.permutation(50)])[:25]
        for a, b in rng.integers(0, 12, (400, 2))
    ]
    patches = np.concatenate(clusters)
    near, exact = by_sketch("gap", prompts, patches), exactly("gap", prompts, patches)
    assert set(np.argsort(-exact)[:10]) <= set(np.argsort(-near)[:14])
    assert (exact - near).std() < 0.07 * exact.std()


def test_two_bandwidths_have_the_moments_of_the_draws_own(clusters: list[Rows]) -> None:
    """For a prompt in the patches' mean, whose distances to a draw do not depend on the draw's mean."""
    patches, P, n = np.concatenate(clusters).astype(np.float64), 20, 600
    centre, generator = patches.mean(0), np.random.default_rng(3)
    draws = [order[start : start + P] for order in map(generator.permutation, [n] * 5) for start in range(0, n, P)]
    literal = []
    for draw in draws:
        own, other = patches[draw], np.tile(centre, (P, 1))
        both = np.concatenate([own, other])
        literal.append(np.square(both[:, None] - both).sum() / (2 * P * (2 * P - 1)))
    (first, below), (second, above) = _Patches(patches.astype("f4"), 3).offsets(np.full(1, P, np.float64))
    away = np.array(literal) - np.mean(literal)
    assert first + second == pytest.approx(1)
    assert first * below + second * above == pytest.approx(0, abs=1e-6 * away.std())
    for power in (2, 3):
        assert first * below**power + second * above**power == pytest.approx(np.mean(away**power), rel=1e-4)


def test_the_linear_gap_is_exact_but_for_a_constant(prompts: list[Rows], patches: Rows) -> None:
    prompts = [prompt[:10] for prompt in prompts]  # 600 patches are 60 draws of 10, and none is left over
    near, exact = by_sketch("gap-linear", prompts, patches), exactly("gap-linear", prompts, patches)
    np.testing.assert_allclose(near - near[0], exact - exact[0], rtol=1e-3, atol=1e-3 * np.abs(exact).min())


def test_mean_of_gaussians_where_distances_are_all_alike() -> None:
    """One patch often, one row often: 2 k(x, y) - 1 - 1 with a fixed bandwidth."""
    rng = np.random.default_rng(2)
    x, Y = rng.normal(0, 1, (5, D)), rng.normal(0, 1, (400, D)).astype("f4")
    prompts = [np.tile(row, (4, 1)).astype("f4") for row in x]
    w = median_bandwidth(Y, seed=3)
    squares = np.square(Y[None] - x[:, None]).sum(2)
    inside = np.square(Y[None] - Y[:, None]).sum(2)[np.triu_indices(400, 1)]
    literal = 2 * np.exp(-squares / w).mean(1) - 1 - np.exp(-inside / w).mean()
    np.testing.assert_allclose(by_sketch("gap-rbf", prompts, Y), literal, atol=2e-3)


def test_scores_do_not_change_when_all_is_shifted(prompts: list[Rows], patches: Rows) -> None:
    shift = np.linspace(-1, 1, D, dtype="f4")
    here, there = (by_sketch("gap", [p + s for p in prompts[:40]], patches + s) for s in (0 * shift, shift))
    assert np.abs(here - there).max() < 0.03 * here.std()


def test_prompts_that_the_gap_has_no_score_for(prompts: list[Rows], patches: Rows) -> None:
    others = [prompts[0][:1], prompts[0], np.tile(prompts[0], (70, 1))]
    for name in ("gap", "gap-rbf", "gap-linear"):
        np.testing.assert_array_equal(np.isnan(by_sketch(name, others, patches)), [True, False, True])
        assert np.isnan(by_sketch(name, [prompts[0][:, :9]], patches)).all()


def test_the_default_bandwidth_has_a_name() -> None:
    rng = np.random.default_rng(6)
    prompt, many = rng.normal(0, 1, (1, 4, 5)).astype("f4"), rng.normal(0, 1, (1500, 5)).astype("f4")
    w = median_bandwidth(many, seed=5)
    given, named = (modality_gap(prompt, many, kernel="rbf", seed=5, bandwidth=width) for width in (None, w))
    assert given == named
    assert w != median_bandwidth(many, epochs=1, seed=5)  # other 1,000 of the patches


def test_rows_that_cannot_be_squared_have_no_score(prompts: list[Rows], patches: Rows) -> None:
    others = [prompts[0], np.full_like(prompts[0], 1e30)]
    for name in ("gap", "gap-rbf", "gap-linear"):
        assert np.isfinite(by_sketch(name, others, patches)[0])
        assert not by_sketch(name, others, patches)[1] > -1e30


@pytest.mark.parametrize("width", [1, 3])
def test_narrow_prompts(width: int) -> None:
    rng = np.random.default_rng(4)
    near = by_sketch("gap", [rng.normal(0, 1, (5, width)).astype("f4")], rng.normal(0, 1, (50, width)).astype("f4"))
    assert np.isfinite(near).all()
