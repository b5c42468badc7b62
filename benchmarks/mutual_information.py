"""Does the mutual information of prompts and patch tokens rise while prompts are trained (Wang et al. 2024, figure 2)?

Trains deep prompts that start at random numbers (`vpt`) and at the task's own tokens (`spt`) on five built-in tasks,
with the settings of the study `self-prompt`, and measures equation 8 at the start and after each epoch.

    OMP_NUM_THREADS=2 python benchmarks/mutual_information.py --out benchmarks/mutual_information.json
    python benchmarks/mutual_information.py --show benchmarks/mutual_information.json

What is measured is kept in the file after each run, and the same command goes on with those that it lacks.
"""

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from promptgraft import load_backbone, load_task, tune
from promptgraft.analysis.watch import PromptWatch
from promptgraft.files import write_atomic
from promptgraft.progress import progress_bar
from promptgraft.tuning.recipes import RECIPES

TASKS = ("mnist-5k", "digits", "land-zones", "textile", "orl-faces")
METHODS = ("vpt", "spt")
SEEDS = (0, 1, 2)
"""Of the prompts and the division of the data."""
TRAIN, VAL, ROWS = 200, 80, 10
RECIPE = RECIPES["short"].model_copy(update={"lr": 3e-3})


def main() -> None:
    """Measure what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--out", type=Path, help="measure, and keep it in this file")
    which.add_argument("--show", type=Path, help="print what such a file holds")
    arguments = parser.parse_args()
    if arguments.out:
        measure(arguments.out)
    print("\n".join(table(json.loads((arguments.out or arguments.show).read_text()))))


def measure(path: Path) -> None:
    """Run what the file lacks."""
    runs: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    done = {(run["task"], run["method"], run["seed"]) for run in runs}
    missing = [case for case in itertools.product(TASKS, METHODS, SEEDS) if case not in done]
    backbone = load_backbone("packs/dinov2-small", image_size=70, dtype="bfloat16") if missing else None
    with progress_bar("measuring", len(missing), "run") as bar:
        for name, method, seed in missing:
            assert backbone is not None
            bar.note(f"{method} on {name}")
            task = load_task(f"builtin/{name}", n_train=TRAIN, n_val=VAL, n_test=10, seed=seed)
            watch = PromptWatch()
            tuned = tune(
                backbone,
                task,
                method=method,
                layers="deep",
                prompt_length=ROWS,
                recipe=RECIPE,
                seed=seed,
                on_epoch=watch,
            )
            found = [line["layers"] for line in watch.analysis(tuned)["nmi"]]
            runs.append({"task": name, "method": method, "seed": seed, "nmi": found})
            write_atomic(path, json.dumps(runs))
            bar.advance()


def table(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Mean over layers and seeds, of all epochs; and in how many layers it rises, of all seeds."""
    lines = [
        "| Task | Method | start | epoch 1 | epoch 3 | end | end / start | layers that rise |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, method in itertools.product(TASKS, METHODS):
        nmi = np.array([run["nmi"] for run in runs if (run["task"], run["method"]) == (name, method)])
        if not nmi.size:
            continue
        rising = nmi[:, -1] > nmi[:, 0]
        means = nmi.mean((0, 2))
        shown = " | ".join(f"{1000 * means[epoch]:.2f}" for epoch in (0, 1, 3, -1))
        lines.append(f"| {name} | {method} | {shown} | {means[-1] / means[0]:.2f} | {rising.sum()} of {rising.size} |")
    return lines


if __name__ == "__main__":
    main()
