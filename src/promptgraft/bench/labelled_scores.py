"""Transferability from labelled features: one factorisation for all classes and examples, against the definitions."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from promptgraft import transferability
from promptgraft.bench.base import Row, Size, compare
from promptgraft.transferability import leaving_out, logme

Floats = NDArray[np.float64]


def labelled_scores(size: Size) -> list[Row]:
    """1,000 examples of 768 features, 10 classes, in float64 (smoke: 24 of 6, 3 classes)."""
    N, D, C, left_out, rounds = (1000, 768, 10, 1, 3) if size != "smoke" else (24, 6, 3, 24, 1)
    rng = np.random.default_rng(0)
    labels = np.arange(N) % C
    features = 0.3 * rng.normal(size=(C, D))[labels] + rng.normal(size=(N, D))
    small, few = features[: 12 * C, : max(D // 16, 6)], labels[: 12 * C]  # on which the definitions are held against

    def row(name: str, baseline: str, ours: Callable[..., float], theirs: Callable[..., float], share: float) -> Row:
        mine, other = ours(small, few), theirs(small, few, range(len(few)))
        return compare(
            f"labelled-{name}",
            baseline,
            lambda: ours(features, labels),
            lambda: theirs(features, labels, range(left_out)),
            error=abs(mine - other) / abs(other),
            rounds=rounds,
            share=share,
            operations=2 * N * D * D,
            note=f"{N} x {D}, {C} classes" + ("" if share == 1 else f"; baseline on {left_out} of {N}, scaled up"),
        )

    return [
        row("h-score", "by an inverse", transferability.h_score, _h_score, 1),
        row("log-me", "D x D by class", transferability.log_me, _log_me, 1),
        row("leave-one-out", "a fit per example", transferability.leave_one_out, _leave_one_out, left_out / N),
    ]


def _h_score(features: Floats, labels: NDArray[np.int64], _: range) -> float:
    """Bao et al. 2019, eq. 5, with the covariance shrunk as Ledoit and Wolf do."""
    from sklearn.covariance import LedoitWolf

    x = features - features.mean(0)
    fitted = LedoitWolf().fit(x)
    between = np.cov(np.stack([x[labels == y].mean(0) for y in labels]), rowvar=False, bias=True)
    return float((1 - fitted.shrinkage_) * np.trace(np.linalg.inv(fitted.covariance_) @ between))


def _log_me(features: Floats, labels: NDArray[np.int64], _: range) -> float:
    """You et al. 2021, eq. 2 and the fixed point, by D x D systems."""
    N, D = features.shape
    total = 0.0
    for c in np.unique(labels):
        y = (labels == c).astype(float)
        eigenvalues = np.linalg.eigvalsh(features.T @ features)
        alpha = beta = ratio = 1.0
        for _step in range(logme.STEPS):
            A = alpha * np.eye(D) + beta * features.T @ features
            m = beta * np.linalg.solve(A, features.T @ y)
            gamma = (eigenvalues * beta / (alpha + eigenvalues * beta)).sum()
            alpha, beta = gamma / (m @ m), (N - gamma) / np.square(y - features @ m).sum()
            last, ratio = ratio, alpha / beta
            if abs(ratio - last) <= logme.TOLERANCE * last:
                break
        A = alpha * np.eye(D) + beta * features.T @ features
        m = beta * np.linalg.solve(A, features.T @ y)
        evidence = (D * np.log(alpha) + N * np.log(beta / (2 * np.pi)) - np.linalg.slogdet(A)[1]) / 2
        total += (evidence - (beta * np.square(y - features @ m).sum() + alpha * m @ m) / 2) / N
    return float(total / len(np.unique(labels)))


def _leave_one_out(features: Floats, labels: NDArray[np.int64], left_out: range) -> float:
    """One ridge regression for every left-out example and strength."""
    from sklearn.linear_model import Ridge

    Y = np.eye(labels.max() + 1)[labels]
    scale = np.square(np.linalg.svd(features - features.mean(0), compute_uv=False)).mean()
    errors = np.zeros(len(leaving_out.STRENGTHS))
    for n in left_out:
        rest = np.arange(len(labels)) != n
        for i, strength in enumerate(leaving_out.STRENGTHS):
            ridge = Ridge(alpha=strength * scale, solver="cholesky").fit(features[rest], Y[rest])
            errors[i] += np.square(Y[n] - ridge.predict(features[n : n + 1])[0]).sum()
    return -float(errors.min() / len(left_out))
