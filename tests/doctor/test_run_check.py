import json
from pathlib import Path
from typing import Any

import pytest

import promptgraft as pg
from promptgraft.doctor.run import check_curve, check_run
from promptgraft.errors import PromptFileError
from promptgraft.tuning.fit import Epoch
from promptgraft.tuning.recipes import Recipe


def said(findings: Any) -> str:
    return "\n".join(f"{finding.severity}: {finding.what}" for finding in findings)


def curve(losses: list[float], val_losses: list[float] | None = None) -> list[Epoch]:
    """Epoch 0 and one for each training loss."""
    val = val_losses or [1.0] * (len(losses) + 1)
    train = [None, *losses]
    return [Epoch(i, loss, val[i], 0.5, 1.0) for i, loss in enumerate(train)]


@pytest.mark.parametrize(
    ("losses", "val", "best", "expected"),
    [
        ([1.0, 0.5, 0.2], None, 2, ""),
        ([1.0, 1.5, 3.0], None, 1, "warning: the training loss rose from 1 to 3 with lr 0.5"),
        ([1.0, 0.99, 0.99], None, 1, "warning: the training loss stood still: 1 to 0.99 with lr 0.5"),
        ([1.0, 0.5, 0.2], None, 0, "warning: no epoch of 3 was better on validation than the start, which was kept"),
        ([1.0, 0.5, 0.2], None, 3, "note: the last epoch, 3, was the best on validation"),
        ([1.0, 0.5, 0.2], [1.0, 0.5, 0.9, 2.0], 1, "note: the validation loss rose again, from 0.5 to 2"),
        ([1.0], None, 0, ""),
    ],
)
def test_what_a_curve_tells(losses: list[float], val: list[float] | None, best: int, expected: str) -> None:
    assert said(check_curve(curve(losses, val), best, {"lr": 0.5})) == expected


@pytest.fixture
def made(tiny_vit_folder: Path, image_folder: Path, own_cache: Path, one_thread: None, tmp_path: Path) -> Any:
    """The folder of a model that was tuned with some learning rate."""

    def run(method: str = "vpt", lr: float = 0.05) -> Path:
        backbone = pg.load_backbone(f"dir:{tiny_vit_folder}")
        recipe = Recipe(lr=lr, head_lr=1e-3, epochs=1, keep="last")
        adapted = pg.tune(backbone, pg.load_task(image_folder), method=method, prompt_length=3, recipe=recipe)
        return adapted.save(tmp_path / f"{method}-{lr}")

    return run


def test_a_prompt_that_did_not_move_is_told_from_one_that_did(made: Any) -> None:
    still, moved = check_run(made(lr=1e-7)), check_run(made(lr=0.05))
    assert still.drift is not None
    assert moved.drift is not None
    assert still.drift < 1e-3 < 0.01 < moved.drift
    assert "warning: the prompt moved by 0.0% of its start's norm" in said(still.findings)
    assert "the prompt moved" not in said(moved.findings)
    assert (moved.method, moved.epochs, moved.task) == ("vpt", 1, "photos")


def test_tune_keeps_the_curve_and_a_model_without_one_is_told(made: Any) -> None:
    folder = made()
    found = check_run(folder)
    assert (found.curve_of, found.best_epoch) == ("vpt deep", 1)  # keep="last"
    assert [line.epoch for line in found.curve] == [0, 1]
    assert found.curve[0].train_loss is None
    assert found.curve[1].train_loss is not None
    assert "no learning curve" not in said(found.findings)
    model = json.loads((folder / "adapted.json").read_text())
    del model["curve"], model["best_epoch"]  # as an earlier version wrote it
    (folder / "adapted.json").write_text(json.dumps(model))
    found = check_run(folder)
    assert (found.curve, found.best_epoch) == ((), None)
    assert "note: no learning curve was kept" in said(found.findings)


def test_the_curve_and_the_head_come_from_result_json(made: Any) -> None:
    folder = made()
    accuracy = {"value": 0.6, "low": 0.4, "high": 0.8, "n": 20}
    winner = {
        "method": "vpt",
        "winner": True,
        "best_epoch": 0,
        "history": [vars(line) for line in curve([1.0, 2.0])],
    }
    failed = {"method": "spt", "status": "failed", "reason": "the loss became nan"}
    result = {
        "candidates": [winner, failed],
        "val_accuracy": accuracy,
        "linear_probe": {"val_accuracy": {**accuracy, "value": 1.0, "high": 1.0}},
        "confusion": {"matrix": [[0, 5], [0, 5]], "classes": ["dark", "light"]},
    }
    (folder / "result.json").write_text(json.dumps(result))
    found = check_run(folder)
    assert found.best_epoch == 0
    assert found.scores["val_head"].value == 1.0
    assert found.findings[0].severity == "error"
    text = said(found.findings)
    assert "error: all 10 test examples are taken for 'light'" in text
    assert "that of the head without the prompt" in text
    assert "warning: the training loss rose from 1 to 2" in text
    assert "warning: candidate spt failed: the loss became nan" in text
    assert "validation examples: its accuracy is rough" in text


def test_a_head_alone_has_no_curve_but_that_of_the_candidates_it_beat(made: Any) -> None:
    folder = made("linear")
    found = check_run(folder)
    assert (found.drift, found.curve) == (None, ())
    assert "note: method 'linear' trains nothing but a head" in said(found.findings)

    def row(method: str, value: float, losses: list[float], **fields: Any) -> dict[str, Any]:
        accuracy = {"value": value, "low": 0.0, "high": 1.0, "n": 20}
        history = [vars(line) for line in curve(losses)] if losses else []
        return {"method": method, "val_accuracy": accuracy, "history": history, "best_epoch": 0} | fields

    candidates = [
        row("linear", 0.8, [], winner=True),
        row("vpt", 0.5, [1.0, 0.5], layers="deep"),
        row("initial", 0.7, [1.0, 2.0], source="vision/digits"),
    ]
    (folder / "result.json").write_text(json.dumps({"candidates": candidates}))
    found = check_run(folder)
    assert (found.method, found.curve_of, found.best_epoch) == ("linear", "initial of vision/digits", 0)
    assert [line.train_loss for line in found.curve] == [None, 1.0, 2.0]
    assert "warning: initial of vision/digits: the training loss rose from 1 to 2" in said(found.findings)
    [note] = [finding for finding in found.findings if "trains nothing but a head" in finding.what]
    assert note.cure == "The curve is that of initial of vision/digits, the best of the others."


def test_no_model_and_a_damaged_one(made: Any, tmp_path: Path) -> None:
    with pytest.raises(PromptFileError, match=r"holds no adapted model: adapted\.json is missing"):
        check_run(tmp_path / "nowhere")
    folder = made("linear")
    (folder / "result.json").write_text("{")
    with pytest.raises(PromptFileError, match=r"result\.json is damaged"):
        check_run(folder)
    (folder / "adapted.json").write_text("[]")
    with pytest.raises(PromptFileError, match="is damaged"):
        check_run(folder)
