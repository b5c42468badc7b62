"""What a study of many trials costs besides the trials: planning, registering, looking, and handing out.

Makes a study of tiny random trials in a temporary folder, fills in most of its results without running them, and
prints a table of seconds, each beside the most that it should take:

    plan        `plan_study`, the model's weights and the data hashed
    register    `Store.register` of the whole plan into a new SQLite file
    again       `Store.register` of the same plan once more, as every resume does
    results     `Store.claim` and `Store.finish`, per trial, in milliseconds
    status      `promptgraft study status` as a process of its own, from start to exit
    overhead    per trial that is run for real, in milliseconds: the wall time of `run_study` without the seconds
                that the trials themselves measured

    python benchmarks/study_scale.py                       10,000 trials, of which 200 are run for real
    python benchmarks/study_scale.py --trials 1000 --run 50
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
AIMS = {"plan": "5 s", "register": "2 s", "again": "2 s", "results": "5 ms", "status": "1 s", "overhead": "20 ms"}


def timed(act: Callable[[], T]) -> tuple[float, T]:
    """Seconds that something takes, and what it gives."""
    started = time.perf_counter()
    made = act()
    return time.perf_counter() - started, made


def make_inputs(folder: Path) -> tuple[Path, Path]:
    """A random two-layer ViT and 32 random images in two classes."""
    import numpy as np
    from PIL import Image
    from transformers import ViTConfig, ViTModel

    from promptgraft.backbones.packed import quiet_transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    with quiet_transformers():
        config = ViTConfig(image_size=28, patch_size=14, **sizes)
        ViTModel(config, add_pooling_layer=False).save_pretrained(folder / "vit")
    generator = np.random.default_rng(0)
    for name, brightness in (("dark", 90), ("light", 170)):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(16):
            pixels = generator.normal(brightness, 40, (28, 28, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number:02}.png")
    return folder / "vit", folder / "photos"


def measure(folder: Path, trials: int, run: int) -> dict[str, float]:
    """All figures; seconds, but for `results` and `overhead`, which are milliseconds."""
    from promptgraft.study.document import write_spec
    from promptgraft.study.drive import run_study
    from promptgraft.study.engines.base import Resources
    from promptgraft.study.engines.inline import InlineEngine
    from promptgraft.study.plan import plan_study
    from promptgraft.study.spec import StudySpec
    from promptgraft.study.store import Store
    from promptgraft.study.trial import Outcome

    model, photos = make_inputs(folder)

    def spec(methods: list[str], seeds: int) -> StudySpec:
        target = {"task": str(photos), "n_train": 16, "n_val": 8, "n_test": 8, "split_seed": 0}
        study = {"study": "scale", "backbones": [f"dir:{model}"], "targets": [target]}
        return StudySpec.model_validate(study | {"methods": methods, "seeds": list(range(seeds))})

    many = spec(["linear", "vpt"], trials // 2)
    large = folder / "large"
    large.mkdir()
    (large / "study.yaml").write_text(write_spec(many), encoding="utf-8")
    found: dict[str, float] = {}
    found["plan"], plan = timed(lambda: plan_study(many))
    store = Store(large, many.study)
    content = many.model_dump(mode="json")
    found["register"], _ = timed(lambda: store.register(content, plan.trials, plan.facts))
    found["again"], _ = timed(lambda: store.register(content, plan.trials, plan.facts))

    curve = [[epoch, 0.5, 0.5, 0.5] for epoch in range(11)]
    result = {"val_accuracy": 0.5, "test_accuracy": 0.5, "parameters": 66, "epochs": 10, "curve": curve}
    outcome = Outcome(result, {"seconds": 1.0, "peak_memory": 10**8, "device": "cpu"})
    done = plan.trials[: trials * 4 // 5]

    def fill() -> None:
        with store.driving():
            for trial in done:
                store.claim([trial.key])
                store.finish(trial.key, outcome, {})

    found["results"] = 1000 * timed(fill)[0] / len(done)
    store.close()
    command = [sys.executable, "-c", "from promptgraft.cli import main; main()", "study", "status", str(large)]
    looks = [timed(lambda: subprocess.run(command, check=True, capture_output=True))[0] for _ in range(5)]
    found["status"] = statistics.median(looks)

    few = plan_study(spec(["linear"], run))
    small = folder / "small"
    small.mkdir()
    store = Store(small, few.spec.study)
    wall, ended = timed(lambda: run_study(few, store, InlineEngine(Resources())))
    assert ended.done == run
    inside = sum((record.measured or {})["seconds"] for record in store.records())
    found["overhead"] = 1000 * (wall - inside) / run
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000, help="of the large study")
    parser.add_argument("--run", type=int, default=200, help="trials that are run for real")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {"PROMPTGRAFT_CACHE": f"{name}/cache", "PROMPTGRAFT_PROGRESS": "0"}
        found = measure(Path(name), arguments.trials, arguments.run)
    print(f"{arguments.trials} trials; {arguments.run} run for real")
    for what, value in found.items():
        unit = AIMS[what].split()[1]
        print(f"{what:10} {value:8.2f} {unit:2}   at most {AIMS[what]}")


if __name__ == "__main__":
    main()
