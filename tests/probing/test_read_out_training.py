"""A head for a frozen encoder: what is trained, on what, and how well it is said to do."""

import math

import pytest
import torch

from probing.probers import prober
from promptgraft.backbones.read_out import SHAPES
from promptgraft.errors import InputError
from promptgraft.probing.read_out import ReadOutRecipe, train_read_out
from transfer.worded import KIND, shared

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")
RECIPE = ReadOutRecipe(masks=2, held_out=20, epochs=8, batch_size=32, lr=0.01, frequent=20, drawn=10)
WORDS = shared(*KIND)


def texts(count=200):
    """Words in runs of one kind, the first of all the most frequent: what is masked can be told from the rest."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(count):
        word = WORDS[int(torch.randint(6, (1,), generator=generator))]
        found.append(" ".join([word] * 7 + [WORDS[0]] * 3))
    return found


def test_a_head_learns_what_stands_around():
    backbone = prober("bert", dtype="float32")
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    found = train_read_out(backbone, texts(), recipe=RECIPE)
    assert {name: value.dim() for name, value in found.tensors.items()} == SHAPES
    assert {value.dtype for value in found.tensors.values()} == {torch.float16}
    assert found.trained_on == 180 * 2
    assert found.quality.n == 10 * 2
    assert found.quality.loss < found.quality.unigram_loss
    assert found.quality.top5 >= found.quality.top1
    assert all(torch.equal(value, before[name]) for name, value in backbone.model.state_dict().items())
    again = train_read_out(backbone, texts(), recipe=RECIPE)
    assert all(torch.equal(value, again.tensors[name]) for name, value in found.tensors.items())


def test_with_all_tokens_in_the_softmax_a_step_is_that_of_plain_cross_entropy():
    backbone = prober("bert", dtype="float32")
    words = backbone.model.get_input_embeddings().weight
    size = len(words)
    full = RECIPE.model_copy(update={"frequent": size, "drawn": 10, "epochs": 1, "batch_size": 10_000})
    found = train_read_out(backbone, texts(), recipe=full)
    part = train_read_out(backbone, texts(), recipe=full.model_copy(update={"frequent": size - 5, "drawn": 5}))
    assert found.quality.loss == pytest.approx(part.quality.loss, abs=0.05)
    # one step of Adam moves each value by its learning rate or not at all
    own = torch.eye(words.shape[1])
    assert (found.tensors["dense.weight"].float() - own).abs().max() < 0.02 * 5 + full.lr


def test_the_frequencies_are_those_of_the_training_tokens():
    backbone = prober("bert", dtype="float32")
    found = train_read_out(backbone, [" ".join([WORDS[0]] * 10)] * 60, recipe=RECIPE)
    assert found.quality.unigram_top1 == 1.0
    assert found.quality.unigram_loss == pytest.approx(
        -math.log((80 + 0.1) / (80 + 0.1 * len(backbone.model.get_input_embeddings().weight))), rel=1e-4
    )


def test_too_little_text_is_named():
    with pytest.raises(InputError, match="0 of 3 texts have 6 tokens or more, and 20 are held out"):
        train_read_out(prober("bert", dtype="float32"), ["di", "du", "ko"], recipe=RECIPE)


def test_a_factorised_embedding_is_refused():
    with pytest.raises(InputError, match="needs them to be equal"):
        train_read_out(prober("albert", dtype="float32"), texts(), recipe=RECIPE)
