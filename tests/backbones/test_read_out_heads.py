"""Heads that were trained for packed encoders: put on, checked, and read as BERT's own."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save

from backbones.tiny import tiny_model
from promptgraft.backbones import packed, read_out
from promptgraft.backbones.load import load_backbone
from promptgraft.backbones.packed import PackedModel
from promptgraft.backbones.read_out import SHAPES, has_read_out, packed_read_out, tensors_sha256, with_read_out
from promptgraft.backbones.transformer import weights_sha256
from promptgraft.errors import InputError, PackError
from transfer.worded import wordpiece


@pytest.fixture
def encoder():
    return tiny_model("bert", 0, vocab_size=len(wordpiece())).float()


@pytest.fixture
def head(encoder):
    generator = torch.Generator().manual_seed(1)
    width, words = encoder.config.hidden_size, encoder.config.vocab_size
    shapes = [(width, width), (width,), (width,), (width,), (words,)]
    return {name: torch.randn(s, generator=generator).half() for name, s in zip(SHAPES, shapes, strict=True)}


@pytest.fixture
def shipped(encoder, head, tmp_path, monkeypatch):
    """The encoder as a pack, and its head as it is shipped."""
    facts = {"modality": "text", "pool": "mean", "max_length": 24}
    monkeypatch.setattr(packed, "load_packed", lambda name: PackedModel(encoder, wordpiece(), facts))
    monkeypatch.setattr(read_out, "HEADS", tmp_path)
    (tmp_path / "tiny.safetensors").write_bytes(save(head))
    values = {name: value.float() for name, value in head.items()}
    card = {"weights_sha256": weights_sha256(encoder), "head_sha256": tensors_sha256(values)}
    (tmp_path / "tiny.json").write_text(json.dumps(card))
    return tmp_path


def test_scores_are_those_of_berts_head_written_out(encoder, head):
    ids = torch.tensor([[2, 9, 11, 4, 3]])
    values = {name: value.float() for name, value in head.items()}
    found = with_read_out(encoder, values)(input_ids=ids).logits
    x = F.gelu(encoder(input_ids=ids).last_hidden_state @ values["dense.weight"].T + values["dense.bias"])
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + encoder.config.layer_norm_eps).sqrt()
    x = x * values["norm.weight"] + values["norm.bias"]
    wanted = x @ encoder.get_input_embeddings().weight.T + values["decoder.bias"]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_pack_gets_its_head_where_words_are_to_be_scored(shipped, encoder, head):
    plain, masked = load_backbone("packs/tiny"), load_backbone("packs/tiny", pool="mask")
    assert plain.info.weights_sha256 == weights_sha256(encoder) != masked.info.weights_sha256
    weight, bias = masked.score_words(["di", "du"])
    ids = wordpiece()(["di", "du"], add_special_tokens=False)["input_ids"]
    rows = [row for [row] in ids]
    torch.testing.assert_close(weight, encoder.get_input_embeddings().weight[rows])
    torch.testing.assert_close(bias, head["decoder.bias"].float()[rows])
    assert not any(parameter.requires_grad for parameter in masked.model.parameters())
    assert not any(parameter.is_meta for parameter in masked.model.parameters())


def test_a_head_of_other_weights_is_refused(shipped, encoder):
    with torch.no_grad():
        encoder.embeddings.word_embeddings.weight[0, 0] += 1
    with pytest.raises(PackError, match="head of tiny belongs to other weights than this pack's"):
        packed_read_out(encoder, "tiny")


def test_an_altered_head_is_refused(shipped, encoder, head):
    head["dense.bias"][0] += 1
    (shipped / "tiny.safetensors").write_bytes(save(head))
    with pytest.raises(PackError, match="head of tiny belongs to other weights"):
        packed_read_out(encoder, "tiny")
    (shipped / "tiny.safetensors").write_bytes(b"nothing")
    with pytest.raises(PackError, match="head of tiny cannot be read"):
        packed_read_out(encoder, "tiny")


def test_a_pack_without_a_head_says_so(shipped, monkeypatch):
    (shipped / "tiny.json").unlink()
    assert not has_read_out("tiny")
    with pytest.raises(InputError, match="has no masked-language head"):
        load_backbone("packs/tiny", pool="mask")


@pytest.mark.real
@pytest.mark.parametrize("name", ["minilm-l3", "minilm-l6"])
def test_the_shipped_heads_fill_in_words_better_than_frequencies(name, monkeypatch):
    monkeypatch.delenv("PROMPTGRAFT_CACHE", raising=False)
    model = load_backbone(f"packs/{name}", pool="mask")
    card = json.loads((read_out.HEADS / f"{name}.json").read_bytes())
    assert card["held_out"]["loss"] < card["held_out"]["unigram_loss"]
    assert card["held_out"]["top5"] > card["held_out"]["unigram_top5"]
    assert len((read_out.HEADS / f"{name}.safetensors").read_bytes()) < 700_000
    words = ["monday", "river"]
    weight, bias = model.score_words(words)
    tokenizer = model.tokenizer
    ids = tokenizer("the meeting is on tuesday or [MASK] .", return_tensors="pt")
    at = (ids["input_ids"] == tokenizer.mask_token_id).nonzero()[:, 1:]
    asked = {key: ids[key] for key in ("input_ids", "attention_mask")}
    read = model.rows(model.embed(asked), at=at)[0, 0]
    scores = weight @ read + bias
    assert scores[0] > scores[1]
