"""A sketch's fields against their definitions in float64."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from promptgraft.transferability.sketch import FIELDS, OCTAVES, gamma_exponent, sketch


def exponent(distances: Any, w: float) -> float:
    return float(-w * np.log(np.mean(np.exp(-np.asarray(distances) / w))))


def literal(rows: NDArray[np.float32]) -> dict[str, Any]:
    X = rows.astype(np.float64)
    m = X.mean(0)
    u = m / np.linalg.norm(m)
    s = np.array([(x - m) @ (x - m) for x in X])
    along = np.array([u @ (x - m) for x in X])
    pairs = [((X[i] - X[j]) ** 2).sum() for i in range(len(X)) for j in range(i + 1, len(X))]
    weights = [np.exp(-s / w) / np.exp(-s / w).sum() for w in s.mean() * 2**OCTAVES]
    usual = np.exp(-s / s.mean()) / np.exp(-s / s.mean()).sum()
    near = usual @ (X - m)
    v = near / np.linalg.norm(near)

    def curve(d: Any) -> Any:
        widths = np.mean(d) * 2**OCTAVES
        gamma = [-w * np.log((1 + np.var(d) / (np.mean(d) * w)) ** (-(np.mean(d) ** 2) / np.var(d))) for w in widths]
        return ([exponent(d, w) for w in widths] - np.array(gamma)) / np.mean(d)

    return {
        "rows": len(X),
        "norm": np.mean([np.linalg.norm(x) for x in X]),
        "mean_norm": np.linalg.norm(m),
        "scatter": s.mean(),
        "scatter_variance": np.mean((s - s.mean()) ** 2),
        "pair_variance": np.var(pairs),
        "near_scatter": usual @ s,
        "near_spread": usual @ along**2 - (usual @ along) ** 2,
        "scatter_curve": curve(s),
        "pair_curve": curve(pairs),
        "near_along": u @ v,
        "near_curve": [own @ (X - m) @ v for own in weights],
        "direction": u,
        "near_direction": v,
        "unit_mean": np.mean([x / np.linalg.norm(x) for x in X], axis=0),
    }


def test_fields_are_what_they_say() -> None:
    rng = np.random.default_rng(0)
    prompts = [(rng.normal(0.3, 1, (P, 12)) * rng.uniform(0.5, 2, (P, 1))).astype("f4") for P in (7, 3, 7, 30, 3)]
    found = sketch(prompts, [5, 4, 3, 2, 1])
    assert found.keys() == FIELDS.keys()
    assert found["examples"].tolist() == [5, 4, 3, 2, 1]
    for place, prompt in enumerate(prompts):
        for name, value in literal(prompt).items():
            assert found[name].dtype == FIELDS[name][0]
            tolerance: Any = {"atol": 1e-3} if FIELDS[name][0] == "<f2" else {"rtol": 1e-4, "atol": 1e-4}
            np.testing.assert_allclose(found[name][place], value, err_msg=name, **tolerance)


def test_a_far_mean_costs_no_digits() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(0, 1, (9, 20)).astype("f4")
    near, far = (sketch([rows + np.float32(shift)], [0]) for shift in (0, 1000))
    assert far["scatter"] == pytest.approx(near["scatter"], rel=1e-3)
    assert far["pair_variance"] == pytest.approx(near["pair_variance"], rel=1e-2)


def test_what_has_no_direction_is_finite_all_the_same() -> None:
    rows = np.array([[1, -2], [-1, 2]], "f4")
    found = sketch([rows, np.zeros((3, 2), "f4"), rows[:1]], [0, 0, 0])
    assert all(np.isfinite(values).all() for values in found.values())
    np.testing.assert_allclose(found["pair_variance"], 0, atol=1e-3)
    assert (found["mean_norm"][0], found["mean_norm"][1]) == (0, 0)


def test_the_exponent_of_a_gamma_distribution() -> None:
    drawn = np.random.default_rng(0).gamma(4, 0.5, 200_000)
    for w in (0.3, 2.0, 50.0):
        near = gamma_exponent(np.array([2.0]), np.array([1.0]), np.array([w]))
        assert near[0] == pytest.approx(exponent(drawn, w), rel=5e-3)
    assert gamma_exponent(np.array([2.0, 0.0]), np.zeros(2), np.ones(2)) == pytest.approx([2, 0])
