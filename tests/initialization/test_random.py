import pytest
import torch

from promptgraft.card import BackboneInfo
from promptgraft.initialization.random import TEXT_STD, random_prompt, xavier
from tuning.samples import make_backbone


def info(modality="vision", **changes):
    facts = {
        "name": "x",
        "source": "test",
        "family": "vit",
        "modality": modality,
        "weights_sha256": "0" * 64,
        "dim": 768,
        "embed_dim": 768,
        "depth": 12,
        "heads": 12,
        "pool": "cls",
        "position": "after_cls",
        "patch_size": 16 if modality == "vision" else None,
    }
    return BackboneInfo(**{**facts, **changes})


def test_vision_prompts_are_uniform_within_vpts_bound():
    prompt = random_prompt(info(), 10, "deep")  # ViT-B/16: sqrt(6 / (3 * 16 * 16 + 768)) = 0.0625
    assert prompt.shape == (12, 10, 768)
    assert prompt.abs().max() <= 0.0625
    ordered = prompt.flatten().sort().values.double()
    expected = torch.linspace(-0.0625, 0.0625, len(ordered), dtype=torch.float64)
    assert (ordered - expected).abs().max() / 0.125 < 0.01  # Kolmogorov-Smirnov: 0.006 at 92,160 draws is already rare


def test_text_prompts_are_normal():
    prompt = random_prompt(info("text"), 100, "shallow")
    assert prompt.shape == (1, 100, 768)
    ordered = prompt.flatten().sort().values.double()
    shares = (torch.arange(len(ordered), dtype=torch.float64) + 0.5) / len(ordered)
    found = torch.special.ndtr(ordered / TEXT_STD)
    assert (found - shares).abs().max() < 0.01


@pytest.mark.parametrize("modality", ["vision", "text"])
def test_seeds(modality):
    first, again, other = (random_prompt(info(modality), 5, "deep", seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not (first == other).any()
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("layers", ["shallow", "deep"])
@pytest.mark.parametrize("family", ["vit", "albert"])
def test_it_fits_its_backbone(family, layers):
    backbone = make_backbone(family)
    prompt = random_prompt(backbone.info, 5, layers)
    backbone.check(prompt.shape[0], prompt.shape[2])


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    random_prompt(info(), 5, "deep")
    assert torch.equal(torch.rand(3), expected)


def test_xavier_is_torchs_for_each_matrix():
    expected = torch.nn.init.xavier_uniform_(torch.empty(9, 13), generator=torch.Generator().manual_seed(3))
    assert torch.equal(xavier((9, 13), torch.Generator().manual_seed(3)), expected)
    layers = xavier((4, 9, 13), torch.Generator().manual_seed(3))
    assert (0.9 * expected.abs().max() < layers.abs().amax((1, 2))).all()
    assert layers.abs().max() <= (6 / (9 + 13)) ** 0.5
    assert xavier((0, 13), torch.Generator()).shape == (0, 13)
