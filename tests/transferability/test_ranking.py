"""`rank`: which rows of which prompts meet which tokens, and what the table says."""

import importlib
import pkgutil
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

import promptgraft.transferability
from promptgraft.backbones.base import Tokens
from promptgraft.card import BackboneInfo, PromptCard, PromptInfo, TaskInfo
from promptgraft.errors import InputError
from promptgraft.library import PromptLibrary
from promptgraft.prompt import SoftPrompt
from promptgraft.tasks.base import Split, Task
from promptgraft.transferability import ESTIMATORS, modality_gap, prompt_norm, rank
from promptgraft.transferability.patches import embedded_patches
from promptgraft.transferability.ranking import QUICK

DIM = 6


class FakeBackbone:
    """Embeds an input, a small array (T, DIM), as itself; text is padded to the longest of the batch."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, prefix_length=2, padded=False):
        self.prefix_length, self.padded, self.batches = prefix_length, padded, []

    def embed(self, inputs):
        self.batches.append(len(inputs))
        rows = [torch.as_tensor(value) for value in inputs]
        values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=torch.nan)
        return Tokens(values, ~values[..., 0].isnan() if self.padded else None)


def make_task(inputs):
    split = Split(inputs, np.zeros(len(inputs), np.int64), [str(index) for index in range(len(inputs))])
    empty = Split([], np.zeros(0, np.int64), [])
    return Task("shapes", "vision", ("a", "b"), split, empty, empty, seed=0, fingerprint="0" * 64)


def make_prompt(name, tensor, n_train=100, dead_rows=(), depth=3):
    layers, length, dim = tensor.shape
    return SoftPrompt(
        tensor.astype(np.float32),
        PromptCard(
            name=name,
            task=TaskInfo(name=name, modality="text", classes=("no", "yes"), n_train=n_train, fingerprint="0" * 64),
            backbone=BackboneInfo(
                name="tiny",
                source="test",
                family="bert",
                modality="text",
                weights_sha256="0" * 64,
                dim=dim,
                embed_dim=dim,
                depth=depth,
                heads=1,
                pool="cls",
                position="after_cls",
            ),
            prompt=PromptInfo(
                length=length,
                layers=layers,
                dim=dim,
                position="after_cls",
                pool="cls",
                init="random",
                dead_rows=dead_rows,
            ),
            method="vpt",
        ),
    )


@pytest.fixture
def images():
    return list(np.random.default_rng(0).normal(0, 1, (40, 5, DIM)).astype(np.float32))


@pytest.fixture
def prompts():
    rng = np.random.default_rng(1)
    dead = rng.normal(0, 1, (1, 5, DIM))
    dead[0, 0] = 100
    return [
        make_prompt("text/far", rng.normal(3, 1, (1, 4, DIM)), n_train=10),
        make_prompt("text/near", rng.normal(0, 1, (1, 4, DIM)), n_train=500),
        make_prompt("text/dead", dead, n_train=10, dead_rows=(0,)),
        make_prompt("vision/deep", np.stack([rng.normal(1, 1, (4, DIM)), *rng.normal(9, 1, (2, 4, DIM))])),
        make_prompt("vision/wide", rng.normal(0, 9, (1, 4, DIM + 1))),
    ]


def entry(prompt):
    return np.delete(prompt.tensor[0].numpy(), list(prompt.card.prompt.dead_rows), axis=0)


def test_scores_are_those_of_the_pure_functions(prompts, images):
    table = rank(prompts, FakeBackbone(), make_task(images), QUICK, seed=4).set_index(["estimator", "prompt"])["score"]
    patches = np.concatenate([image[2:] for image in images])
    fitting = prompts[:4]
    gaps = modality_gap([entry(prompt) for prompt in fitting], patches, seed=4, unbiased=True)
    for prompt, gap in zip(fitting, gaps, strict=True):
        assert table["gap", prompt.card.name] == pytest.approx(-gap)
    norms = prompt_norm([entry(prompt) for prompt in prompts])
    assert [table["norm", prompt.card.name] for prompt in prompts] == pytest.approx(norms)
    assert table["volume", "text/near"] == 500


def test_table_is_sorted_and_says_what_is_left_out(prompts, images):
    table = rank(prompts, FakeBackbone(), make_task(images), QUICK)
    assert list(table.columns) == ["prompt", "estimator", "score", "rank", "seconds"]
    assert list(table["estimator"].unique()) == ["gap", "norm", "volume"]
    gap = table[table["estimator"] == "gap"]
    assert list(gap["rank"]) == [1, 2, 3, 4, 5]
    assert gap["prompt"].iloc[-1] == "vision/wide"
    assert np.isnan(gap["score"].iloc[-1])
    assert set(gap["prompt"].iloc[:2]) == {"text/near", "text/dead"}
    assert (table["seconds"] >= 0).all()
    (note,) = table.attrs["notes"]
    assert "gap has no score for vision/wide: it applies to prompts as wide" in note
    volume = table[table["estimator"] == "volume"]
    assert list(volume["rank"]) == [1, 2, 2, 4, 4]  # 500; 100 twice; 10 twice


def test_a_library_gives_its_own_names(prompts, images, tmp_path):
    library = PromptLibrary(tmp_path / "library")
    for index, prompt in enumerate(prompts):
        library.add(prompt, name=f"mine/{index}")
    from_library = rank(library, FakeBackbone(), make_task(images), ["gap"])
    from_list = rank(prompts, FakeBackbone(), make_task(images), ["gap"])
    names = {f"mine/{index}": prompt.card.name for index, prompt in enumerate(prompts)}
    assert list(from_library["prompt"].map(names)) == list(from_list["prompt"])
    np.testing.assert_array_equal(from_library["score"], from_list["score"])


def test_inputs_are_embedded_only_where_they_are_needed(prompts, images):
    backbone = FakeBackbone()
    rank(prompts, backbone, make_task(images), ["norm", "volume"])
    assert backbone.batches == []


def test_padding_and_prefix_are_left_out():
    rng = np.random.default_rng(0)
    sentences = [rng.normal(0, 1, (length, DIM)).astype(np.float32) for length in (4, 7, 5)]
    patches = embedded_patches(FakeBackbone(prefix_length=0, padded=True), sentences)
    np.testing.assert_array_equal(patches, np.concatenate(sentences))
    patches = embedded_patches(FakeBackbone(prefix_length=1, padded=True), sentences)
    np.testing.assert_array_equal(patches, np.concatenate([sentence[1:] for sentence in sentences]))


def test_large_tasks_are_subsampled_once_and_in_batches(images):
    backbone = FakeBackbone(prefix_length=0)
    many = images * 4
    patches = embedded_patches(backbone, many, limit=130, seed=5)
    assert patches.shape == (130 * 5, DIM)
    assert backbone.batches == [64, 64, 2]
    np.testing.assert_array_equal(embedded_patches(backbone, many, limit=130, seed=5), patches)
    everything = embedded_patches(backbone, many)
    np.testing.assert_array_equal(everything, np.concatenate(many))


def test_refuses(prompts, images):
    with pytest.raises(InputError, match="no prompt to rank"):
        rank([], FakeBackbone(), make_task(images))
    with pytest.raises(InputError, match="Did you mean 'norm'"):
        rank(prompts, FakeBackbone(), make_task(images), ["nrom"])
    with pytest.raises(InputError, match="no inputs to embed"):
        rank(prompts, FakeBackbone(), make_task([]), ["gap"])


def test_every_estimator_describes_itself():
    for name in ESTIMATORS:
        estimator = ESTIMATORS[name]
        assert estimator.name == name
        assert all([estimator.summary, estimator.paper, estimator.needs, estimator.cost, estimator.applies])


def test_public_names_stay_themselves_whatever_was_imported_before():
    package = promptgraft.transferability
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    assert not [name for name in package.__all__ if isinstance(getattr(package, name), types.ModuleType)]


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, promptgraft.transferability; print(*{'torch', 'pandas', 'scipy', 'numpy'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
    )
