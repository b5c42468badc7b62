"""`h_score`, `log_me`, `leep` and `n_leep` against their definitions taken literally."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.mixture import GaussianMixture

from promptgraft.errors import InputError
from promptgraft.transferability import h_score, leave_one_out, leep, log_me, n_leep
from promptgraft.transferability.leaving_out import STRENGTHS
from promptgraft.transferability.logme import STEPS, TOLERANCE


def make(N=60, D=8, C=4, signal=0.7, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, C, N)
    labels[:C] = range(C)
    return signal * rng.normal(size=(C, D))[labels] + rng.normal(size=(N, D)) + 0.5, labels


def literal_h_score(features, labels, shrink):
    N = len(features)
    x = features - features.mean(0)
    between = np.cov(np.stack([x[labels == y].mean(0) for y in labels]), rowvar=False, bias=True)
    if not shrink:
        return np.trace(np.linalg.pinv(x.T @ x / N, rcond=1e-12) @ between)
    fitted = LedoitWolf().fit(x)
    return (1 - fitted.shrinkage_) * np.trace(np.linalg.inv(fitted.covariance_) @ between)


@pytest.mark.parametrize(("N", "D"), [(60, 8), (200, 8), (20, 30)])
@pytest.mark.parametrize("shrinkage", ["ledoit-wolf", None])
@pytest.mark.filterwarnings("ignore:the plain H-score")
def test_h_score_is_its_definition(N, D, shrinkage):
    features, labels = make(N, D)
    assert h_score(features, labels, shrinkage=shrinkage) == pytest.approx(
        literal_h_score(features, labels, shrinkage is not None), abs=1e-8
    )


def test_h_score_ignores_dead_features_without_shrinkage():
    features, labels = make()
    wider = np.hstack([features, np.zeros((60, 2)), features[:, :1]])
    assert h_score(wider, labels, shrinkage=None) == pytest.approx(h_score(features, labels, shrinkage=None))


def test_plain_h_score_saturates_on_random_labels_and_says_so():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 50)), np.arange(40) % 5
    with pytest.warns(UserWarning, match=r"40 examples 50 wide is 4\.000 of at most 4"):
        assert h_score(features, labels, shrinkage=None) == pytest.approx(4)
    assert h_score(features, labels) < 0.5


def literal_log_me(features, labels):
    """Eq. 2 and the fixed point of You et al. with D x D matrices."""
    N, D = features.shape
    total = []
    for c in np.unique(labels):
        y = (labels == c).astype(float)
        alpha = beta = ratio = 1.0
        for _ in range(STEPS):
            A = alpha * np.eye(D) + beta * features.T @ features
            m = beta * np.linalg.solve(A, features.T @ y)
            eigenvalues = np.linalg.eigvalsh(beta * features.T @ features)
            gamma = (eigenvalues / (alpha + eigenvalues)).sum()
            alpha, beta = gamma / (m @ m), (N - gamma) / np.square(y - features @ m).sum()
            last, ratio = ratio, alpha / beta
            if abs(ratio - last) <= TOLERANCE * last:
                break
        A = alpha * np.eye(D) + beta * features.T @ features
        m = beta * np.linalg.solve(A, features.T @ y)
        evidence = D / 2 * math.log(alpha) + N / 2 * math.log(beta) - N / 2 * math.log(2 * math.pi)
        evidence -= beta / 2 * np.square(y - features @ m).sum() + alpha / 2 * m @ m
        total.append((evidence - 0.5 * np.linalg.slogdet(A)[1]) / N)
    return np.mean(total)


@pytest.mark.parametrize(("N", "D"), [(60, 8), (200, 20), (25, 40)])
def test_log_me_is_its_definition(N, D):
    features, labels = make(N, D)
    assert log_me(features, labels) == pytest.approx(literal_log_me(features, labels), abs=1e-8)


def test_log_me_is_the_greatest_evidence():
    """The marginal likelihood N(y; 0, I / β + F Fᵀ / α) over a grid of precisions stays below it."""
    features, labels = make(30, 4, 2)
    best = 0.0
    for c in (0, 1):
        y = (labels == c).astype(float)
        best += max(
            multivariate_normal.logpdf(y, np.zeros(30), np.eye(30) / beta + features @ features.T / alpha)
            for alpha in np.geomspace(0.1, 1000, 40)
            for beta in np.geomspace(0.1, 100, 30)
        )
    assert 0 <= log_me(features, labels) - best / 60 < 1e-3


def test_log_me_stays_finite_where_a_precision_has_no_bound():
    labels = np.arange(12) % 3
    exact = log_me(np.eye(3)[labels], labels)
    balanced = np.tile(np.array([[1.0], [1.0], [1.0], [-1.0], [-1.0], [-1.0]]), (2, 1))  # orthogonal to every class
    useless = log_me(balanced, labels)
    empty = 0.5 * math.log(12 / 4 / (2 * math.pi)) - 0.5  # of y ~ N(0, I / β) alone
    assert math.isfinite(exact)
    assert useless == pytest.approx(empty, abs=1e-6)
    assert useless < exact


def literal_leave_one_out(features, labels):
    """One ridge regression per left-out example and strength."""
    N, C = len(labels), labels.max() + 1
    Y = np.eye(C)[labels]
    scale = np.square(np.linalg.svd(features - features.mean(0), compute_uv=False)).mean()
    errors = []
    for strength in STRENGTHS:
        total = 0.0
        for n in range(N):
            rest = np.arange(N) != n
            ridge = Ridge(alpha=strength * scale, solver="cholesky").fit(features[rest], Y[rest])
            total += np.square(Y[n] - ridge.predict(features[n : n + 1])[0]).sum()
        errors.append(total / N)
    return -min(errors)


@pytest.mark.parametrize(("N", "D"), [(30, 4), (15, 20)])
def test_leave_one_out_is_what_fitting_anew_without_each_example_gives(N, D):
    features, labels = make(N, D)
    assert leave_one_out(features, labels) == pytest.approx(literal_leave_one_out(features, labels), abs=1e-8)


def test_leave_one_out_of_noise_is_no_better_than_the_class_shares():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 4
    shares = -0.75 * (200 / 199) ** 2  # of predicting the shares of the other examples
    assert leave_one_out(rng.normal(size=(200, 300)), labels) == pytest.approx(shares, abs=0.02)
    assert leave_one_out(*make(200, 8, signal=3)) > -0.2


def literal_leep(theta, labels):
    N, Z = len(theta), len(theta[0])
    joint = {y: [sum(theta[n][z] for n in range(N) if labels[n] == y) / N for z in range(Z)] for y in set(labels)}
    total = 0.0
    for n in range(N):
        expected = 0.0
        for z in range(Z):
            marginal = sum(joint[y][z] for y in joint)
            if marginal > 0:
                expected += joint[labels[n]][z] / marginal * theta[n][z]
        total += math.log(expected)
    return total / N


def test_leep_is_its_definition_with_dead_source_classes():
    theta = np.random.default_rng(0).dirichlet(np.ones(7), 30)
    theta[:, 3] = 0
    theta /= theta.sum(1, keepdims=True)
    labels = np.arange(30) % 3
    assert leep(theta, labels) == pytest.approx(literal_leep(theta.tolist(), labels.tolist()), abs=1e-12)


def test_leep_at_its_ends():
    labels = np.arange(12) % 4
    assert leep(np.eye(4)[labels], labels) == pytest.approx(0)
    assert leep(np.full((12, 5), 0.2), labels) == pytest.approx(-math.log(4))


def test_n_leep_is_leep_of_the_posterior_of_a_mixture():
    features, labels = make(80, 6, 3, signal=3)
    scores = PCA(n_components=0.8, svd_solver="full").fit_transform(features)
    fitted = GaussianMixture(6, random_state=0).fit(scores)
    densities = np.stack(
        [
            w * multivariate_normal.pdf(scores, m, S)
            for w, m, S in zip(fitted.weights_, fitted.means_, fitted.covariances_, strict=True)
        ],
        axis=1,
    )
    literal = literal_leep((densities / densities.sum(1, keepdims=True)).tolist(), labels.tolist())
    assert n_leep(features, labels, components=6) == pytest.approx(literal, abs=1e-6)
    assert n_leep(features, np.random.default_rng(1).permutation(labels), components=6) < literal - 0.2


SCORES = {
    "h_score": h_score,
    "leave_one_out": leave_one_out,
    "log_me": log_me,
    "n_leep": lambda features, labels: n_leep(features, labels, components=2),
    "leep": lambda features, labels: leep(features, labels),
}


@pytest.mark.parametrize("name", SCORES)
def test_what_labels_may_be(name):
    features = np.random.default_rng(0).dirichlet(np.ones(5), 20)
    labels = np.arange(20) % 3
    score = SCORES[name]
    assert score(torch.from_numpy(features), torch.from_numpy(labels)) == pytest.approx(score(features, labels))
    assert score(features, labels * 2) == pytest.approx(
        score(features, labels)
    )  # class 1 of 0, 1, 2, .. has no example
    assert math.isfinite(score(features, np.r_[3, np.zeros(19, int)]))  # a class of one example
    for bad, message in [
        (labels[:-1], "one per example"),
        (labels - 1, "is -1"),
        (labels + 0.5, "whole numbers"),
        (labels * math.nan, "whole numbers"),
        (labels * 0 + 2, "of class 2"),
    ]:
        with pytest.raises(InputError, match=message):
            score(features, bad)
    spoilt = features.copy()
    spoilt[4, 1] = math.nan
    with pytest.raises(InputError, match="row 4"):
        score(spoilt, labels)
    with pytest.raises(InputError, match=r"\(N, D\)"):
        score(features[0], labels)


def test_constant_features_are_refused_or_have_a_value():
    features, labels = np.ones((12, 3)), np.arange(12) % 3
    for score in (h_score, leave_one_out, SCORES["n_leep"]):
        with pytest.raises(InputError, match="same for all 12"):
            score(features, labels)
    assert math.isfinite(log_me(features, labels))  # not centred: they explain the share of a class
    with pytest.raises(InputError, match="zero for every example"):
        log_me(0 * features, labels)


def test_other_bad_input_is_named():
    features, labels = make()
    with pytest.raises(InputError, match="'oas'"):
        h_score(features, labels, shrinkage="oas")
    with pytest.raises(InputError, match="components is 61"):
        n_leep(features, labels, components=61)
    with pytest.raises(InputError, match="below zero"):
        leep(features - 3, labels)
    with pytest.raises(InputError, match="not to 1"):
        leep(np.abs(features) + 1, labels)
