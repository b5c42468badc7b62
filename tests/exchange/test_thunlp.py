"""Prompts published by thunlp: what the card says, and files that nobody should trust."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from promptgraft import SoftPrompt
from promptgraft.errors import InputError
from promptgraft.exchange import IMPORTERS
from promptgraft.exchange.thunlp import FILE_LIMIT, import_thunlp, read_rows

THUNLP = Path(os.environ.get("PROMPTGRAFT_SHARED", "../shared")) / "data" / "thunlp"


def write(folder, model="roberta-base", task="snli", value=None):
    path = folder / model / f"{task}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(torch.randn(100, 768) if value is None else value, path)
    return path


def test_card_says_what_is_known_and_no_more(tmp_path):
    path = write(tmp_path)
    prompt = IMPORTERS["thunlp"](path)
    card = prompt.card
    assert torch.equal(prompt.tensor, torch.load(path, weights_only=True)[None])
    assert (card.name, card.task.name) == ("text/roberta-base-snli", "snli")
    assert (card.task.n_train, card.task.pair) == (549_367, True)
    assert card.task.classes == ("entailment", "neutral", "contradiction")
    assert (card.backbone.name, card.backbone.weights_sha256) == ("hf/FacebookAI/roberta-base", "unknown")
    assert (card.training, card.task.fingerprint, card.licence) == (None, "unknown", "MIT")
    prompt.save(tmp_path / "saved")
    assert SoftPrompt.load(tmp_path / "saved") == prompt


@pytest.mark.parametrize(("model", "dead"), [("roberta-base", (0,)), ("bert-base-uncased", (0,)), ("t5-base", ())])
def test_dead_row_is_named_and_dropped_only_when_asked(tmp_path, model, dead):
    path = write(tmp_path, model)
    whole, dropped = import_thunlp(path), import_thunlp(path, drop_dead=True)
    assert (whole.card.prompt.length, whole.card.prompt.dead_rows) == (100, dead)
    assert (dropped.card.prompt.length, dropped.card.prompt.dead_rows) == (100 - len(dead), ())
    assert torch.equal(whole.rows(), dropped.rows())


def test_unknown_task_has_nothing_recorded(tmp_path):
    card = import_thunlp(write(tmp_path, "t5-base", "samsum")).card
    assert (card.task.classes, card.task.n_train, card.task.metric) == ((), 0, "unknown")


def spoiled(row, value):
    rows = torch.randn(100, 768)
    rows[row] = value
    return rows


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.randn(99, 768), r"is \(99, 768\); prompts of roberta-base are \(100, 768\)"),
        (torch.randn(1, 100, 768), r"of shape \(1, 100, 768\)"),
        (torch.ones(100, 768, dtype=torch.int64), "torch.int64"),
        (torch.zeros(1).expand(1 << 20, 1 << 20), r"of shape \(1048576, 1048576\)"),
        (torch.randn(100, 768).to_sparse(), "one dense tensor"),
        ({"prompt": torch.randn(100, 768)}, "holds a dict"),
        (spoiled(7, float("nan")), "NaN or infinite values in row 7"),
        (spoiled(3, float("inf")), "NaN or infinite values in row 3"),
    ],
)
def test_refuse_what_is_no_prompt(tmp_path, value, message):
    with pytest.raises(InputError, match=message):
        import_thunlp(write(tmp_path, value=value))


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, value=Bomb())
    with pytest.raises(InputError, match="does not hold a plain tensor"):
        import_thunlp(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match=r"not a file of torch\.save"):
        import_thunlp(path)
    assert not (tmp_path / "unpickled").exists()


def test_size_is_bounded_before_anything_is_read(tmp_path, monkeypatch):
    path = write(tmp_path)
    monkeypatch.setattr(torch, "load", pytest.fail)
    with path.open("wb") as stream:
        stream.truncate(FILE_LIMIT + 1)
    with pytest.raises(InputError, match="is larger than the 8388608 bytes"):
        read_rows(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", b"\0" * (FILE_LIMIT + 1))
    assert path.stat().st_size < FILE_LIMIT / 100
    with pytest.raises(InputError, match="unpacks to 8388609 bytes"):
        read_rows(path)


def test_truncated_missing_and_misplaced_files(tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="truncated"):
        import_thunlp(path)
    for missing in (tmp_path / "roberta-base", tmp_path / "roberta-base" / "none.pt"):
        with pytest.raises(InputError, match=r"lies in|No such file"):
            import_thunlp(missing)
    with pytest.raises(InputError, match=r"'robert-base', which names no model\. Did you mean 'roberta-base'"):
        import_thunlp(write(tmp_path, "robert-base"))


@pytest.mark.real
@pytest.mark.skipif(not THUNLP.is_dir(), reason="published prompts are not here")
def test_published_prompts():
    paths = sorted(THUNLP.glob("*/*.pt"))
    assert len(paths) == 43
    for path in paths:
        prompt = import_thunlp(path)
        norms = np.linalg.norm(prompt.tensor[0].numpy(), axis=1)
        assert (norms.argmax() == 0) == (prompt.card.prompt.dead_rows == (0,)), path
