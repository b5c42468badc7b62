"""Vision prompts carried by images that both models see, against the search written out."""

import pytest
import torch
import torch.nn.functional as F

import promptgraft as pg
from backbones.tiny import tiny_batch, tiny_model
from promptgraft.backbones.anatomy import FAMILIES
from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.errors import CompatibilityError, InputError
from promptgraft.prompt import SoftPrompt
from promptgraft.transfer.patch_anchors import shared_patches
from promptgraft.transfer.relative import relative_search

IMAGES = list(tiny_batch("vit", 40))


def model(family="vit", seed=0, **sizes):
    """A tiny vision model whose raw inputs are tensors (3, 32, 32)."""
    made = tiny_model(family, seed, **sizes)
    identity = {"name": f"tiny/{family}-{seed}", "source": "random", "family": family}
    return TransformerBackbone(made, FAMILIES[family], lambda x: torch.stack(list(x)), identity, dtype=torch.float64)


@pytest.fixture
def prompt_of(make_prompt):
    def make(backbone, **options):
        made = make_prompt(dim=backbone.info.embed_dim, modality="vision", **options)
        return SoftPrompt(made.tensor, made.card.model_copy(update={"backbone": backbone.info}))

    return make


def test_anchors_are_the_patches_with_their_positions():
    backbone = model("dinov2")
    [rows] = shared_patches(backbone, images=IMAGES[:3]).embeddings
    for number, image in enumerate(IMAGES[:3]):
        tokens = backbone.embed([image]).values[0, backbone.prefix_length :]
        torch.testing.assert_close(rows[number * 16 : (number + 1) * 16], tokens.float())


def test_a_finer_grid_is_averaged_over_the_coarser_ones_patches():
    fine, coarse = model("vit", patch_size=4), model("vit", 1)
    anchors = shared_patches(fine, coarse, images=IMAGES[:2])
    assert len(anchors) == 2 * 16 == len(anchors.embeddings[0])
    tokens = fine.embed([IMAGES[1]]).values[0, 1:].float()
    for row in range(4):
        for column in range(4):
            inside = [tokens[(2 * row + i) * 8 + 2 * column + j] for i in (0, 1) for j in (0, 1)]
            found = anchors.embeddings[0][16 + row * 4 + column]
            torch.testing.assert_close(found, torch.stack(inside).mean(0))
    assert anchors.words[16 + 5] == "image 1, patch 5"


def test_a_prompt_goes_to_another_width(prompt_of):
    source, target = model("vit"), model("dinov2", 1, hidden_size=48)
    prompt = prompt_of(source)
    made = pg.convert(prompt, source=source, target=target, anchors=IMAGES)
    assert made.tensor.shape == (1, 4, 48)
    own, other = shared_patches(source, target, images=IMAGES).embeddings
    wanted = relative_search(prompt.tensor[0], own, other)
    torch.testing.assert_close(made.tensor[0], wanted.float(), rtol=1e-4, atol=1e-5)
    facts = made.card.prompt.init_args
    assert facts["anchors"] == 40 * 16
    assert facts["anchor_images"] == 40
    assert made.card.backbone == target.info
    assert made.card.parents == (prompt.id,)
    target.run(target.embed(IMAGES[:2]), made.tensor)


@pytest.mark.parametrize("options", [{"normalise": False}, {"keep_spread": True}])
def test_a_prompt_comes_back_to_its_own_model(prompt_of, options):
    source = model("vit")
    prompt = prompt_of(source)
    made = pg.convert(prompt, source=source, target=source, anchors=IMAGES, top_k=10_000, **options)
    before, after = prompt.tensor[0], made.tensor[0]
    if "normalise" in options:
        assert F.cosine_similarity(before, after).min() > 0.9999
    else:
        assert after.std(correction=0).item() == pytest.approx(before.std(correction=0).item(), rel=1e-4)


@pytest.mark.parametrize("method", ["copy", "discretization", "neural-projector"])
def test_its_rivals_take_images_too(prompt_of, method):
    source = model("vit")
    made = pg.convert(prompt_of(source), source=source, target=model("vit", 1), method=method, anchors=IMAGES[:4])
    assert made.tensor.shape == (1, 4, 32)


def test_what_does_not_fit_is_refused(prompt_of, make_prompt):
    source = model("vit")
    with pytest.raises(CompatibilityError, match=r"is a vision prompt, and convert works with words; images as"):
        pg.convert(prompt_of(source), source=source, target=source)
    with pytest.raises(CompatibilityError, match=r"is a text prompt, and convert works with images here"):
        pg.convert(make_prompt(), source=source, target=source, anchors=IMAGES)
    with pytest.raises(InputError, match="there are no images to take anchors from"):
        pg.convert(prompt_of(source), source=source, target=source, anchors=[])
