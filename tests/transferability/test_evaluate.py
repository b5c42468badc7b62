"""`kendall` and `spearman` against a double loop, scipy, and the coefficients that the paper prints."""

import numpy as np
import pytest
import torch
from scipy import stats

from promptgraft.errors import InputError
from promptgraft.transferability import kendall, spearman


def literal_kendall(estimated, measured):
    concordant = discordant = pairs = 0
    for i in range(len(estimated)):
        for j in range(i):
            pairs += 1
            product = (estimated[i] - estimated[j]) * (measured[i] - measured[j])
            concordant += product > 0
            discordant += product < 0
    return 100 * (concordant - discordant) / pairs


@pytest.mark.parametrize("levels", [1000, 4, 2])
@pytest.mark.parametrize("size", [2, 5, 30])
def test_equals_a_double_loop(size, levels):
    rng = np.random.default_rng(size)
    estimated, measured = (
        np.r_[0, 1, rng.integers(0, levels, (size - 2))],
        np.r_[1, 0, rng.integers(0, levels, size - 2)],
    )
    assert kendall(estimated, measured) == pytest.approx(literal_kendall(estimated, measured))
    assert spearman(estimated, measured) == pytest.approx(100 * stats.spearmanr(estimated, measured).statistic)


def test_ends_of_the_scale():
    assert kendall([1, 2, 3], torch.tensor([0.1, 0.2, 0.9])) == 100
    assert kendall([3, 2, 1], [0.1, 0.2, 0.9]) == -100
    assert spearman([3, 2, 1], [0.1, 0.2, 0.9]) == pytest.approx(-100)


def test_a_tie_stays_in_the_denominator():
    assert kendall([1, 1, 2], [1, 2, 3]) == pytest.approx(100 * 2 / 3)


# Paper table 12: (score of the full metric, measured accuracy) of imdb, sst2, laptop, restaurant, movie, tweet, mnli,
# qnli, snli, deontology, justice, qqp, mrpc. Retinopathy has three ties.
CLEVR_COUNT = (
    [-1.355, -0.776, -1.916, -1.844, -1.962, -0.980, -0.675, -0.744, -0.619, -1.021, -1.291, -0.698, -1.463],
    [52.77, 55.24, 45.34, 48.72, 44.38, 55.01, 58.52, 57.67, 62.60, 53.02, 52.27, 56.14, 51.75],
)
RETINOPATHY = (
    [-1.144, -0.659, -1.460, -1.425, -1.476, -0.820, -0.313, -0.311, -0.269, -0.935, -1.122, -0.213, -1.258],
    [74.36, 74.53, 74.40, 74.24, 74.37, 74.42, 74.49, 74.76, 74.55, 74.37, 74.24, 74.76, 74.29],
)


@pytest.mark.parametrize(("pair", "printed"), [(CLEVR_COUNT, 94.87), (RETINOPATHY, 62.82)])
def test_reproduces_the_published_coefficients(pair, printed):
    assert kendall(*pair) == pytest.approx(printed, abs=0.005)


@pytest.mark.parametrize("measure", [kendall, spearman])
@pytest.mark.parametrize(
    ("estimated", "measured", "message"),
    [
        ([1.0, 1.0], [1.0, 2.0], "all 2 estimated scores are 1"),
        ([1.0, 2.0], [3.0, 3.0], "all 2 measured values are 3"),
        ([1.0], [1.0], "at least two"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "2 estimated but 3 measured"),
        ([1.0, np.nan], [1.0, 2.0], "estimated score of prompt 1 is nan"),
        ([[1.0, 2.0]], [1.0, 2.0], r"shape \(1, 2\)"),
    ],
)
def test_refuses(measure, estimated, measured, message):
    with pytest.raises(InputError, match=message):
        measure(estimated, measured)
