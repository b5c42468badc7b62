"""Folders of adapted models, and the result of the run that made them."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import load, save

from hostile.mutations import Files, changed_json, files_of, lay, spoiled
from hostile.searching import Search, attempt
from promptgraft.backbones.load import load_backbone
from promptgraft.card import PromptCard, PromptInfo, TaskInfo, TrainingInfo
from promptgraft.doctor.run import check_run
from promptgraft.errors import PromptFileError, TrainingError
from promptgraft.estimator import PromptClassifier
from promptgraft.prompt import SoftPrompt
from promptgraft.tasks.embedded import NoInputs
from promptgraft.tuning.adapted import Adapted, AdaptedInfo, load_adapted
from promptgraft.tuning.edit import Edit
from promptgraft.tuning.fit import Epoch
from promptgraft.tuning.method import METHODS, Setting

METHODS_TRIED = ("linear", "vpt", "lora", "gate-vpt", "ssf")


@pytest.fixture(scope="module")
def models(tiny_vit_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Files of models that were never trained."""
    backbone = load_backbone(f"dir:{tiny_vit_folder}")
    task = TaskInfo(name="photos", modality="vision", classes=("dark", "light"), n_train=8, fingerprint="0" * 64)
    training = TrainingInfo(recipe={"lr": 0.1}, seed=0, epochs=2, seconds=1.0, device="cpu")
    score = {"value": 0.6, "low": 0.4, "high": 0.8, "n": 20}
    history = [{"epoch": i, "train_loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5, "seconds": 1.0} for i in range(3)]
    result = {
        "candidates": [{"method": "vpt", "winner": True, "status": "finished", "best_epoch": 1, "history": history}],
        "val_accuracy": score,
        "linear_probe": {"val_accuracy": score},
        "confusion": {"matrix": [[3, 2], [0, 5]], "classes": ["dark", "light"]},
    }
    parameters = PromptClassifier(backbone=backbone.info.name, image_size=28, random_state=0).get_params()
    del parameters["device"]
    estimator = {"parameters": parameters, "classes": ["dark", "light"], "dtype": "<U5", "validation": {"vpt": score}}
    found = {}
    for name in METHODS_TRIED:
        layers: Any = "shallow" if name == "gate-vpt" else "deep"
        setting = Setting(backbone, NoInputs(), 3, layers, 0)
        edit = METHODS[name].build(setting) if METHODS[name].edits else None
        info = AdaptedInfo(
            task=task,
            backbone=backbone.info,
            method=name,
            layers="shallow" if name == "gate-vpt" else None,
            prompt_length=3 if name == "gate-vpt" else None,
            source=None,
            training=training,
            versions={},
            curve=(Epoch(0, None, 1.0, 0.5, 0.0), Epoch(1, 0.9, 0.8, 0.6, 1.0)),
            best_epoch=1,
        )
        prompt = None
        if name == "vpt":
            card = PromptCard(
                name="vision/photos",
                task=task,
                backbone=backbone.info,
                prompt=PromptInfo(length=3, layers=1, dim=32, position="after_cls", pool="cls", init="random"),
                method="vpt",
            )
            prompt = SoftPrompt(torch.ones(1, 3, 32), card)
        head = (torch.ones(2, 32), torch.zeros(2))
        assert edit is None or isinstance(edit, Edit)
        folder = tmp_path_factory.mktemp("models") / name
        Adapted(backbone, info, head, prompt, edit).save(folder)
        files = files_of(folder)
        files["result.json"] = json.dumps(result).encode()
        files["estimator.json"] = json.dumps(estimator).encode()
        found[name] = files
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each backbone that is asked for is loaded once."""
    kept = cache(load_backbone)

    def load(name: str, **options: Any) -> Any:
        try:
            return kept(name, **options)
        except TypeError:  # of options that cannot be hashed
            return load_backbone(name, **options)

    monkeypatch.setattr("promptgraft.tuning.adapted.load_backbone", load)


def read(folder: Path) -> None:
    adapted = load_adapted(folder)
    image = np.zeros((28, 28, 3), np.uint8)
    assert np.isfinite(adapted.predict_proba([image])).all()
    assert check_run(folder).method == adapted.info.method
    classifier = PromptClassifier.load(folder)
    assert classifier.predict([image]).shape == (1,)


def sealed(files: Files) -> Files:
    """The same with the hashes of what lies there."""
    with suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):
        document = json.loads(files["adapted.json"])
        for name in ("head", "edit"):
            content = files.get(f"{name}.safetensors")
            if isinstance(content, bytes):
                document["contents"][name] = hashlib.sha256(content).hexdigest()
        files = {**files, "adapted.json": json.dumps(document).encode()}
    return files


@st.composite
def folders(draw: st.DrawFn, files: dict[str, bytes]) -> Files:
    spoilt = draw(spoiled(files, tuple(name for name in files if not name.endswith(".md"))))
    return sealed(spoilt) if draw(st.integers(0, 2)) else spoilt


@pytest.mark.parametrize("method", METHODS_TRIED)
def test_models(search: Search, models: dict[str, dict[str, bytes]], method: str, quick: None) -> None:
    search(read, folders(models[method]), examples=20)


def test_results(search: Search, models: dict[str, dict[str, bytes]]) -> None:
    files = models["linear"]

    def checked(folder: Path) -> None:
        assert check_run(folder).findings

    search(checked, st.builds(lambda result: {**files, "result.json": result}, changed_json(files["result.json"])))


def test_they_load_as_they_are(models: dict[str, dict[str, bytes]], tmp_path: Path, quick: None) -> None:
    for name, files in models.items():
        read(lay(sealed(files), tmp_path / name))


@pytest.fixture
def refused(models: dict[str, dict[str, bytes]], tmp_path: Path, quick: None) -> Callable[..., None]:
    def check(method: str, message: str, **changed: Any) -> None:
        folder = lay(sealed({**models[method], **changed}), tmp_path / "model")
        with pytest.raises(PromptFileError, match=message):
            load_adapted(folder)

    return check


def test_a_head_that_is_not_finite(refused: Callable[..., None]) -> None:
    head = save({"head.weight": torch.full((2, 32), torch.nan), "head.bias": torch.zeros(2)})
    refused("linear", "holds a value that is not finite", **{"head.safetensors": head})


def test_numbers_that_overflow(models: Any, tmp_path: Path, quick: None) -> None:
    """Finite as they lie in the file, and no longer so in the model."""
    state = {name: torch.full_like(value, 3e38) for name, value in load(models["ssf"]["edit.safetensors"]).items()}
    folder = lay(sealed({**models["ssf"], "edit.safetensors": save(state)}), tmp_path / "model")
    with pytest.raises(TrainingError, match="gives answers that are not finite"):
        load_adapted(folder).predict_proba([np.zeros((28, 28, 3), np.uint8)])


def test_a_prompt_longer_than_the_edit_holds(refused: Callable[..., None], models: Any) -> None:
    text = models["gate-vpt"]["adapted.json"].replace(b'"prompt_length": 3', b'"prompt_length": 1000000000')
    refused("gate-vpt", "does not fit method 'gate-vpt'", **{"adapted.json": text})


def test_a_model_without_its_contents(models: Any, tmp_path: Path) -> None:
    document = json.loads(models["linear"]["adapted.json"])
    del document["contents"]["prompt"]
    folder = lay({**models["linear"], "adapted.json": json.dumps(document).encode()}, tmp_path / "model")
    with pytest.raises(PromptFileError, match="damaged"):
        load_adapted(folder)


@pytest.mark.parametrize("name", ["adapted.json", "head.safetensors", "result.json", "estimator.json"])
@pytest.mark.parametrize("odd", ["pipe", "device", "loop", "folder"])
def test_nothing_is_waited_for(name: str, odd: str, models: Any, tmp_path: Path, quick: None) -> None:
    folder = lay({**models["linear"], name: odd}, tmp_path / "model")  # type: ignore[dict-item]
    assert not attempt(lambda: read(folder))


def test_a_vast_file_is_not_read(models: Any, tmp_path: Path) -> None:
    for name in ("adapted.json", "head.safetensors", "result.json", "estimator.json"):
        folder = lay(models["linear"], tmp_path / name)
        with (folder / name).open("r+b") as stream:
            stream.truncate(1 << 35)
        for reader in (load_adapted, check_run, PromptClassifier.load):
            attempt(lambda reader=reader, folder=folder: reader(folder))  # type: ignore[misc]
