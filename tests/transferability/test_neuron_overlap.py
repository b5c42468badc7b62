"""`neuron_overlap` against the paper's formula, `neuron_activations` against one forward per prompt."""

import numpy as np
import pytest
import torch

from promptgraft.errors import CompatibilityError, InputError
from promptgraft.transferability import ESTIMATORS, Evidence, neuron_activations, neuron_overlap, neurons
from tuning.samples import make_backbone


def literal_overlap(values, target):
    """Eq. 3 of the paper's appendix: binary maps, then their cosine, neuron by neuron."""
    a, b = [1 if value > 0 else 0 for value in values], [1 if value > 0 else 0 for value in target]
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / (sum(x * x for x in a) ** 0.5 * sum(y * y for y in b) ** 0.5)


def test_equals_the_literal_formula():
    values = np.random.default_rng(0).normal(0, 1, (4, 50))
    found = neuron_overlap(values[:3], values[3])
    np.testing.assert_allclose(found, [literal_overlap(row, values[3]) for row in values[:3]], rtol=1e-12)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(neuron_overlap(torch.tensor(values[:3]), torch.tensor(values[3])), found)


def test_ends_of_the_scale():
    np.testing.assert_allclose(neuron_overlap(np.array([[5, -1, 2], [-1, 3, 0]]), np.array([1, 0, 9])), [1, 0])


VALUES = np.random.default_rng(1).normal(0, 1, (3, 8))


@pytest.mark.parametrize(
    ("values", "target", "error", "message"),
    [
        (VALUES[0], VALUES[1], InputError, r"must be \(M, K\)"),
        (VALUES, VALUES, InputError, r"must be \(M, K\)"),
        (VALUES, VALUES[0, :5], CompatibilityError, "8 neurons cannot be compared with those of 5"),
        (np.where(VALUES[1, 3] == VALUES, np.nan, VALUES), VALUES[0], InputError, "under prompt 1 hold NaN"),
        (VALUES, np.full(8, np.inf), InputError, "under the target prompt hold NaN or inf"),
        (-np.abs(VALUES), VALUES[0], InputError, "prompt 0 activates no neuron"),
    ],
)
def test_refuses(values, target, error, message):
    with pytest.raises(error, match=message):
        neuron_overlap(values, target)


def make_prompts(lengths=(3, 5, 3, 3), width=32):
    rng = np.random.default_rng(2)
    return [rng.normal(0, 1, (length, width)).astype(np.float32) for length in lengths]


@pytest.mark.parametrize("family", ["dinov2_with_registers", "bert"])
def test_batches_of_mixed_lengths_equal_one_prompt_at_a_time(family, monkeypatch):
    monkeypatch.setattr(neurons, "_BATCH", 2)
    backbone, prompts = make_backbone(family), make_prompts()
    one_by_one = [backbone.neuron_activations(torch.from_numpy(prompt)[None])[0].numpy() for prompt in prompts]
    found = neuron_activations(backbone, prompts)
    np.testing.assert_allclose(found, one_by_one, rtol=1e-4, atol=1e-5)
    assert np.ptp(found, axis=0).max() > 0.1


def test_refuses_prompts_that_cannot_run():
    backbone = make_backbone("vit")
    with pytest.raises(InputError, match="no prompt to run"):
        neuron_activations(backbone, [])
    with pytest.raises(CompatibilityError, match="prompt 1 is 5 wide"):
        neuron_activations(backbone, [*make_prompts((3,)), np.ones((3, 5))])
    with pytest.raises(InputError, match="row 1 of prompt 0 is all zeros"):
        neuron_activations(backbone, [np.eye(2, 32) * [[1], [0]]])


def test_estimator_leaves_other_widths_out():
    prompts, backbone = make_prompts(), make_backbone("vit")
    target = make_prompts((6,))[0] + 0.1
    evidence = Evidence(
        prompts=[prompts[0], prompts[1], prompts[2][:, :7]],
        cards=[],
        embed_patches=pytest.fail,
        tune_prompt=lambda: target,
        activate=lambda rows: neuron_activations(backbone, rows),
    )
    *values, own = neuron_activations(backbone, [*prompts[:2], target])
    expected = [*neuron_overlap(np.stack(values), own), np.nan]
    np.testing.assert_allclose(ESTIMATORS["overlap"].score(evidence), expected)
