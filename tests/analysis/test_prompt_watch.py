"""What a watch records: every epoch, also across an interruption, and nothing that changes the training."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptgraft.analysis import PromptWatch, TokenSample
from promptgraft.analysis.watch import check_has_prompt
from promptgraft.errors import InputError
from promptgraft.initialization.random import random_prompt
from promptgraft.tasks.embedded import embed_task
from promptgraft.tuning.fit import Trainer
from promptgraft.tuning.method import METHODS
from promptgraft.tuning.tune import tune
from tuning.samples import FAST, make_backbone, make_task  # type: ignore[import-not-found]

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")

OPTIONS: dict[str, Any] = {"recipe": FAST, "prompt_length": 4, "seed": 3}


def watched(modality: str = "vision", notes: Path | None = None, **options: Any) -> tuple[Any, dict[str, Any]]:
    backbone = make_backbone("vit" if modality == "vision" else "bert")
    watch = PromptWatch(notes)
    adapted = tune(backbone, make_task(modality), **OPTIONS | options, on_epoch=watch)
    return adapted, json.loads(json.dumps(watch.analysis(adapted), allow_nan=False))


@pytest.mark.parametrize("layers", ["shallow", "deep"])
@pytest.mark.parametrize("modality", ["vision", "text"])
def test_it_measures_the_start_every_epoch_and_the_end(modality: str, layers: str) -> None:
    adapted, analysis = watched(modality, layers=layers)
    backbone, count = adapted.backbone, 1 if layers == "shallow" else 3
    split = embed_task(backbone, make_task(modality)).train
    sample = TokenSample(backbone, split, layers, seed=3)
    assert [line["epoch"] for line in analysis["nmi"]] == [0, 1, 2, 3]
    assert {len(line["layers"]) for line in analysis["nmi"]} == {count}
    start = random_prompt(backbone.info, 4, layers, 3)
    assert analysis["nmi"][0]["layers"] == pytest.approx(sample.nmi(start))
    assert analysis["nmi"][analysis["kept_epoch"]]["layers"] == pytest.approx(sample.nmi(adapted.prompt.tensor))
    assert analysis["nmi"][0]["layers"] != pytest.approx(analysis["nmi"][3]["layers"], rel=1e-3)
    assert [len(row) for row in analysis["cka"]] == [count] * count
    np.testing.assert_allclose(analysis["cka"], sample.cka(adapted.prompt.tensor))
    assert analysis["missing_epochs"] == []
    assert analysis["inputs"] == 20
    assert analysis["adapted"]["task"]["name"] == "sample"


def test_watching_changes_nothing() -> None:
    plain: Any = tune(make_backbone(), make_task(), **OPTIONS)
    assert (watched()[0].prompt.tensor == plain.prompt.tensor).all()


def interrupted(path: Path, after: int, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    epoch, done = Trainer._epoch, list[int]()

    def stopping(trainer: Trainer) -> float:
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(trainer.epoch)
        return epoch(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_epoch", stopping)
        with pytest.raises(KeyboardInterrupt):
            tune(make_backbone(), make_task(), **OPTIONS, checkpoint=path, **options)


def without_time(analysis: dict[str, Any]) -> dict[str, Any]:
    adapted = {**analysis["adapted"], "training": {**analysis["adapted"]["training"], "seconds": 0}}
    adapted["curve"] = [{**line, "seconds": 0} for line in adapted["curve"]]
    return {**analysis, "adapted": adapted, "created": None}


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interruption_loses_no_epoch(after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, notes = tmp_path / "run", tmp_path / "notes"
    interrupted(path, after, monkeypatch, on_epoch=PromptWatch(notes))
    _, analysis = watched(notes=notes, checkpoint=path)
    assert without_time(analysis) == without_time(watched()[1])


def test_epochs_that_nobody_watched_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(tmp_path / "run", 2, monkeypatch)
    _, analysis = watched(checkpoint=tmp_path / "run")
    assert [line["epoch"] for line in analysis["nmi"]] == [2, 3]
    assert analysis["missing_epochs"] == [0, 1]


@pytest.mark.parametrize("content", ['{"0": [1', "[]", '{"0": [9, 9, 9], "7": [9, 9, 9]}'])
def test_notes_of_no_use_are_not_used(content: str, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_text(content)
    assert without_time(watched(notes=notes)[1]) == without_time(watched()[1])


def test_a_prompt_that_is_not_trained_is_measured_once() -> None:
    _, analysis = watched(method="random")
    assert [line["epoch"] for line in analysis["nmi"]] == [0]
    assert analysis["kept_epoch"] == 0
    assert all(0 <= value <= 1 and math.isfinite(value) for row in analysis["cka"] for value in row)


def of_kind(with_prompt: bool) -> list[str]:
    own = [METHODS[name] for name in METHODS if METHODS[name].sources == "none"]
    return [method.name for method in own if bool(method.layers) == with_prompt]


@pytest.mark.parametrize("method", of_kind(with_prompt=True))
def test_every_method_with_a_prompt_can_be_watched(method: str) -> None:
    layers = METHODS[method].layers[0]
    _, analysis = watched(method=method, layers=layers)
    check_has_prompt(METHODS[method])
    assert len(analysis["nmi"][0]["layers"]) == len(analysis["cka"]) == (1 if layers == "shallow" else 3)
    assert analysis["prompt_length"] == 4


@pytest.mark.parametrize("method", of_kind(with_prompt=False))
def test_a_method_without_a_prompt_is_refused(method: str) -> None:
    for refused in (lambda: check_has_prompt(METHODS[method]), lambda: watched(method=method)):
        with pytest.raises(InputError, match=f"method '{method}' has none. Choose"):
            refused()
