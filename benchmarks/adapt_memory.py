"""How much memory does `promptgraft adapt` take on 20,000 images at 224 px?

Draws the images, of five classes of coloured fields, and a vision transformer of random weights as wide as ViT-S, so
that tokens take the room that they do there, but of one block, to be quick. Runs the command in a process
of its own with a cache of its own, and watches that process.

    python benchmarks/adapt_memory.py FOLDER [--images N] [--budget 10m]

FOLDER takes the images and the cache: some 7 GB. Linux only, where /proc tells memory of the process's own (anonymous)
from pages of files that the system may take back at any time.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import ViTConfig, ViTModel

from promptgraft.errors import InputError
from promptgraft.progress import progress_bar

CLASSES, SIDE, FIELDS = 5, 224, 8


def main() -> None:
    """Draw what is missing, run, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--budget", default="10m", help="of adapt")
    arguments = parser.parse_args()
    folder = arguments.folder
    draw(folder / "images", arguments.images)
    if not (folder / "model").exists():
        make_model(folder / "model")
    print(json.dumps(watch(folder, arguments.budget), indent=2))


def draw(folder: Path, count: int) -> None:
    """Class folders of JPEGs: random fields of colour, of which those of a class lean to its own."""
    rng = np.random.default_rng(0)
    leaning = rng.uniform(0, 255, (CLASSES, FIELDS, FIELDS, 3))
    with progress_bar("drawing", count, "img") as bar:
        for number in range(count):
            label = number % CLASSES
            place = folder / f"class{label}" / f"{number}.jpg"
            fields = (0.4 * leaning[label] + 0.6 * rng.uniform(0, 255, leaning[label].shape)).astype(np.uint8)
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(fields).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(place)
            bar.advance()


def make_model(folder: Path) -> None:
    """One block of a ViT-S of random weights."""
    torch.manual_seed(0)
    config = ViTConfig(hidden_size=384, num_hidden_layers=1, num_attention_heads=6, intermediate_size=1536)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)


def watch(folder: Path, budget: str) -> dict[str, float | int]:
    """Run `adapt` and read its memory ten times a second.

    Returns:
        seconds; peaks in GB: `anonymous`, what the process holds by itself, and `resident`, with the pages of mapped
        files that happened to be in memory; `tokens_on_disk` in GB.

    Raises:
        InputError: the command failed.
    """
    out, cache = folder / f"adapted-{time.time_ns()}", folder / "cache"
    command = [sys.executable, "-c", "from promptgraft.cli import main; main()", "adapt", str(folder / "images")]
    command += ["--backbone", f"dir:{folder / 'model'}", "--image-size", str(SIDE), "--budget", budget]
    started, peaks = time.perf_counter(), {"RssAnon": 0, "VmRSS": 0}
    process = subprocess.Popen(
        [*command, "--out", str(out)], env=os.environ | {"PROMPTGRAFT_CACHE": str(cache)}, stdout=subprocess.DEVNULL
    )
    while process.poll() is None:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        known = dict(line.split(":", 1) for line in lines if ":" in line)
        for name in peaks:
            peaks[name] = max(peaks[name], int(known.get(name, "0 kB").split()[0]))
        time.sleep(0.1)
    if process.returncode:
        raise InputError(f"adapt ended with {process.returncode}. What it printed stands above.")
    tokens = sum(file.stat().st_size for file in (cache / "tokens").iterdir())
    return {
        "images": sum(1 for _ in (folder / "images").glob("*/*.jpg")),
        "seconds": round(time.perf_counter() - started),
        "anonymous": round(peaks["RssAnon"] / 1e6, 2),
        "resident": round(peaks["VmRSS"] / 1e6, 2),
        "tokens_on_disk": round(tokens / 1e9, 2),
    }


if __name__ == "__main__":
    main()
