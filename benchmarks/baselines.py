"""The README's table: linear probe, VPT shallow, VPT deep and SPT on built-in image tasks, three seeds each.

Every trial is one line of a JSONL file; trials that are in the file are not run again, so a stopped run goes on where
it was.

    python benchmarks/baselines.py                  run what is missing, then print the table
    python benchmarks/baselines.py --table          print the table only
"""

import argparse
import json
import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

TASKS = {
    "mnist-5k": {"n_train": 400, "n_val": 100, "n_test": 1000},
    "digits": {"n_train": 400, "n_val": 100, "n_test": 1000},
    "land-zones": {"n_train": 400, "n_val": 100, "n_test": 1000},
    "textile": {"n_train": 400, "n_val": 100, "n_test": 1000},
    "orl-faces": {"n_train": 240, "n_val": 80, "n_test": 80},
}
METHODS = (("linear", "deep"), ("vpt", "shallow"), ("vpt", "deep"), ("spt", "deep"))
SEEDS = (0, 1, 2)
SETTINGS: dict[str, Any] = {
    "backbone": "packs/dinov2-small",
    "image_size": 70,
    "dtype": "bfloat16",
    "prompt_length": 10,
    "recipe": "short",
}
RESULTS = Path(__file__).with_name("baselines.jsonl")


def run(task: str, method: str, layers: str, seed: int) -> dict[str, Any]:
    """Tune on train, choose the epoch on val, test once."""
    import torch

    import promptgraft as pg

    torch.set_num_threads(1)
    backbone = pg.load_backbone(SETTINGS["backbone"], image_size=SETTINGS["image_size"], dtype=SETTINGS["dtype"])
    data = pg.load_task(f"builtin/{task}", seed=seed, **TASKS[task])
    adapted = pg.tune(
        backbone,
        data,
        method=method,
        layers=layers,
        prompt_length=SETTINGS["prompt_length"],
        recipe=SETTINGS["recipe"],
        seed=seed,
    )
    training = adapted.info.training
    return {
        "task": task,
        "method": method,
        "layers": layers,
        "seed": seed,
        "settings": SETTINGS | TASKS[task],
        "val_accuracy": training.scores["val"].value,
        "test_accuracy": adapted.score(data.test),
        "seconds": training.seconds,
        "recipe": training.recipe,
        "fingerprint": data.fingerprint,
        "weights_sha256": backbone.info.weights_sha256,
        "versions": adapted.info.versions,
    }


def done() -> list[dict[str, Any]]:
    """The trials measured so far, under the settings of this file."""
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if row["task"] in TASKS and row["settings"] == SETTINGS | TASKS[row["task"]]]


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table of test accuracy: mean and standard deviation over the seeds."""
    head = [f"{m}" if m == "linear" else f"{m} {layers}" for m, layers in METHODS]
    lines = ["| task | train / val / test | " + " | ".join(head) + " |", "|---|---|" + "---|" * len(head)]
    for task, sizes in TASKS.items():
        cells = []
        for method, layers in METHODS:
            wanted = (task, method, layers)
            found = [r["test_accuracy"] for r in rows if (r["task"], r["method"], r["layers"]) == wanted]
            if len(found) < len(SEEDS):
                cells.append(f"({len(found)} of {len(SEEDS)} seeds)")
            else:
                cells.append(f"{100 * statistics.mean(found):.1f} ± {100 * statistics.stdev(found):.1f}")
        lines.append(f"| {task} | {' / '.join(map(str, sizes.values()))} | {' | '.join(cells)} |")
    seconds = sum(row["seconds"] for row in rows)
    lines.append(f"\n{len(rows)} trials, {seconds / 60:.0f} minutes of tuning in all, each on one thread.")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, one process per core, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print the table of what is measured, run nothing")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    known = {(row["task"], row["method"], row["layers"], row["seed"]) for row in done()}
    # seed by seed, so that a table of few seeds is whole early
    wanted = [(task, *method, seed) for seed in SEEDS for task in TASKS for method in METHODS]
    missing = [] if arguments.table else [trial for trial in wanted if trial not in known]
    with ProcessPoolExecutor(arguments.jobs) as pool, RESULTS.open("a", encoding="utf-8") as file:
        for trial, future in [(trial, pool.submit(run, *trial)) for trial in missing]:
            row = future.result()
            file.write(json.dumps(row, sort_keys=True) + "\n")
            file.flush()
            name = " ".join(map(str, trial))
            print(f"{name:<32} test {row['test_accuracy']:.3f}  {row['seconds']:.0f} s", flush=True)
    print(table(done()))


if __name__ == "__main__":
    main()
