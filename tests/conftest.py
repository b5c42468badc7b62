"""Factories that many tests share."""

import re
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from promptgraft.backbones.packed import quiet_transformers
from promptgraft.card import BackboneInfo, PromptCard, PromptInfo, Score, TaskInfo, TrainingInfo
from promptgraft.errors import OfflineError, PackError
from promptgraft.packs.manifest import find_pack
from promptgraft.prompt import SoftPrompt


def build_prompt(
    layers: int = 1,
    length: int = 4,
    dim: int = 16,
    modality: Any = "text",
    name: str = "text/example",
    seed: int = 0,
    head: bool = False,
    **card: Any,
) -> SoftPrompt:
    generator = torch.Generator().manual_seed(seed)
    made = PromptCard(
        name=name,
        task=TaskInfo(name="example", modality=modality, classes=("no", "yes"), n_train=32, fingerprint="f" * 64),
        backbone=BackboneInfo(
            name="tiny",
            source="test",
            family="bert",
            modality=modality,
            weights_sha256="0" * 64,
            dim=dim,
            embed_dim=dim,
            depth=max(layers, 2),
            heads=2,
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
            init_args={"std": 0.5},
        ),
        training=TrainingInfo(
            recipe={"lr": 0.1},
            seed=seed,
            epochs=3,
            scores={"val": Score(value=0.75, low=0.5, high=0.9, n=16)},
            seconds=1.5,
            device="cpu",
        ),
        method="vpt",
        versions={"promptgraft": "0"},
        licence="CC0-1.0",
    ).model_copy(update=card)
    tensor = torch.randn(layers, length, dim, generator=generator)
    return SoftPrompt(tensor, made, head=(torch.ones(2, dim), torch.zeros(2)) if head else None)


@pytest.fixture(scope="session")
def make_prompt() -> Callable[..., SoftPrompt]:
    """`make_prompt(layers=1, length=4, dim=16, modality="text", name=..., seed=0, head=False, **card_fields)`."""
    return build_prompt


@pytest.fixture(scope="session")
def tiny_vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random ViT as transformers saves it: 28 pixels, patches of 14, 32-d, 2 layers, no pooler; for `dir:`."""
    from transformers import ViTConfig, ViTModel

    folder = tmp_path_factory.mktemp("models") / "vit"
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    with quiet_transformers():
        ViTModel(ViTConfig(image_size=28, patch_size=14, **sizes), add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT with a WordPiece tokenizer of 20 words: 32-d, 2 layers, no pooler; for `dir:`."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "bert"
    words = ["a", "the", "film", "plot", "cast", "song", "is", "was", "not", "very"]
    words += ["good", "fine", "great", "warm", "clever", "bad", "dull", "poor", "cold", "silly"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    with quiet_transformers():
        BertTokenizerFast(vocab={word: number for number, word in enumerate(vocabulary)}).save_pretrained(folder)
        config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=40, **sizes)
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture
def promptgraft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], one_thread: None
) -> Callable[..., tuple[int, str, str]]:
    """Run a command with cache and libraries in `tmp_path`: (exit code, standard output, standard error)."""
    from promptgraft.cli import main
    from promptgraft.library import PromptLibrary

    for variable, value in (("CACHE", tmp_path / "cache"), ("LIBRARY", tmp_path / "library"), ("OFFLINE", 1)):
        monkeypatch.setenv(f"PROMPTGRAFT_{variable}", str(value))
    monkeypatch.setattr("promptgraft.library.starter", lambda: PromptLibrary(tmp_path / "starter", read_only=True))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main replaces it

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders `dark` and `light` of 20 noisy 28-pixel PNG files each, easy to tell apart."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    generator = np.random.default_rng(0)
    for name, brightness in (("dark", 90), ("light", 170)):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            pixels = generator.normal(brightness, 40, (28, 28, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02}.png")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Skip a real test whose pack is not at hand: offline on purpose, or from npm or apt and these cannot fetch it."""
    try:
        return (yield)
    except PackError as error:
        if not item.get_closest_marker("real"):
            raise
        unreachable = re.match(r"pack '([\w-]+)'.* (was not fetched|and there is no `)", str(error))
        if isinstance(error, OfflineError) or (unreachable and find_pack(unreachable[1]).registry != "pypi"):
            pytest.skip(str(error))
        raise


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder for this test alone."""
    monkeypatch.setenv("PROMPTGRAFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def one_thread() -> Generator[None, None, None]:
    """One thread: on tiny tensors more of them only get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
