"""`modality_gap` against a slow literal restatement of Algorithm 1, its properties, and what it refuses."""

import numpy as np
import pytest
import torch

from promptgraft.errors import CompatibilityError, InputError
from promptgraft.transferability import ESTIMATORS, Evidence, mmd, modality_gap

KERNELS = [
    {"kernel": "rbf5"},
    {"kernel": "rbf5", "bandwidth": 3.0},
    {"kernel": "rbf"},
    {"kernel": "rbf", "bandwidth": 7.0},
    {"kernel": "linear"},
]
SHAPES = [(3, 4, 6, 41), (2, 7, 5, 7), (4, 10, 16, 95)]  # M, P, D, n
CASES = [(shape, unbiased) for shape in SHAPES for unbiased in (False, True)] + [((1, 1, 3, 5), False)]


def literal(prompts, patches, *, kernel, bandwidth=None, epochs=5, seed=0, unbiased=False):
    """Algorithm 1 as it is written, in float64: shuffle, draw P rows until none are left, average the MMD."""
    prompts, patches = np.asarray(prompts, float), np.asarray(patches, float)
    n, P = len(patches), prompts.shape[1]
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(n) for _ in range(epochs)]
    if kernel == "rbf" and bandwidth is None:
        rows = patches[generator.choice(n, min(n, 1000), replace=False)]
        bandwidth = np.median([((a - b) ** 2).sum() for i, a in enumerate(rows) for b in rows[:i]])
    gaps = []
    for prompt in prompts:
        total, steps = 0.0, 0
        for order in orders:
            remaining = list(order)
            while len(remaining) >= P:
                draw, remaining = patches[remaining[:P]], remaining[P:]
                total += literal_mmd(prompt, draw, kernel, bandwidth, unbiased)
                steps += 1
        gaps.append(total / steps)
    return np.array(gaps)


def literal_mmd(x, y, kernel, bandwidth, unbiased):
    """The public snippet: one (2P, 2P, D) broadcast, then blocks of the kernel matrix."""
    rows = np.concatenate([x, y])
    n, P = len(rows), len(x)
    distances = ((rows[None] - rows[:, None]) ** 2).sum(2)
    if kernel == "linear":
        K = rows @ rows.T
    elif kernel == "rbf":
        K = np.exp(-distances / bandwidth)
    else:
        base = (distances.sum() / (n**2 - n) if bandwidth is None else bandwidth) / 2 ** (5 // 2)
        K = sum(np.exp(-distances / (base * 2**i)) for i in range(5))
    xx, yy, xy, yx = K[:P, :P], K[P:, P:], K[:P, P:], K[P:, :P]
    if unbiased:
        off = ~np.eye(P, dtype=bool)
        return xx[off].mean() + yy[off].mean() - 2 * xy.mean()
    return np.mean(xx + yy - xy - yx)


def make(M, P, D, n, seed=0, dtype=float):
    rng = np.random.default_rng(seed)
    prompts = rng.normal(0.3, 1, (M, P, D)) * np.linspace(0.3, 3, M)[:, None, None]
    return prompts.astype(dtype), rng.normal(0, 0.8, (n, D)).astype(dtype)


@pytest.mark.parametrize(("shape", "unbiased"), CASES)
@pytest.mark.parametrize("how", KERNELS, ids=str)
def test_equals_the_literal_algorithm(how, shape, unbiased):
    for dtype, tolerance in ((np.float64, 1e-6), (np.float32, 1e-4)):
        prompts, patches = make(*shape, dtype=dtype)
        gaps = modality_gap(prompts, patches, seed=3, epochs=2, unbiased=unbiased, **how)
        expected = literal(prompts, patches, seed=3, epochs=2, unbiased=unbiased, **how)
        assert gaps.dtype == np.float64
        np.testing.assert_allclose(gaps, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("how", KERNELS, ids=str)
def test_chunks_and_groups_change_nothing(how, monkeypatch):
    prompts, patches = make(5, 4, 6, 43)
    whole = modality_gap(prompts, patches, **how)
    monkeypatch.setattr(mmd, "_CHUNK", 70)
    monkeypatch.setattr(mmd, "_CROSS_BYTES", 2 * 4 * 43 * 8)  # two prompts at a time
    np.testing.assert_allclose(modality_gap(prompts, patches, **how), whole, rtol=1e-12)


@pytest.mark.parametrize("how", KERNELS, ids=str)
def test_float32_survives_an_offset_that_dwarfs_the_distances(how):
    prompts, patches = make(3, 8, 12, 64)
    shifted = (prompts + 300).astype(np.float32), (patches + 300).astype(np.float32)
    np.testing.assert_allclose(
        modality_gap(*shifted, **how), literal(*shifted, **how), rtol=1e-4, atol=1e-4
    )  # of the same rounded inputs


def test_the_linear_kernel_measures_the_distance_of_means():
    prompts = np.full((1, 2, 3), 2.0)
    assert modality_gap(prompts, np.zeros((6, 3)), kernel="linear") == pytest.approx([12.0])


@pytest.mark.parametrize("how", KERNELS, ids=str)
def test_same_distribution_has_no_gap(how):
    rng = np.random.default_rng(0)
    same = rng.normal(0, 1, (20, 20, 8))
    patches = rng.normal(0, 1, (800, 8))
    gaps = modality_gap(same, patches, unbiased=True, epochs=1, **how)
    apart = modality_gap(same + 1, patches, unbiased=True, epochs=1, **how)
    assert abs(gaps.mean()) < 0.02 * apart.mean()


def test_order_of_rows_in_a_prompt_and_of_prompts_does_not_matter():
    prompts, patches = make(3, 6, 5, 50)
    gaps = modality_gap(prompts, patches)
    np.testing.assert_allclose(modality_gap(prompts[:, ::-1], patches), gaps, rtol=1e-12)
    np.testing.assert_allclose(modality_gap(prompts[::-1], patches), gaps[::-1], rtol=1e-12)
    np.testing.assert_allclose(modality_gap(prompts[1:2], patches), gaps[1:2], rtol=1e-12)


def test_seed_decides_the_draws():
    prompts, patches = make(2, 6, 5, 50)
    assert (modality_gap(prompts, patches, seed=1) == modality_gap(prompts, patches, seed=1)).all()
    assert (modality_gap(prompts, patches, seed=1) != modality_gap(prompts, patches, seed=2)).all()


def test_torch_numpy_lists_and_read_only_arrays_agree(recwarn):
    prompts, patches = make(2, 6, 5, 50, dtype=np.float32)
    expected = modality_gap(prompts, patches)
    patches.setflags(write=False)
    prompts.setflags(write=False)
    np.testing.assert_array_equal(modality_gap(list(prompts), patches), expected)
    tensors = torch.tensor(prompts, requires_grad=True), torch.tensor(patches)
    np.testing.assert_array_equal(modality_gap(*tensors), expected)
    low = modality_gap(tensors[0].bfloat16(), tensors[1].bfloat16())
    np.testing.assert_allclose(low, expected, rtol=0.05)
    assert not recwarn.list


def poisoned(array, index):
    array = array.copy()
    array[index] = np.nan
    return array


PROMPTS, PATCHES = make(2, 4, 3, 20)


@pytest.mark.parametrize(
    ("prompts", "patches", "how", "message"),
    [
        (PROMPTS[0], PATCHES, {}, "prompt 0 must be"),
        ([], PATCHES, {}, "no prompt"),
        (PROMPTS, PATCHES[:3], {}, "3 patches are fewer than the 4 rows"),
        (PROMPTS, PATCHES[0], {}, "patches must be"),
        ([PROMPTS[0], PROMPTS[1, :2]], PATCHES, {}, "prompt 1 has 2 rows, prompt 0 has 4"),
        (poisoned(PROMPTS, (1, 2, 0)), PATCHES, {}, "prompt 1 holds NaN or infinite values in row 2"),
        (PROMPTS, poisoned(PATCHES, 5), {}, "patch array holds NaN or infinite values in row 5"),
        (PROMPTS, PATCHES, {"kernel": "rfb"}, "Did you mean 'rbf'"),
        (PROMPTS, PATCHES, {"epochs": 0}, "epochs is 0"),
        (PROMPTS, PATCHES, {"bandwidth": 0.0}, "bandwidth is 0"),
        (PROMPTS, PATCHES, {"bandwidth": 1.0, "kernel": "linear"}, "bandwidth is 1"),
        (PROMPTS[:, :1], PATCHES, {"unbiased": True}, "at least two rows"),
        (PROMPTS, PATCHES[:1], {"kernel": "rbf"}, "1 patches are fewer"),
        (PROMPTS[:, :1], PATCHES[:1], {"kernel": "rbf"}, "one point"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_refuses(prompts, patches, how, message, dtype):
    prompts = [np.asarray(prompt, dtype) for prompt in prompts]
    with pytest.raises(InputError, match=message):
        modality_gap(prompts, patches.astype(dtype), **how)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_refuses_points_that_coincide(dtype):
    for seed in range(5):  # rounding may or may not keep equal points equal, seen from their mean
        point = np.random.default_rng(seed).normal(0, 1, 100).astype(dtype)
        patches, prompts = np.tile(point, (1003, 1)), np.tile(point, (2, 4, 1))
        prompts[0] *= 1.01
        with pytest.raises(InputError, match="prompt 1 and a draw of 4 patches are all one point"):
            modality_gap(prompts, patches)
        with pytest.raises(InputError, match="most of them are one point"):
            modality_gap(prompts, patches, kernel="rbf")


def test_refuses_other_widths():
    with pytest.raises(CompatibilityError, match="prompt 1 is 2 wide, the patches are 3 wide"):
        modality_gap([PROMPTS[0], PROMPTS[1, :, :2]], PATCHES)


def test_estimator_scores_what_fits_and_whatever_else_is_in_the_library():
    prompts, patches = make(3, 6, 5, 50, dtype=np.float32)
    mixed = [prompts[0], prompts[1, :4], prompts[2, :, :3], prompts[2], prompts[0, :1]]
    evidence = Evidence(mixed, [], lambda: patches, tune_prompt=pytest.fail, activate=pytest.fail, seed=2)
    scores = ESTIMATORS["gap"].score(evidence)
    assert np.isnan(scores[[2, 4]]).all()
    expected = -modality_gap(prompts[[0, 2]], patches, seed=2, unbiased=True)
    np.testing.assert_allclose(scores[[0, 3]], expected)
    np.testing.assert_allclose(scores[1], -modality_gap([prompts[1, :4]], patches, seed=2, unbiased=True)[0])
