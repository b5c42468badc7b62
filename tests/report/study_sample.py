"""A plausible summary of a study, from ordinary to extreme, for the tests of its report."""

from collections import Counter
from hashlib import sha256
from statistics import mean, median
from typing import Any

import numpy as np
from scipy.stats import rankdata, t, ttest_rel

from promptgraft.study.agreement import agreement, overall
from promptgraft.study.comparisons import comparisons, gains

TARGETS = {"mnist-5k": 0.87, "fashion-2k": 0.79, "textures": 0.62, "land-cover": 0.91, "newsgroups": 0.70}
SOURCES = ("vision/digits", "vision/land", "vision/textures", "text/newsgroups", "text/reviews", "text/topic")
METHODS = {  # gain over the linear probe, and its noise; parameters; seconds
    "linear": (0.0, 0.002, 3_465, 1.2),
    "mlp": (0.006, 0.006, 52_000, 2.1),
    "vpt shallow": (0.009, 0.008, 7_680, 31.0),
    "vpt deep": (0.034, 0.006, 92_160, 47.5),
    "spt deep": (0.031, 0.010, 92_160, 49.0),
    "initial": (0.012, 0.008, 7_680, 30.2),
    "projection": (0.022, 0.009, 151_000, 60.1),
    "random-projection": (0.004, 0.009, 151_000, 60.1),
}
TRANSFER = ("initial", "projection")
ESTIMATORS = ("gap", "norm", "h_score", "log_me")
BASELINE = "linear"


def sample_study(
    *,
    backbones: tuple[str, ...] = ("dinov2-small",),
    targets: tuple[str, ...] = tuple(TARGETS),
    sources: tuple[str, ...] = SOURCES,
    seeds: int = 3,
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    trials = [
        trial
        for backbone in backbones
        for target in targets
        for method in METHODS
        for source in (sources if method in TRANSFER else (None,))
        for trial in _trainings(rng, backbone, target, method, source, seeds)
    ]
    _break(trials)
    rows = _rows(trials)
    compared = comparisons(rows, trials)
    estimates = _estimates(rng, rows, seeds)
    trials += [_trial("estimate", s["backbone"], s["target"], s["seed"], estimator=s["estimator"]) for s in estimates]
    trials = list({trial["key"]: trial for trial in trials}.values())
    counts: dict[str, Counter[str]] = {}
    for trial in trials:
        counts.setdefault(trial["kind"], Counter(done=0, failed=0, pending=0, running=0))[trial["state"]] += 1
    return {
        "name": "baselines",
        "description": "Every way to adapt a small frozen ViT, and which source prompt takes where.",
        "folder": "s",
        "promptgraft": "0.1.0",
        "created": "2026-11-22T08:00:00+00:00",
        "spec": {"study": "baselines", "backbones": [{"name": f"packs/{name}"} for name in backbones], "seeds": seeds},
        "baseline": BASELINE,
        "counts": {kind: dict(states) for kind, states in counts.items()},
        "rows": rows,
        "averages": _averages(rows),
        "comparisons": compared,
        "gains": gains(compared, BASELINE),
        "trials": trials,
        "estimates": estimates,
        "agreement": agreement(estimates),
        "estimators": overall(estimates),
        "cost": _cost(trials),
    }


def key_of(*parts: Any) -> str:
    return sha256(repr(parts).encode()).hexdigest()


def _trial(kind: str, backbone: str, target: str, seed: int, **fields: Any) -> dict[str, Any]:
    return {
        "key": key_of(kind, backbone, target, seed, *(fields.get(name) for name in ("method", "source", "estimator"))),
        "kind": kind,
        "state": "done",
        "backbone": backbone,
        "target": target,
        "method": None,
        "source": None,
        "estimator": None,
        "seed": seed,
        "val_accuracy": None,
        "test_accuracy": None,
        "parameters": None,
        "epochs": None,
        "setting": None,
        "notes": [],
        "error": None,
        "traceback": None,
        "curve": None,
        "seconds": 2.5,
        "peak_memory": 310e6,
        "device": "cpu",
        "host": "ada",
        "started": "2026-11-22T07:01:12+00:00",
        "versions": {"promptgraft": "0.1.0", "torch": "2.13.0"},
        **fields,
    }


def _trainings(
    rng: np.random.Generator, backbone: str, target: str, method: str, source: str | None, seeds: int
) -> list[dict[str, Any]]:
    gain, noise, parameters, seconds = METHODS[method]
    level = TARGETS.get(target, 0.75) - 0.03 * (backbone != "dinov2-small")
    kin = 0.02 * (source is not None and source.split("/")[-1][:4] in target)
    fit = gain + rng.normal(0, 0.012) + kin if source else gain + rng.normal(0, 0.014) * (method != "linear")
    made = []
    for seed in range(seeds):
        test = float(np.clip(level + fit + rng.normal(0, noise), 0, 1))
        epochs = 0 if method == "linear" else 30
        share = [1 - np.exp(-epoch / 7) for epoch in range(epochs + 1)]
        curve = [
            [epoch, None if epoch == 0 else 2 - 1.7 * s, 2 - 1.4 * s, test - 0.12 * (1 - s) + rng.normal(0, 0.004)]
            for epoch, s in enumerate(share)
        ]
        setting = {"lr": 0.01, "weight_decay": 1e-4} if seed == 0 else None
        fields = {"method": method, "source": source, "epochs": epochs, "parameters": parameters, "curve": curve}
        measured = {"val_accuracy": test + rng.normal(0, 0.01), "test_accuracy": test, "setting": setting}
        cost = {"seconds": seconds * rng.uniform(0.9, 1.2), "peak_memory": 4e8 + 500 * parameters}
        made.append(_trial("train", backbone, target, seed, **fields, **measured, **cost))
    return made


def _break(trials: list[dict[str, Any]]) -> None:
    """One trial fails, one runs, some wait: all of a method that the main table still shows."""
    hurt = [trial for trial in trials if trial["method"] == "initial"][-6:]
    for trial in hurt:
        trial |= {"state": "pending", "val_accuracy": None, "test_accuracy": None, "curve": None, "epochs": None}
        trial |= {"seconds": None, "peak_memory": None, "device": None, "host": None, "started": None}
    if not hurt:
        return
    hurt[0]["state"] = "failed"
    hurt[0]["error"] = "the loss is not finite at epoch 3; lower lr=0.5"
    hurt[0]["traceback"] = 'Traceback (most recent call last):\n  File "fit.py", line 120, in fit\nTuningError: <loss>'
    hurt[1] |= {"state": "running", "host": "bob", "device": "cuda:0", "notes": ["taken over from ada"]}


def _rows(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for trial in trials:
        place = tuple(trial[name] for name in ("backbone", "target", "method", "source"))
        groups.setdefault(place, []).append(trial)
    rows = []
    for (backbone, target, method, source), group in groups.items():
        done = [trial for trial in group if trial["state"] == "done"]
        if not done:
            continue
        values = np.array([trial["test_accuracy"] for trial in done])
        reference = {x["seed"]: x["test_accuracy"] for x in groups[backbone, target, BASELINE, None]}
        others = np.array([reference[trial["seed"]] for trial in done])
        n, mean = len(values), float(values.mean())
        sd = float(values.std(ddof=1)) if n > 1 else None
        half = sd * float(t.ppf(0.975, n - 1)) / n**0.5 if sd is not None else None
        own = method == BASELINE
        p = float(ttest_rel(values, others).pvalue) if n > 1 and not own else None
        rows.append(
            {
                "backbone": backbone,
                "target": target,
                "method": method,
                "source": source,
                "n": n,
                "mean": mean,
                "sd": sd,
                "low": None if half is None else mean - half,
                "high": None if half is None else mean + half,
                "rank": None,
                "difference": None if own else float((values - others).mean()),
                "p": p,
                "stars": "" if p is None else "*" * sum(p < level for level in (0.05, 0.01, 0.001)),
                "val_mean": float(np.mean([trial["val_accuracy"] for trial in done])),
                "parameters": done[0]["parameters"],
                "seconds": float(np.mean([trial["seconds"] for trial in done])),
                "peak_memory": done[0]["peak_memory"],
                "trials": [trial["key"] for trial in group],
            }
        )
    for place in dict.fromkeys((row["backbone"], row["target"]) for row in rows):
        here = [row for row in rows if (row["backbone"], row["target"]) == place]
        chosen = [
            max((row for row in here if row["method"] == method), key=lambda row: row["val_mean"])
            for method in dict.fromkeys(row["method"] for row in here)
        ]
        for row, rank in zip(chosen, rankdata([-row["mean"] for row in chosen]), strict=True):
            row["rank"] = float(rank)
    return rows


def _averages(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["rank"] is not None:
            groups.setdefault((row["backbone"], row["method"]), []).append(row)
    return [
        {
            "backbone": backbone,
            "method": method,
            "source": "chosen on val" if method in TRANSFER else None,
            "targets": len(group),
            "mean": float(np.mean([row["mean"] for row in group])),
            "rank": float(np.mean([row["rank"] for row in group])),
            "wins": sum(row["rank"] == 1 for row in group),
            "difference": None if method == BASELINE else float(np.mean([row["difference"] for row in group])),
            "p": None if method == BASELINE else 0.013,
            "stars": "" if method == BASELINE else "*",
        }
        for (backbone, method), group in groups.items()
    ]


def _estimates(rng: np.random.Generator, rows: list[dict[str, Any]], seeds: int) -> list[dict[str, Any]]:
    trust = dict(zip(ESTIMATORS, (0.02, 0.035, 0.015, 0.05), strict=True))
    return [
        {
            "backbone": row["backbone"],
            "target": row["target"],
            "estimator": estimator,
            "seed": seed,
            "source": row["source"],
            "score": 10 * (row["mean"] + float(rng.normal(0, trust[estimator]))) - 9,
            "measured": row["mean"],
            "method": row["method"],
            "trial": key_of("estimate", row["backbone"], row["target"], seed, None, None, estimator),
        }
        for row in rows
        if row["method"] == "projection"
        for estimator in ESTIMATORS
        for seed in range(min(seeds, 1))
    ]


def _cost(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str | None], list[dict[str, Any]]] = {}
    for trial in trials:
        if trial["state"] == "done":
            groups.setdefault((trial["kind"], trial["method"]), []).append(trial)
    return [
        {
            "kind": kind,
            "method": method,
            "trials": len(group),
            "seconds": sum(trial["seconds"] for trial in group),
            "seconds_each": median(trial["seconds"] for trial in group),
            "parameters": mean(trial["parameters"] for trial in group) if kind == "train" else None,
            "peak_memory": max(trial["peak_memory"] for trial in group),
        }
        for (kind, method), group in groups.items()
    ]
