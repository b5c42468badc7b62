"""`diffused_cosine` against its three steps written out, and what it must not depend on."""

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

from promptgraft.errors import CompatibilityError, InputError
from promptgraft.transferability.base import Evidence
from promptgraft.transferability.diffusion import DIFFUSED_COSINE, diffused_cosine


def make(lengths=(40, 30, 50, 40), width=12, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(lengths) + 1, width)) + 0.5
    prompts = [rng.normal(centre, 1, (length, width)) for centre, length in zip(centres, lengths, strict=False)]
    return prompts, rng.normal(centres[-1], 1, (20, width))


def literal(prompts, target):
    """Signs, scikit-learn's Ledoit-Wolf covariance inverted, cosines one by one, walks summed step by step."""
    signs = [np.sign(rows) for rows in (target, *prompts)]
    scatter = np.vstack([rows - rows.mean(0) for rows in signs])
    precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(scatter).covariance_)
    means = [rows.mean(0) for rows in signs]
    links = np.array([[a @ precision @ b for b in means] for a in means])
    links = links / np.sqrt(np.outer(links.diagonal(), links.diagonal())) - np.eye(len(means))
    decay = 0.5 / max(abs(np.linalg.eigvals(links)))
    walks, total = np.eye(len(means)), np.zeros_like(links)
    for _ in range(100):
        total += walks
        walks = decay * walks @ links
    return total[0, 1:]


def test_equals_the_steps_written_out():
    prompts, target = make()
    scores = diffused_cosine(prompts, target)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, literal(prompts, target), rtol=1e-10)


def test_one_prompt_in_common_links_two_that_are_unlike():
    """A chain: the third prompt shares nothing with the target, but is like the second, which is like the target."""
    rng = np.random.default_rng(1)
    first, second, other = np.repeat(np.eye(3), 40, axis=1)
    prompts = [0.4 * rng.choice([-1, 1], (200, 120)) + centre for centre in (first + second, second, other)]
    scores = diffused_cosine(prompts, 0.4 * rng.choice([-1, 1], (200, 120)) + first)
    assert scores[0] > scores[1] > scores[2]


def test_ignores_scale_and_takes_torch():
    prompts, target = make((40, 40))
    expected = diffused_cosine(prompts, target)
    scales = np.random.default_rng(2).uniform(0.1, 10, (2, 40, 1))
    np.testing.assert_allclose(diffused_cosine(scales * np.stack(prompts), 1e-3 * target), expected, rtol=1e-12)
    tensors = torch.tensor(np.stack(prompts), requires_grad=True), torch.tensor(target)
    np.testing.assert_array_equal(diffused_cosine(*tensors), expected)


@pytest.mark.parametrize("lengths", [(1, 1, 1), (1, 2, 1), (3,), (2, 2)])
def test_few_rows_or_prompts_give_finite_scores(lengths):
    prompts, target = make(lengths, width=30)
    for own in (target, target[:1]):
        assert np.isfinite(diffused_cosine(prompts, own)).all()


def test_itself_scores_highest():
    prompts, _ = make()
    assert diffused_cosine(prompts, prompts[2]).argmax() == 2


def test_refusals():
    prompts, target = make((4, 4))
    with pytest.raises(CompatibilityError, match="prompt 1 is 3 wide, the target prompt is 12 wide"):
        diffused_cosine([prompts[0], prompts[1][:, :3]], target)
    with pytest.raises(InputError, match="the rows of prompt 1 cancel out"):
        diffused_cosine([prompts[0], np.vstack([prompts[1], -prompts[1]])], target)
    with pytest.raises(InputError, match="row 3 of the target prompt is all zeros"):
        diffused_cosine(prompts, np.vstack([target[:3], np.zeros(12)]))


def test_estimator_leaves_other_widths_out():
    prompts, target = make((4, 7, 4))
    mixed = [prompts[0], prompts[1][:, :3], prompts[2]]
    evidence = Evidence(mixed, [], pytest.fail, tune_prompt=lambda: target, activate=pytest.fail)
    first, last = diffused_cosine([prompts[0], prompts[2]], target)
    np.testing.assert_allclose(DIFFUSED_COSINE.score(evidence), [first, np.nan, last])
