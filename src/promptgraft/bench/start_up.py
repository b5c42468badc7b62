"""What a user waits for before anything happens: the import, the command, one prediction, against importing torch."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from promptgraft.backbones.load import load_backbone
from promptgraft.bench.base import Row, Size, compare
from promptgraft.bench.whole_job import Shape, images, new_cache, vit_folder
from promptgraft.tuning.tune import tune

COMMAND = ("-m", "promptgraft")
VIT = "import torch, transformers.models.vit.modeling_vit"


def start_up(size: Size) -> list[Row]:
    """Whole processes: `import promptgraft`, `promptgraft --help`, and `promptgraft predict` of one image.

    The first two load torch only when it is needed. The third loads a ViT-S with a deep prompt of 10 rows, for images
    of 112 pixels (smoke: a toy), against importing that model's class, which it cannot do without.
    """
    rounds, shape = (3, Shape(384, 12, 6, 112, 14)) if size != "smoke" else (1, Shape(32, 2, 2, 28, 14))

    def row(name: str, said: str, ours: Sequence[str], baseline: str = "import torch", code: str = "") -> Row:
        timed = compare(
            f"start-up-{name}",
            baseline,
            _process(*ours),
            _process("-c", code or baseline),
            error=0.0,
            rounds=rounds,
            operations=0,
            note=f"{said}, a whole process; nothing is compared but time",
            exact=False,
        )
        return replace(timed, memory=None, baseline_memory=None)

    with TemporaryDirectory() as name, new_cache():
        made = map(str, _adapted(Path(name), shape))
        return [
            row("import", "import promptgraft", ("-c", "import promptgraft")),
            row("help", "promptgraft --help", (*COMMAND, "--help")),
            row("predict", "promptgraft predict of one image", (*COMMAND, "predict", *made), "import its ViT", VIT),
        ]


def _adapted(folder: Path, shape: Shape) -> tuple[Path, Path]:
    """A classifier that `predict` takes, and an image."""
    backbone, task = load_backbone(f"dir:{vit_folder(folder / 'vit', shape)}"), images(16, 16, 1)
    tune(backbone, task, epochs=1).save(folder / "adapted")
    task.test.inputs[0].save(folder / "image.png")
    return folder / "adapted", folder / "image.png"


def _process(*arguments: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
