"""Leave-one-out error of a ridge regression on the features: what the linear probe under the prompt would miss."""

import numpy as np

from promptgraft.transfer.labelled import as_classes, as_features, centred
from promptgraft.transferability.arrays import Array
from promptgraft.transferability.base import Estimator
from promptgraft.transferability.grafted import score_each

STRENGTHS = np.logspace(-4, 2, 25)  # times the mean squared singular value; the best of them is taken


def leave_one_out(features: Array, labels: Array) -> float:
    """Minus the squared error of ridge regression on one-hot labels, each example left out in turn; larger = better.

    Allen, "The Relationship between Variable Selection and Data Agumentation and a Method for Prediction",
    Technometrics 1974 (https://doi.org/10.1080/00401706.1974.10489157): with H the matrix that maps labels to fitted
    values, an example's error without it is its residual over 1 - H_nn, so nothing is fitted anew: exact, one SVD for
    all examples, classes and 25 ridge strengths. The intercept is not penalised. The strength is the one of the
    smallest error, which stands in for tuning the probe: from 1e-4 to 100 times the mean squared singular value.

    Args:
        features: (N, D), numpy or torch, computed with in float64.
        labels: (N,) classes from 0 on.

    Raises:
        InputError: shapes do not fit, values are not finite, all examples are alike, or there is one class only.
    """
    F = as_features(features)
    N = len(F)
    y, counts = as_classes(labels, N)
    Y = np.eye(len(counts))[y]
    Y -= Y.mean(0)
    U, S, _ = np.linalg.svd(centred(F), full_matrices=False)
    sigma = np.square(S)
    Z, U2 = U.T @ Y, np.square(U)
    errors = []
    for ridge in STRENGTHS * sigma.mean():
        kept = sigma / (sigma + ridge)
        left = 1 - 1 / N - U2 @ kept  # 1 - H_nn, the intercept's 1 / N in H; positive, as kept < 1
        residuals = (Y - (U * kept) @ Z) / left[:, None]
        errors.append(np.square(residuals).sum(1).mean())
    return -float(min(errors))


LEAVE_ONE_OUT = Estimator(
    name="leave-one-out",
    summary="minus the leave-one-out error of a ridge regression on the features under the prompt",
    paper="Allen, PRESS (https://doi.org/10.1080/00401706.1974.10489157)",
    needs="features",
    cost="M forwards of at most 1,000 examples, an SVD (N, D) each",
    applies="prompts of a shape that the backbone takes",
    score=lambda evidence: score_each(evidence, lambda seen: leave_one_out(seen.features, seen.labels)),
)
