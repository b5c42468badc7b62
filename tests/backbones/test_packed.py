from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from safetensors.numpy import load_file, save_file

from promptgraft.backbones import packed
from promptgraft.backbones.onnx_weights import named_weights
from promptgraft.backbones.packed import load_packed
from promptgraft.errors import InputError, PackError
from promptgraft.files import cache_root


def test_linear_weights_get_their_names_back() -> None:
    weight, other, bias = np.arange(6, dtype=np.float32).reshape(2, 3), np.eye(3, dtype=np.float32), np.ones(3, "f4")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "onnx::MatMul_1"], ["p"]),
            helper.make_node("Add", ["layer.fc.bias", "p"], ["y"]),
            helper.make_node("MatMul", ["y", "onnx::MatMul_2"], ["z"]),  # no bias: its name is lost
        ],
        "linear",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [None, 3])],
        [
            numpy_helper.from_array(weight, "onnx::MatMul_1"),
            numpy_helper.from_array(other, "onnx::MatMul_2"),
            numpy_helper.from_array(bias, "layer.fc.bias"),
        ],
    )
    weights = named_weights(graph)
    assert set(weights) == {"layer.fc.weight", "layer.fc.bias", "onnx::MatMul_2"}
    np.testing.assert_array_equal(weights["layer.fc.weight"], weight.T)


def test_every_model_of_the_manifest_has_a_recipe() -> None:
    models = {pack.name for pack in packed.load_manifest().values() if pack.kind == "model"}
    assert models == set(packed._RECIPES)


def test_a_data_pack_is_not_a_model() -> None:
    with pytest.raises(InputError, match=r"'mnist-5k' holds data, not a model\. Models: dinov2-small"):
        load_packed("mnist-5k")


def test_a_load_is_strict(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    shape = {"vocab_size": 20, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(**shape, intermediate_size=16), add_pooling_layer=False).save_pretrained(tmp_path)
    recipe = packed._RECIPES["minilm-l6"]
    model = packed._load(recipe, tmp_path)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    weights = load_file(tmp_path / "model.safetensors")
    gone = weights.pop("encoder.layer.0.output.dense.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PackError, match=r"do not fit BertModel.*output\.dense\.weight"):
        packed._load(recipe, tmp_path)
    save_file({**weights, "encoder.layer.0.output.dense.weight": gone, "spare": gone}, tmp_path / "model.safetensors")
    with pytest.raises(PackError, match="spare"):
        packed._load(recipe, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(PackError, match="Remove that folder"):
        packed._load(recipe, tmp_path)


def sentence_features(name: str, sentences: list[str]) -> torch.Tensor:
    model, tokenizer, facts = load_packed(name)
    assert facts["pool"] == "mean"
    batch: Any = tokenizer(
        sentences, padding=True, truncation=True, max_length=facts["max_length"], return_tensors="pt"
    )
    with torch.no_grad():
        hidden = getattr(model, "base_model", model)(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


@pytest.mark.real
def test_dinov2_small() -> None:
    model, tokenizer, facts = load_packed("dinov2-small")
    assert tokenizer is None
    assert (facts["modality"], facts["pool"], facts["image_size"], facts["native_size"]) == ("vision", "cls", 224, 518)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        hidden = model(torch.randn(2, 3, 70, 70, generator=generator)).last_hidden_state
    assert hidden.shape == (2, 26, 384)
    assert hidden.isfinite().all()
    assert model.embeddings.position_embeddings.std() > 0.01  # recovered from unnamed constants, not left at zero


@pytest.mark.real
@pytest.mark.parametrize(("name", "dim"), [("minilm-l6", 384), ("minilm-l3", 384)])
def test_sentence_encoders_know_related_sentences(name: str, dim: int) -> None:
    cat, kitten, bond = sentence_features(
        name, ["A cat sleeps on the sofa.", "A kitten is napping on the couch.", "Bond yields rose on Tuesday."]
    )
    assert cat.shape == (dim,)
    assert cat @ kitten > 0.5
    assert cat @ bond < 0.2


@pytest.mark.real
def test_bert_tiny_predicts_words_with_the_vocabulary_of_minilm() -> None:
    model, tokenizer, _ = load_packed("bert-tiny-mlm")
    assert tokenizer.get_vocab() == load_packed("minilm-l6").tokenizer.get_vocab()
    with torch.no_grad():
        logits = model(**tokenizer("The capital of France is Paris.", return_tensors="pt")).logits[0]
    top = tokenizer.convert_ids_to_tokens(logits.amax(0).topk(10).indices.tolist())
    assert {"paris", "france"} <= set(top)  # SPLADE: the largest logits are the words of the text


@pytest.mark.real
def test_a_second_load_needs_the_converted_folder_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_packed("bert-tiny-mlm").model.state_dict()

    def refuse(*_: object) -> None:
        raise AssertionError("the archive was opened again")

    monkeypatch.setattr(packed, "open_member", refuse)
    second = load_packed("bert-tiny-mlm").model.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert list((cache_root() / "models").glob("bert-tiny-mlm-*"))
