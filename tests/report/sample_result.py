"""Plausible results of `promptgraft adapt`, from ordinary to extreme, for the tests of the report."""

from typing import Any

import numpy as np

BIRDS = ("blackbird", "blue tit", "chaffinch", "dunnock", "finch", "great tit", "magpie", "robin", "wren")
_CANDIDATES = (
    # method, layers, source, status, reason, accuracy, parameters, seconds, epochs
    ("projection", None, "text/newsgroups", "finished", None, 0.866, 151_000, 61.2, 50),
    ("spt", "deep", None, "finished", None, 0.871, 92_160, 48.4, 50),
    ("vpt", "deep", None, "finished", None, 0.855, 92_160, 47.0, 50),
    ("initial", "shallow", "vision/land", "finished", None, 0.851, 7_680, 39.1, 50),
    ("spt", "shallow", None, "stopped early", "halving: last of 8 after 12 epochs", 0.79, 7_680, 9.2, 12),
    ("vpt", "shallow", None, "stopped early", "halving: last of 8 after 12 epochs", 0.77, 7_680, 9.1, 12),
    ("frozen", None, "vision/digits", "stopped early", "halving: last of 4 after 25 epochs", 0.81, 3_465, 14.0, 25),
    (
        "attention",
        None,
        "text/topic",
        "failed",
        "the loss is not finite at epoch 3; lower lr=0.5",
        None,
        60_000,
        4.0,
        2,
    ),
    ("linear", None, None, "finished", None, 0.839, 3_465, 0.9, 0),
)


def accuracy(value: float, n: int) -> dict[str, float]:
    half = 1.96 * (max(value * (1 - value), 1e-3) / n) ** 0.5
    return {"value": value, "low": max(value - half, 0.0), "high": min(value + half, 1.0), "n": n}


def sample_result(
    classes: tuple[str, ...] = BIRDS, *, modality: str = "vision", per_class: int = 14
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    count = len(classes)
    matrix = np.zeros((count, count), dtype=int)
    for row in range(count):
        for _ in range(per_class):
            wrong = (row + rng.integers(1, 4)) % count
            matrix[row, wrong if rng.random() < 0.15 else row] += 1
    n_test = int(matrix.sum())
    test = accuracy(float(np.trace(matrix)) / n_test, n_test)

    candidates = []
    for method, layers, source, status, reason, value, parameters, seconds, epochs in _CANDIDATES:
        history = []
        for epoch in range(1, epochs + 1):
            share = 1 - np.exp(-epoch / 9)
            noise = rng.normal(0, 0.006)
            reached = (value or 0.8) - 0.16 * (1 - share) + noise
            history.append(
                {"epoch": epoch, "train_loss": 2 - 1.8 * share, "val_accuracy": reached, "val_loss": 2 - 1.5 * share}
            )
        candidates.append(
            {
                "method": method,
                "layers": layers,
                "source": source,
                "status": status,
                "reason": reason,
                "val_accuracy": None if value is None else accuracy(value, 124),
                "parameters": parameters,
                "seconds": seconds,
                "epochs": epochs,
                "best_epoch": epochs - 1 if epochs else 0,
                "history": history,
                "winner": (method, layers) == ("spt", "deep"),
                "difference_to_linear": None
                if value is None or method == "linear"
                else {"value": value - 0.839, "low": value - 0.839 - 0.028, "high": value - 0.839 + 0.029},
            }
        )

    names = ("text/newsgroups", "vision/land", "vision/digits", "text/topic", "text/reviews", "vision/textures")
    ranking = []
    for estimator, sign in (("gap", -0.3), ("norm", 4.0), ("h_score", 1.2)):
        scores = {name: sign * float(rng.uniform(0.3, 1.0)) for name in names}
        for rank, name in enumerate(sorted(names, key=lambda name: -scores[name]), start=1):
            ranking.append(
                {"prompt": name, "estimator": estimator, "score": scores[name], "rank": rank, "seconds": 0.2}
            )

    errors = []
    for row, column in zip(*np.nonzero(matrix - np.diag(np.diag(matrix))), strict=True):
        for index in range(matrix[row, column]):
            name = f"test/{classes[row]}/{row:03d}_{index}.jpg"
            errors.append(
                {
                    "name": name,
                    "true": classes[row],
                    "predicted": classes[column],
                    "probability": float(rng.uniform(0.4, 0.99)),
                    "thumbnail": None,
                    "text": "The plot never starts, and when it does you wish it had not."
                    if modality == "text"
                    else None,
                }
            )

    return {
        "format_version": 1,
        "promptgraft": "0.1.0",
        "task": {
            "name": "photos",
            "modality": modality,
            "classes": list(classes),
            "n_train": 288,
            "n_val": 124,
            "n_test": n_test,
            "fingerprint": "9f2c" * 16,
            "notes": ["3 duplicates kept on one side", "1 file skipped: notes.txt is not an image"],
        },
        "backbone": {
            "name": "packs/dinov2-small",
            "family": "dinov2",
            "dim": 384,
            "depth": 12,
            "image_size": 112,
            "weights_sha256": "a1b2" * 16,
            "preprocessing": {"mean": [0.485, 0.456, 0.406], "interpolation": "bicubic"},
        },
        "method": "spt",
        "layers": "deep",
        "source": None,
        "val_accuracy": accuracy(0.871, 124),
        "test_accuracy": test,
        "linear_probe": {"val_accuracy": accuracy(0.839, 124)},
        "verdict": "spt deep beats the linear probe by 3.2 points (95 % interval 0.4 to 6.1); "
        "projection is not distinguishable from it.",
        "candidates": candidates,
        "ranking": ranking,
        "ranking_evidence": "gap beats norm on 3 of 6 measured targets.",
        "confusion": {"matrix": matrix.tolist(), "classes": list(classes)},
        "errors": errors[:40],
        "recipe": {"optimizer": "adamw", "lr": 0.01, "weight_decay": 1e-4, "epochs": 50, "prompt": {"length": 20}},
        "seed": 0,
        "budget_seconds": 300,
        "seconds": 171.2,
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
        "device": "cpu",
        "command": "promptgraft adapt photos/ --out birds --budget 5m",
        "out": "birds",
        "created": "2026-11-22T10:15:00+00:00",
    }
