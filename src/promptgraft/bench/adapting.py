"""`adapt` end to end: data embedded once and a race, against every candidate by itself, from the images on."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from promptgraft.adapt.run import adapt as run
from promptgraft.backbones.load import load_backbone
from promptgraft.bench.base import Row, Size, compare
from promptgraft.bench.whole_job import Shape, images, new_cache, vit_folder
from promptgraft.library import starter
from promptgraft.tuning.method import Layers
from promptgraft.tuning.recipes import RECIPES
from promptgraft.tuning.tune import transfer, tune


def adapting(size: Size) -> list[Row]:
    """60 training and 60 validation images of 37 tokens, a ViT of 4 blocks, 10 epochs (smoke: 16 and 16, a toy, 3).

    Seven candidates: the linear probe, three prompts from scratch, three text prompts projected. Both sides take
    the images as files would give them and end with tested classifiers; `adapt` also ranks the library and writes the
    report. `error` is the validation accuracy that the race lost, relative to the best candidate's.
    """
    count, shape, epochs = (60, Shape(128, 4, 2, 48, 8), 10) if size != "smoke" else (16, Shape(32, 2, 2, 28, 14), 3)
    task, library = images(count, count, count), starter()
    recipe = RECIPES["short"].model_copy(update={"epochs": epochs})
    with TemporaryDirectory() as name:
        backbone = load_backbone(f"dir:{vit_folder(Path(name) / 'vit', shape)}")

        tried: list[dict[str, Any]] = []
        values: list[float] = []

        def ours() -> None:
            with new_cache() as cache:
                tried[:] = run(task, backbone, library, cache / "out", recipe=recipe).result["candidates"]

        def alone(method: str, layers: Layers | None, source: str | None) -> float:
            with new_cache():
                if source is None:
                    found = tune(backbone, task, method=method, layers=layers, recipe=recipe)
                else:
                    found = transfer(library[source], backbone, task, method=method, recipe=recipe)
                found.score(task.test)
            return found.info.training.scores["val"].value

        def theirs() -> None:
            values[:] = [alone(one["method"], one["layers"], one["source"]) for one in tried]

        row = compare(
            "adapt",
            "every candidate alone",
            ours,
            theirs,
            error=0.0,
            rounds=1,
            operations=0,
            exact=False,
        )
    raced = sum(one["epochs"] for one in tried)
    note = f"{len(tried)} candidates, {epochs} epochs, {raced} epochs raced; error: validation accuracy lost"
    lost = 1 - max(one["val_accuracy"]["value"] for one in tried) / max(values)
    return [replace(row, error=lost, note=note)]
