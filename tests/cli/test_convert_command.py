"""`promptgraft convert` from end to end, on a tiny model and another of its family."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import promptgraft as pg
from promptgraft.backbones.packed import quiet_transformers
from promptgraft.prompt import SoftPrompt


@pytest.fixture(scope="module")
def other_bert_folder(tiny_bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The words of the tiny BERT in another model, 16-d."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "other bert"
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert_folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(1)
    with quiet_transformers():
        tokenizer.save_pretrained(folder)
        config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **sizes)
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def test_convert(
    promptgraft: Any, make_prompt: Any, tiny_bert_folder: Path, other_bert_folder: Path, tmp_path: Path
) -> None:
    source = pg.load_backbone(f"dir:{tiny_bert_folder}")
    made = make_prompt(dim=32)
    prompt = SoftPrompt(made.tensor, made.card.model_copy(update={"backbone": source.info}))
    prompt.save(tmp_path / "p")
    arguments = ["convert", tmp_path / "p", "--to", f"dir:{other_bert_folder}", "--out"]
    code, out, error = promptgraft(*arguments, tmp_path / "a b")
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == [
        f"text/example: 4 rows, dir:{tiny_bert_folder} (32-d)",
        f"text/example-relative: 4 rows, dir:{other_bert_folder} (16-d)",
    ]
    assert "anchors 20" in lines
    assert any(line.startswith("matching cosine 0.") for line in lines)
    assert lines[-1] == (
        f"wrote {tmp_path / 'a b'}     next: promptgraft transfer '{tmp_path / 'a b'}' DATA "
        f"--backbone 'dir:{other_bert_folder}' --method frozen --out DIR"
    )
    converted = SoftPrompt.load(tmp_path / "a b")
    assert converted.tensor.shape == (1, 4, 16)
    assert converted.card.parents == (prompt.id,)
    assert str(converted.card.command).startswith("promptgraft")

    code, out, error = promptgraft(*arguments, tmp_path / "json", "--method", "discretization", "--json")
    assert (code, error) == (0, "")
    assert len(json.loads(out)["words"]) == 4
    code, _, error = promptgraft(*arguments, tmp_path / "few", "--top-k", 10)
    assert (code, "give a ridge such as 0.1" in error, (tmp_path / "few").exists()) == (2, True, False)
    assert promptgraft(*arguments, tmp_path / "few", "--top-k", 10, "--ridge", 0.1)[0] == 0
    code, _, error = promptgraft(*arguments, tmp_path / "x", "--from", f"dir:{other_bert_folder}")
    assert (code, "Load the model that the prompt was tuned on" in error) == (2, True)
    code, _, error = promptgraft(*arguments, tmp_path / "json")
    assert (code, "is not empty" in error) == (2, True)
