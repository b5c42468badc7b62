"""What trained prompts say of the claims of Wang et al. 2024, from the studies `self-prompt` and `data-size`.

Their figures 1 and 3 (c) and figure 4: how training goes on from a prompt of random numbers and from the task's own
tokens, with prompts of other lengths, and with more training images.

    python benchmarks/self_prompt.py             prints the tables, and draws docs/self-prompt.svg
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_rel

from promptgraft.study.folder import open_started

HERE = Path(__file__).parent
STUDIES, FIGURE = HERE.parent / "studies", HERE.parent / "docs" / "self-prompt.svg"
EPOCHS = (0, 1, 2, 3, 5, 10)
LENGTHS = {5: "{} of 5 rows", 10: "{} deep", 20: "{} of 20 rows", 50: "{} of 50 rows"}
"""Rows of a prompt, and what the study calls the method with so many."""
LENGTH_TARGETS = ("digits", "textile")
METHODS = ("vpt", "spt")
COLOURS = {"linear": "0.6", "vpt": "C0", "spt": "C1", "lora": "C2", "full": "C4"}
"""Of a method, by the first word of its name."""


@dataclass(frozen=True)
class Trial:
    """A trained model.

    loss, accuracy: on the validation images, of each epoch from the start. test: accuracy.
    """

    backbone: str
    target: str
    method: str
    seed: int
    loss: Sequence[float]
    accuracy: Sequence[float]
    test: float


def trials(folder: Path) -> list[Trial]:
    """The trials of a study that are done."""
    store = open_started(folder)
    records = [record for record in store.records() if record.kind == "train" and record.result]
    store.close()
    return [
        Trial(
            *(record.labels[name] for name in ("backbone", "target", "method", "seed")),
            *([line[place] for line in result["curve"]] for place in (2, 3)),
            result["test_accuracy"],
        )
        for record in records
        if (result := record.result)
    ]


def starts(found: Sequence[Trial]) -> list[str]:
    """Validation loss and accuracy of deep prompts over epochs, mean over targets and seeds, as a Markdown table."""
    lines = [
        f"| Read at | Method | trials | {' | '.join(f'epoch {epoch}' if epoch else 'start' for epoch in EPOCHS)} |",
        f"| --- | --- | ---: | {'---: | ' * len(EPOCHS)}".rstrip(),
    ]
    for backbone in dict.fromkeys(trial.backbone for trial in found):
        for method in METHODS:
            own = _of(found, f"{method} deep", backbone)
            loss, accuracy = (curves.mean(0) for curves in _curves(own))
            cells = [f"{loss[epoch]:.2f}, {100 * accuracy[epoch]:.1f} %" for epoch in EPOCHS]
            lines.append(f"| {backbone} | {method} | {len(own)} | {' | '.join(cells)} |")
    return lines


def against(found: Sequence[Trial]) -> list[str]:
    """Test accuracy of prompts that start at tokens and at random, over targets, as a Markdown table.

    p is that of a two-sided paired t-test over targets.
    """
    lines = [
        "| Read at | Layers | vpt | spt | spt less vpt | p | sd over seeds, vpt | sd, spt |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    first = found[0].backbone
    for layers, backbone in [("deep", name) for name in dict.fromkeys(t.backbone for t in found)] + [
        ("shallow", first)
    ]:
        vpt, spt = (_by_target(_of(found, f"{method} {layers}", backbone)) for method in METHODS)
        means = [own.mean(1) for own in (vpt, spt)]
        p = ttest_rel(*means).pvalue
        numbers = [f"{own.mean():.1f}" for own in means] + [f"{(means[1] - means[0]).mean():+.1f}", f"{p:.2f}"]
        numbers += [f"{own.std(1, ddof=1).mean():.1f}" for own in (vpt, spt)]
        lines.append(f"| {backbone} | {layers} | {' | '.join(numbers)} |")
    return lines


def lengths(found: Sequence[Trial]) -> list[str]:
    """Test accuracy by the length of deep prompts, mean and standard deviation over seeds, as a Markdown table."""
    lines = [
        f"| Target | Method | {' | '.join(f'{rows} rows' for rows in LENGTHS)} | spread |",
        f"| --- | --- | {'---: | ' * (len(LENGTHS) + 1)}".rstrip(),
    ]
    for target in LENGTH_TARGETS:
        for method, values in _by_length(found, target):
            cells = [f"{np.mean(own):.1f} ± {np.std(own, ddof=1):.1f}" for own in values]
            means = [np.mean(own) for own in values]
            lines.append(f"| {target} | {method} | {' | '.join(cells)} | {max(means) - min(means):.1f} |")
    return lines


def draw(prompts: Sequence[Trial], sizes: Sequence[Trial], path: Path) -> None:
    """Validation accuracy over epochs, test accuracy over rows of the prompt and over training images."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "self-prompt", "svg.fonttype": "none", "font.size": 9, "axes.titlesize": 9})
    from matplotlib import pyplot

    figure, (epochs, rows, images) = pyplot.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    first = prompts[0].backbone
    for method in METHODS:
        _, accuracy = _curves(_of(prompts, f"{method} deep", first))
        epochs.plot(100 * np.mean(accuracy, 0), "o-", color=COLOURS[method], markersize=4, label=method)
    for target, style in zip(LENGTH_TARGETS, ("o-", "s:"), strict=True):
        for method, values in _by_length(prompts, target):
            means, spread = [np.mean(own) for own in values], [np.std(own, ddof=1) for own in values]
            look = {"fmt": style, "color": COLOURS[method], "markersize": 4, "capsize": 2}
            rows.errorbar(list(LENGTHS), means, spread, **look, label=f"{method}, {target}")
    for method in dict.fromkeys(trial.method for trial in sizes):
        by_size: dict[int, list[float]] = {}
        for trial in _of(sizes, method, sizes[0].backbone):
            by_size.setdefault(_size(trial), []).append(100 * trial.test)
        means = [np.mean(values) for values in by_size.values()]
        images.plot(list(by_size), means, "o-", color=COLOURS[method.split()[0]], markersize=4, label=method)
    epochs.set(title=f"Validation accuracy in %, {first}, five tasks", xlabel="epochs")
    rows.set(title="Test accuracy in %", xlabel="rows of the prompt", xscale="log")
    images.set(title="Test accuracy in %, mnist-5k", xlabel="training images", xscale="log")
    for panel, ticks in ((rows, list(LENGTHS)), (images, sorted(set(map(_size, sizes))))):
        panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        panel.minorticks_off()
    for panel in (epochs, rows, images):
        panel.grid(alpha=0.3)
        panel.legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _size(trial: Trial) -> int:
    """Training images, as the target `500 images` has them."""
    return int(trial.target.split()[0])


def _of(found: Sequence[Trial], method: str, backbone: str) -> list[Trial]:
    return [trial for trial in found if (trial.method, trial.backbone) == (method, backbone)]


def _by_target(own: Sequence[Trial]) -> NDArray[np.float64]:
    """Test accuracies in % (targets, seeds)."""
    targets = dict.fromkeys(trial.target for trial in own)
    return np.array([[100 * trial.test for trial in own if trial.target == target] for target in targets])


def _curves(own: Sequence[Trial]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Losses and accuracies (trials, epochs)."""
    return np.array([trial.loss for trial in own]), np.array([trial.accuracy for trial in own])


def _by_length(found: Sequence[Trial], target: str) -> Iterator[tuple[str, list[list[float]]]]:
    """Each method, and for each length the test accuracies in % of its seeds."""
    here = [trial for trial in found if (trial.target, trial.backbone) == (target, found[0].backbone)]
    for method in METHODS:
        named = {rows: name.format(method) for rows, name in LENGTHS.items()}
        yield method, [[100 * t.test for t in here if t.method == name] for name in named.values()]


def main() -> None:
    """Print and draw."""
    prompts = trials(STUDIES / "self-prompt")
    print("\n".join([*against(prompts), "", *starts(prompts), "", *lengths(prompts)]))
    draw(prompts, trials(STUDIES / "data-size"), FIGURE)


if __name__ == "__main__":
    main()
