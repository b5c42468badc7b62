"""Is a vision prompt worth anything to a model of another width, without labels, by the images that both see?

No second pretrained vision model is among the packs. So a smaller one is made: 192 wide and 6 blocks deep, taught on
images of other tasks to say what packs/dinov2-small (384, 12) says. Prompts that the study `ensembles` tuned on
dinov2-small are carried to it by the relative space of patches (zero-shot continuous prompt transfer, Wu et al. 2024,
with images as anchors), and read there on five built-in tasks, beside random rows, a learned projection of the same
prompt, and a prompt tuned there.

    OMP_NUM_THREADS=1 python benchmarks/between_widths.py --student FOLDER --out benchmarks/between_widths.json
    python benchmarks/between_widths.py --show benchmarks/between_widths.json

What is measured is kept in the file after each run, and the same command goes on with those that it lacks.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ViTConfig, ViTModel

import promptgraft as pg
from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.files import atomic_folder, write_atomic
from promptgraft.library import PromptLibrary
from promptgraft.progress import progress_bar
from promptgraft.study.grouping import seeds_interval
from promptgraft.tasks.base import Task
from promptgraft.tuning.adapted import Adapted
from promptgraft.tuning.recipes import RECIPES

SIZE, WIDTH, DEPTH, HEADS = 70, 192, 6, 3
TAUGHT_ON = {"fashion-mnist": 7000, "emoji": 5000, "count-shapes": 2000, "dsprites-loc": 1000, "pong-position": 1000}
"""Tasks whose images the student is taught on, without their labels, and how many; none is a target below."""
EPOCHS, BATCH, LR = 12, 64, 1e-3

PROMPTS = Path(__file__).parents[1] / "studies" / "ensembles" / "prompts"
TASKS = ("mnist-5k", "digits", "land-zones", "textile", "orl-faces")
SEEDS = (0, 1, 2)
TRAIN, VAL, TEST, ROWS = 150, 75, 500, 10
ANCHORS = 150
"""Images whose patches are the anchors: those of the target's training split, without their labels."""
RECIPE = RECIPES["short"].model_copy(update={"lr": 3e-3})


def main() -> None:
    """Measure what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", type=Path, help="the smaller model's folder; it is made where there is none")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--out", type=Path, help="measure, and keep it in this file")
    which.add_argument("--show", type=Path, help="print what such a file holds")
    arguments = parser.parse_args()
    if arguments.out:
        if not arguments.student:
            parser.error("--out needs --student")
        if not arguments.student.exists():
            teach(arguments.student)
        measure(arguments.out, arguments.student)
    print("\n".join(table(json.loads((arguments.out or arguments.show).read_text()))))


def teach(folder: Path) -> None:
    """Make the smaller model: its last tokens, linearly mapped, come near the teacher's on the same image."""
    torch.manual_seed(0)
    teacher = pg.load_backbone("packs/dinov2-small", image_size=SIZE, dtype="bfloat16")
    images = [image for name, count in TAUGHT_ON.items() for image in _images(name, count)]
    config = ViTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        image_size=SIZE,
        patch_size=14,
    )
    student, read = ViTModel(config, add_pooling_layer=False), nn.Linear(WIDTH, teacher.info.dim)
    pixels, taught = [], []
    with progress_bar("looking", len(images), "img") as bar:
        for start in range(0, len(images), BATCH):
            batch = teacher.prepare(images[start : start + BATCH])
            assert isinstance(batch, Tensor)
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                said = teacher.model(pixel_values=batch).last_hidden_state
            pixels.append(batch.half())
            taught.append(F.layer_norm(said.float(), said.shape[-1:]).half())
            bar.advance(len(batch))
    every, wanted = torch.cat(pixels), torch.cat(taught)
    parameters = [*student.parameters(), *read.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LR, weight_decay=0.05)
    steps = EPOCHS * (len(every) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps, pct_start=0.1)
    with progress_bar("teaching", steps, "step") as bar:
        for _ in range(EPOCHS):
            order = torch.randperm(len(every))
            for start in range(0, len(every) - BATCH + 1, BATCH):
                index = order[start : start + BATCH]
                with torch.autocast("cpu", torch.bfloat16):
                    said = read(student(pixel_values=every[index].float()).last_hidden_state)
                    loss = F.mse_loss(said.float(), wanted[index].float())
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
                bar.note(f"loss {loss.item():.3f}")
                bar.advance()
    with atomic_folder(folder) as new:
        student.save_pretrained(new)


def _images(name: str, count: int) -> Sequence[Any]:
    """Training images of a built-in task."""
    return list(pg.load_task(f"builtin/{name}", n_train=count, n_val=100, n_test=100).train.inputs)


def measure(path: Path, folder: Path) -> None:
    """Run what the file lacks."""
    runs: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    done = {(run["task"], run["way"], run["seed"]) for run in runs}
    missing = [case for case in itertools.product(TASKS, SEEDS, WAYS) if (case[0], case[2], case[1]) not in done]
    if not missing:
        return
    library = PromptLibrary(PROMPTS)
    prompts = {name.rpartition("-")[0]: library[name] for name in library.names()}
    source = pg.load_backbone("packs/dinov2-small", image_size=SIZE)
    target = pg.load_backbone(f"dir:{folder}", image_size=SIZE)
    with progress_bar("measuring", len(missing), "run") as bar:
        for (name, seed), cases in itertools.groupby(missing, key=lambda case: case[:2]):
            sizes = (160, 80, 160) if name == "orl-faces" else (TRAIN, VAL, TEST)
            task = pg.load_task(f"builtin/{name}", n_train=sizes[0], n_val=sizes[1], n_test=sizes[2], seed=seed)
            other = TASKS[(TASKS.index(name) + 1) % len(TASKS)]
            for *_, way in cases:
                bar.note(f"{way} on {name}")
                run = _Run(source, target, task, seed, prompts[f"vision/{name}"], prompts[f"vision/{other}"])
                adapted, known = WAYS[way](run)
                accuracy = adapted.score(task.test)
                runs.append({"task": name, "way": way, "seed": seed, "accuracy": accuracy, **known})
                write_atomic(path, json.dumps(runs, indent=1))
                bar.advance()


class _Run:
    """One target with one seed, and a prompt of the target's own task and of another one."""

    def __init__(
        self,
        source: TransformerBackbone,
        target: TransformerBackbone,
        task: Task,
        seed: int,
        own: pg.SoftPrompt,
        other: pg.SoftPrompt,
    ) -> None:
        self.source, self.target, self.task, self.seed = source, target, task, seed
        self.own, self.other = own, other

    def tuned(self, method: str, teacher: bool = False) -> tuple[Adapted, dict[str, Any]]:
        backbone = self.source if teacher else self.target
        options: dict[str, Any] = {} if method == "linear" else {"layers": "shallow", "prompt_length": ROWS}
        return pg.tune(backbone, self.task, method=method, seed=self.seed, recipe=RECIPE, **options), {}

    def carried(self, prompt: pg.SoftPrompt, method: str) -> tuple[Adapted, dict[str, Any]]:
        images = self.task.train.inputs[:ANCHORS]
        made = pg.convert(prompt, source=self.source, target=self.target, anchors=images)
        known = made.card.prompt.init_args
        adapted = pg.transfer(made, self.target, self.task, method=method, seed=self.seed, recipe=RECIPE)
        return adapted, {"cosine": known["matching_cosine"]["mean"], "agreement": known["neighbour_agreement"]}

    def projected(self, prompt: pg.SoftPrompt) -> tuple[Adapted, dict[str, Any]]:
        return pg.transfer(prompt, self.target, self.task, method="projection", seed=self.seed, recipe="short"), {}


WAYS: dict[str, Callable[[_Run], tuple[Adapted, dict[str, Any]]]] = {
    "linear on the teacher": lambda run: run.tuned("linear", teacher=True),
    "linear": lambda run: run.tuned("linear"),
    "random rows": lambda run: run.tuned("random"),
    "carried, own task": lambda run: run.carried(run.own, "frozen"),
    "carried, other task": lambda run: run.carried(run.other, "frozen"),
    "carried and tuned, own task": lambda run: run.carried(run.own, "initial"),
    "projection, own task": lambda run: run.projected(run.own),
    "projection, other task": lambda run: run.projected(run.other),
    "vpt": lambda run: run.tuned("vpt"),
}


def table(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Accuracy in %, mean over seeds, and the mean difference to `linear` with its interval over seeds.

    Ways of which a run is missing are left out; once there is none, a line compares the others.
    """
    lines = [
        "| Way | " + " | ".join(TASKS) + " | Mean | Against linear |",
        "| --- |" + " ---: |" * (len(TASKS) + 2),
    ]
    values = {(run["task"], run["way"], run["seed"]): 100 * run["accuracy"] for run in runs}
    done = [way for way in WAYS if all(place in values for place in itertools.product(TASKS, [way], SEEDS))]

    def gain(way: str, other: str) -> str:
        gains = [fmean(values[task, way, seed] - values[task, other, seed] for task in TASKS) for seed in SEEDS]
        low, high = seeds_interval(gains)
        return f"{fmean(gains):+.1f} ({low:+.1f} to {high:+.1f})"

    for way in done:
        means = [fmean(values[task, way, seed] for seed in SEEDS) for task in TASKS]
        against = gain(way, "linear") if way != "linear" and "linear" in done else ""
        cells = [way, *(f"{mean:.1f}" for mean in [*means, fmean(means)]), against]
        lines.append(f"| {' | '.join(cells)} |")
    if len(done) < len(WAYS):
        return lines
    own = "carried, own task"
    others = ("projection, own task", "random rows", "carried, other task")
    compared = "; ".join(f"{gain(own, other)} to `{other}`" for other in others)
    spans = []
    for name in ("cosine", "agreement"):
        known = [run[name] for run in runs if name in run]
        spans.append(f"{min(known):.2f} to {max(known):.2f}")
    searched = f"Cosines of the search: {spans[0]}; share of nearest neighbours that agree: {spans[1]}."
    return [*lines, "", f"`{own}` less another way, in the same manner: {compared}. {searched}"]


if __name__ == "__main__":
    main()
