"""Backbones from a folder that a stranger wrote."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from hostile.mutations import Files, changed, files_of, lay, safetensors_file, spoiled
from hostile.searching import Search, attempt
from promptgraft.backbones.load import load_backbone
from promptgraft.errors import InputError

FOLDERS = {"vision": "tiny_vit_folder", "text": "tiny_bert_folder"}


@pytest.fixture(scope="module", params=FOLDERS)
def files(request: pytest.FixtureRequest) -> dict[str, bytes]:
    found = files_of(request.getfixturevalue(FOLDERS[request.param]))
    if request.param == "vision":
        found["preprocessor_config.json"] = json.dumps(
            {
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
                "resample": 2,
                "image_processor_type": "ViTImageProcessor",
            }
        ).encode()
    return found


def read(folder: Path) -> None:
    backbone = load_backbone(f"dir:{folder}")
    vision = backbone.info.modality == "vision"
    tokens = backbone.embed([np.zeros((28, 28, 3), np.uint8)] if vision else ["a film", "the plot was warm"])
    with torch.no_grad():
        assert backbone.run(tokens).shape == (len(tokens), backbone.info.dim)


def test_backbones(search: Search, files: dict[str, bytes]) -> None:
    search(read, spoiled(files), examples=20)


@st.composite
def configured(draw: st.DrawFn, files: dict[str, bytes]) -> Files:
    name = draw(st.sampled_from([name for name in files if name.endswith(".json")] + ["config.json"] * 3))
    document = draw(changed(json.loads(files[name])))
    return {**files, name: json.dumps(document).encode("utf-8", "surrogatepass")}


def test_configurations(search: Search, files: dict[str, bytes]) -> None:
    search(read, configured(files), examples=30)


VAST = (
    {"num_hidden_layers": 10**7},
    {"num_hidden_layers": 0},
    {"num_hidden_layers": -1},
    {"hidden_size": 1 << 20, "num_attention_heads": 1},
    {"intermediate_size": 1 << 30},
    {"image_size": 1 << 20},
    {"vocab_size": 1 << 30},
    {"max_position_embeddings": 1 << 33},
    {"quantization_config": {"quant_method": "gptq", "bits": 4}},
)


@pytest.mark.parametrize("change", VAST, ids=str)
def test_a_configuration_of_another_model(change: dict[str, Any], files: dict[str, bytes], tmp_path: Path) -> None:
    config = json.loads(files["config.json"])
    if not set(change) <= {*config, "quantization_config"}:
        pytest.skip("not of this family")
    folder = lay({**files, "config.json": json.dumps(config | change).encode()}, tmp_path / "model")
    assert not attempt(lambda: read(folder))


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_kernel_is_never_fetched(key: str, files: dict[str, bytes], tmp_path: Path) -> None:
    """transformers would download a kernel of that name, and run it."""
    config = json.loads(files["config.json"]) | {key: "someone/a-kernel"}
    folder = lay({**files, "config.json": json.dumps(config).encode()}, tmp_path / "model")
    assert attempt(lambda: read(folder))
    model: Any = load_backbone(f"dir:{folder}").model
    assert model.config._attn_implementation == "eager"


def test_code_beside_the_weights_is_not_run(files: dict[str, bytes], tmp_path: Path) -> None:
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\n".encode()
    names = ("AutoConfig", "AutoModel", "AutoTokenizer", "AutoImageProcessor")
    own = {"auto_map": dict.fromkeys(names, "evil.Evil"), "custom_pipelines": {"x": {"impl": "evil.Evil"}}}
    changed_files = {
        name: json.dumps(json.loads(content) | own).encode() for name, content in files.items() if "config" in name
    }
    folder = lay({**files, **changed_files, "evil.py": code, "setup.py": code}, tmp_path / "model")
    attempt(lambda: read(folder))
    assert not (tmp_path / "ran").exists()


def test_an_adapter_is_not_put_into_the_model(files: dict[str, bytes], tmp_path: Path) -> None:
    """transformers does that where PEFT is installed, so that one name would stand for two models."""
    adapter = {"peft_type": "LORA", "r": 2, "target_modules": ["query"], "base_model_name_or_path": "someone/model"}
    folder = lay({**files, "adapter_config.json": json.dumps(adapter).encode()}, tmp_path / "model")
    with pytest.raises(InputError, match="has a PEFT adapter"):
        load_backbone(f"dir:{folder}")


@pytest.mark.parametrize("shard", ["../model.safetensors", "/dev/zero", "a/b.safetensors", 3])
def test_weights_elsewhere(shard: Any, files: dict[str, bytes], tmp_path: Path) -> None:
    index = {"metadata": {}, "weight_map": {"x": shard}}
    folder = lay({**files, "model.safetensors.index.json": json.dumps(index).encode()}, tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "other")
    with pytest.raises(InputError, match="does not list files of this folder"):
        load_backbone(f"dir:{folder}")


def test_weights_that_are_not_finite(files: dict[str, bytes], tmp_path: Path) -> None:
    weights = bytearray(files["model.safetensors"])
    weights[-4:] = struct.pack("<f", float("nan"))
    folder = lay({**files, "model.safetensors": bytes(weights)}, tmp_path / "model")
    with pytest.raises(InputError, match="holds NaN or infinite values in "):
        load_backbone(f"dir:{folder}")


@pytest.mark.parametrize("odd", ["pipe", "device", "loop", "folder"])
def test_nothing_is_waited_for(odd: str, files: dict[str, bytes], tmp_path: Path) -> None:
    for name in [*files, "vocab.txt", "adapter_config.json", "pytorch_model.bin", "generation_config.json"]:
        folder = lay({**files, name: odd}, tmp_path / name)  # type: ignore[dict-item]
        attempt(lambda folder=folder: read(folder))  # type: ignore[misc]
        shutil.rmtree(folder)


@pytest.mark.parametrize("length", [1 << 27, 1 << 40, (1 << 64) - 1])
def test_vast_headers(length: int, files: dict[str, bytes], tmp_path: Path) -> None:
    folder = lay({**files, "model.safetensors": safetensors_file({}, b"", length)}, tmp_path / "model")
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.truncate(1 << 28)
    with pytest.raises(InputError, match="its header takes"):
        load_backbone(f"dir:{folder}")
