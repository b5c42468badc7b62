"""`mean_cosine` and `token_cosine` against double loops, and the figures known of the published prompts."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from promptgraft.errors import CompatibilityError, InputError
from promptgraft.transferability import ESTIMATORS, Evidence, mean_cosine, spearman, token_cosine

THUNLP = Path(os.environ.get("PROMPTGRAFT_SHARED", "../shared")) / "data" / "thunlp"


def cosine(a, b):
    return a @ b / np.sqrt((a @ a) * (b @ b))


def literal_token_cosine(prompt, target):
    """All pairs of rows, one by one."""
    return np.mean([cosine(row, other) for row in prompt for other in target])


def make(lengths=(4, 7, 1), width=6, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(0.2, 1, (length, width)) for length in lengths], rng.normal(0.1, 1, (5, width))


def test_equal_the_literal_loops():
    prompts, target = make()
    means = [cosine(prompt.mean(0), target.mean(0)) for prompt in prompts]
    np.testing.assert_allclose(mean_cosine(prompts, target), means, rtol=1e-12)
    pairs = [literal_token_cosine(prompt, target) for prompt in prompts]
    np.testing.assert_allclose(token_cosine(prompts, target), pairs, rtol=1e-12)
    assert mean_cosine(prompts, target).dtype == token_cosine(prompts, target).dtype == np.float64


@pytest.mark.parametrize("measure", [mean_cosine, token_cosine])
def test_ignore_scale_and_take_torch(measure):
    prompts, target = make((4, 4))
    expected = measure(prompts, target)
    np.testing.assert_allclose(measure(1000 * np.stack(prompts), 1e-3 * target), expected, rtol=1e-12)
    tensors = torch.tensor(np.stack(prompts), requires_grad=True), torch.tensor(target)
    np.testing.assert_array_equal(measure(*tensors), expected)


def test_a_prompt_is_like_itself_and_unlike_its_negative():
    (prompt,), _ = make((1,))
    for measure in (mean_cosine, token_cosine):
        np.testing.assert_allclose(measure([prompt, -prompt], prompt), [1, -1], rtol=1e-12)


PROMPTS, TARGET = make((4, 4))


def spoiled(prompt, row, value):
    prompt = prompt.copy()
    prompt[row] = value
    return prompt


@pytest.mark.parametrize("measure", [mean_cosine, token_cosine])
@pytest.mark.parametrize(
    ("prompts", "target", "message"),
    [
        ([PROMPTS[0], spoiled(PROMPTS[1], 2, np.nan)], TARGET, "prompt 1 holds NaN or infinite values in row 2"),
        ([PROMPTS[0], spoiled(PROMPTS[1], 3, 0)], TARGET, "row 3 of prompt 1 is all zeros: a dead row"),
        (PROMPTS, spoiled(TARGET, 0, 0), "row 0 of the target prompt is all zeros"),
        (PROMPTS[0], TARGET, r"prompt 0 must be \(P, D\), not empty; got shape \(6,\)"),
        (PROMPTS, TARGET[:0], "the target prompt must be"),
    ],
)
def test_refuse(measure, prompts, target, message):
    with pytest.raises(InputError, match=message):
        measure(prompts, target)


@pytest.mark.parametrize("measure", [mean_cosine, token_cosine])
def test_refuse_other_widths(measure):
    with pytest.raises(CompatibilityError, match="prompt 1 is 3 wide, the target prompt is 6 wide"):
        measure([PROMPTS[0], PROMPTS[1][:, :3]], TARGET)


def test_refuses_rows_that_cancel_out():
    with pytest.raises(InputError, match="the rows of prompt 1 cancel out"):
        mean_cosine([PROMPTS[0], np.vstack([PROMPTS[0], -PROMPTS[0]])], TARGET)


@pytest.mark.parametrize(("name", "measure"), [("mean-cosine", mean_cosine), ("token-cosine", token_cosine)])
def test_estimators_leave_other_widths_out_and_tune_once(name, measure):
    prompts, target = make((4, 7, 4))
    tuned = []
    evidence = Evidence(
        prompts=[prompts[0], prompts[1][:, :3], prompts[2]],
        cards=[],
        embed_patches=pytest.fail,
        tune_prompt=lambda: tuned.append(1) or target,
        activate=pytest.fail,
    )
    for _ in range(2):
        scores = ESTIMATORS[name].score(evidence)
        np.testing.assert_allclose(scores, [*measure(prompts[:1], target), np.nan, *measure(prompts[2:], target)])
    assert tuned == [1]


@pytest.mark.real
@pytest.mark.skipif(not THUNLP.is_dir(), reason="published prompts are not here")
@pytest.mark.parametrize(("measure", "known"), [(mean_cosine, (34.7, 39.9)), (token_cosine, (38.8, 38.9))])
def test_agreement_on_the_published_prompts(measure, known):
    """Mean Spearman over targets, the target's own prompt left out, with row 0 (dead) and without."""
    table = pd.read_csv(THUNLP / "transfer_accuracy.tsv", sep="\t").query("model == 'roberta-base'")
    prompts = {
        path.stem: torch.load(path, map_location="cpu", weights_only=True)
        for path in sorted((THUNLP / "roberta-base").glob("*.pt"))
    }
    for first_row, expected in zip((0, 1), known, strict=True):
        values = []
        for target, rows in table.groupby("target"):
            others = rows[rows["source"] != target]
            scores = measure([prompts[name][first_row:] for name in others["source"]], prompts[target][first_row:])
            values.append(spearman(scores, others["accuracy"]))
        assert np.mean(values) == pytest.approx(expected, abs=0.1)
