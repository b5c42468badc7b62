import numpy as np
import pytest
import torch

from promptgraft.errors import InputError
from promptgraft.initialization.random import random_prompt
from promptgraft.tasks.embedded import embed_task
from promptgraft.tuning.features import frozen_features
from promptgraft.tuning.prompted import FrozenPrompt, LearnedPrompt, NoPrompt
from tuning.samples import make_backbone, make_task

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")


def prompt_for(backbone, layers="deep", seed=0):
    return FrozenPrompt(random_prompt(backbone.info, 3, layers, seed))


def files(own_cache):
    return sorted((own_cache / "features").glob("*"))


@pytest.fixture
def runs(monkeypatch):
    """Counts forward passes."""
    from promptgraft.backbones.transformer import TransformerBackbone

    made, run = [], TransformerBackbone.run
    monkeypatch.setattr(TransformerBackbone, "run", lambda self, *given: made.append(1) or run(self, *given))
    return made


@pytest.mark.parametrize("layers", [None, "shallow", "deep"])
@pytest.mark.parametrize("modality", ["vision", "text"])
def test_features_are_the_literal_forward(modality, layers, runs):
    backbone = make_backbone("vit" if modality == "vision" else "bert")
    task = make_task(modality, sizes={"train": 70, "val": 3, "test": 3})  # more than one chunk
    module = NoPrompt() if layers is None else prompt_for(backbone, layers)
    split = embed_task(backbone, task).train
    features = frozen_features(backbone, split, module)
    assert len(runs) == 2
    for i in (0, 63, 64, 69):  # one by one, without padding
        literal = backbone.run(backbone.embed([task.train.inputs[i]]), module(None))
        torch.testing.assert_close(features[i : i + 1], literal, rtol=1e-4, atol=1e-5)
    assert features.shape == (70, 32)
    assert not features.requires_grad
    assert torch.equal(frozen_features(backbone, split, module), features)


def test_the_second_time_nothing_is_computed(runs, own_cache):
    backbone = make_backbone()
    split = embed_task(backbone, make_task()).train
    first = frozen_features(backbone, split, prompt_for(backbone))
    del runs[:]
    again = embed_task(make_backbone(), make_task()).train  # another process would do the same
    assert torch.equal(frozen_features(backbone, again, prompt_for(backbone)), first)
    assert runs == []
    assert len(files(own_cache)) == 1


def test_whatever_changes_the_features_changes_the_file(own_cache):
    backbone = make_backbone()
    data = embed_task(backbone, make_task())
    frozen_features(backbone, data.train, prompt_for(backbone))
    others = [
        (backbone, data.val, prompt_for(backbone)),
        (backbone, data.train, prompt_for(backbone, seed=1)),
        (backbone, data.train, prompt_for(backbone, "shallow")),
        (backbone, data.train, NoPrompt()),
        (backbone, embed_task(backbone, make_task(seed=1)).train, prompt_for(backbone)),
    ]
    for options in ({"pool": "mean"}, {"dtype": torch.float64}, {"dtype": torch.bfloat16}, {"seed": 1}):
        other = make_backbone(**options)
        others.append((other, embed_task(other, make_task()).train, prompt_for(backbone)))
    seen = [frozen_features(backbone, data.train, prompt_for(backbone)).double()]
    for number, (model, split, module) in enumerate(others, 2):
        features = frozen_features(model, split, module).double()
        assert len(files(own_cache)) == number
        assert all(not torch.equal(features, before) for before in seen)
        seen.append(features)


def test_a_prompt_that_was_trained_on_gives_other_features():
    backbone = make_backbone()
    split = embed_task(backbone, make_task()).train
    module = LearnedPrompt(random_prompt(backbone.info, 3, "deep"))
    before = frozen_features(backbone, split, module)
    with torch.no_grad():
        module.prompt[0, 0, 0] += 1
    after = frozen_features(backbone, split, module)
    assert not torch.equal(before, after)
    literal = backbone.run(split.tokens(torch.arange(len(split))), module.prompt.detach())
    torch.testing.assert_close(after, literal)


@pytest.mark.parametrize("left", [0, 30, 200, -1])
def test_a_cut_file_is_made_anew(left, own_cache):
    backbone = make_backbone()
    split = embed_task(backbone, make_task()).train
    expected = frozen_features(backbone, split, NoPrompt())
    (path,) = files(own_cache)
    path.write_bytes(path.read_bytes()[:left])
    assert torch.equal(frozen_features(backbone, split, NoPrompt()), expected)
    assert np.array_equal(np.load(path), expected.numpy())


def test_a_full_disk_costs_the_cache_only(monkeypatch, own_cache):
    backbone = make_backbone()
    split = embed_task(backbone, make_task()).train

    def full(path, content):
        raise InputError("no space")

    monkeypatch.setattr("promptgraft.tuning.features.write_atomic", full)
    assert frozen_features(backbone, split, NoPrompt()).shape == (20, 32)
    assert files(own_cache) == []


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.float32, torch.float32), (torch.float64, torch.float64), (torch.bfloat16, torch.float32)],
)
def test_precision(dtype, expected):
    backbone, exact = make_backbone(dtype=dtype), make_backbone(dtype=torch.float64)
    features, truth = (
        frozen_features(model, embed_task(model, make_task()).train, NoPrompt()) for model in (backbone, exact)
    )
    assert features.dtype == expected
    torch.testing.assert_close(features.double(), truth, rtol=0, atol=0.2 if dtype == torch.bfloat16 else 1e-4)
