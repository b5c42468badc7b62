"""`prompt_norm` and `data_volume`: the baselines that every ranking is held against."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from promptgraft.errors import InputError
from promptgraft.transferability import data_volume, kendall, prompt_norm

THUNLP = Path(os.environ.get("PROMPTGRAFT_SHARED", "../shared")) / "data" / "thunlp"


def test_norm_is_the_mean_over_rows():
    assert prompt_norm(np.array([[[3.0, 4.0], [0.0, 1.0]]])) == pytest.approx([3.0])


def test_norm_takes_deep_prompts_and_mixed_shapes():
    deep = np.zeros((2, 3, 4, 5), np.float32)
    deep[1, 2, :, 0] = 6.0  # a third of the rows of prompt 1
    np.testing.assert_allclose(prompt_norm(deep), [0.0, 2.0])
    mixed = [np.full((2, 4), 1.0), torch.full((7, 9), 2.0), torch.full((3, 2, 1), 5.0).bfloat16()]
    np.testing.assert_allclose(prompt_norm(mixed), [2.0, 6.0, 5.0])


def test_norm_works_in_float64():
    assert prompt_norm(np.full((1, 2, 4), 1e30, np.float32)) == pytest.approx([2e30])


@pytest.mark.parametrize("bad", [np.ones((2, 3)), np.ones((1, 0, 3)), np.full((1, 2, 3), np.nan)])
def test_norm_refuses(bad):
    with pytest.raises(InputError, match="prompt 0"):
        prompt_norm(bad)


def test_volume_scores_by_count():
    np.testing.assert_array_equal(data_volume([25000, 67349, 3045]), [25000.0, 67349.0, 3045.0])


@pytest.mark.parametrize("bad", [[3, -1], [[1, 2]], [1, np.inf]])
def test_volume_refuses(bad):
    with pytest.raises(InputError, match=r"examples"):
        data_volume(bad)


# Measured projection transfer to Clevr/count, by source prompt (paper table 12), and training examples (table 11).
CLEVR = {
    "snli": (62.60, 549367),
    "mnli": (58.52, 392702),
    "qnli": (57.67, 104743),
    "qqp": (56.14, 363846),
    "sst2": (55.24, 67349),
    "tweet": (55.01, 45389),
    "deontology": (53.02, 18164),
    "imdb": (52.77, 25000),
    "justice": (52.27, 21791),
    "mrpc": (51.75, 3668),
    "restaurant": (48.72, 3041),
    "laptop": (45.34, 3045),
    "movie": (44.38, 1600),
}
ACCURACIES, COUNTS = zip(*CLEVR.values(), strict=True)


def test_volume_reproduces_the_published_coefficient():
    assert kendall(data_volume(COUNTS), ACCURACIES) == pytest.approx(89.74, abs=0.005)


@pytest.mark.real
@pytest.mark.skipif(not THUNLP.is_dir(), reason="published prompts are not here")
def test_norm_of_the_published_prompts():
    prompts = [
        torch.load(THUNLP / "roberta-base" / f"{name}.pt", map_location="cpu", weights_only=True) for name in CLEVR
    ]
    norms = dict(zip(CLEVR, prompt_norm(prompts), strict=True))
    known = {"mnli": 32.5, "snli": 31.0, "qqp": 20.4, "qnli": 16.4, "sst2": 8.9, "restaurant": 1.96, "movie": 1.11}
    assert {name: norms[name] for name in known} == pytest.approx(known, rel=0.01)
    assert kendall(list(norms.values()), ACCURACIES) == pytest.approx(92.3, abs=0.05)  # the paper's full metric: 94.9
