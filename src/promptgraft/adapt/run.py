"""`adapt`: rank the library, race the candidates, retrain the winner, test it once, write the folder."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from promptgraft.adapt.halving import OUT_OF_TIME, Clock, race, steps
from promptgraft.adapt.plan import LOOKED_AT, LeftOut, Plan, plan_candidates, rank_library
from promptgraft.adapt.result import build_result
from promptgraft.backbones.base import Backbone
from promptgraft.card import Score
from promptgraft.errors import CompatibilityError, InputError, TrainingError
from promptgraft.files import atomic_folder, cache_root, canonical_json, check_output_folder, content_key, path_text
from promptgraft.intervals import paired_difference
from promptgraft.library import PromptLibrary
from promptgraft.progress import progress_bar
from promptgraft.report.page import write_report
from promptgraft.tasks.base import Task
from promptgraft.tasks.embedded import EmbeddedTask, embed_task, join
from promptgraft.transferability.ranking import DEFAULT, QUICK
from promptgraft.tuning.adapted import Adapted, Naming, adapted_from
from promptgraft.tuning.candidate import Candidate
from promptgraft.tuning.method import METHODS, Setting
from promptgraft.tuning.recipes import Recipe

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Best:
    """What a race found.

    candidates: all that started, in the order of their plans. left_out: those that did not. winner: the best of them.
    adapted: the winner retrained on train and validation together.
    """

    candidates: Sequence[Candidate]
    left_out: Sequence[LeftOut]
    winner: Candidate
    adapted: Adapted


@dataclass(frozen=True)
class Outcome:
    """What a run made: the classifier, the contents of `result.json`, and the folder."""

    adapted: Adapted
    result: dict[str, Any]
    folder: Path


def adapt(
    task: Task,
    backbone: Backbone,
    library: PromptLibrary,
    out: Path,
    *,
    recipe: Recipe,
    prompt_length: int = 10,
    top: int = 3,
    seed: int = 0,
    budget: float | None = None,
    command: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Find the best way to adapt a frozen backbone to a task, and write it to a folder.

    The candidates are the linear probe, prompts from scratch, and the `top` best-ranked prompts of the library, alone
    and, where three of them go together, as ensembles; they race by successive halving on the validation split. The
    winner is retrained on train and validation together and tested once. A run that was stopped goes on where it was
    when it is called again with the same arguments.

    Args:
        task: what to adapt to.
        backbone: the frozen model.
        library: prompts that may be transferred.
        out: the output folder; it must not exist, or be empty.
        recipe: how prompts are trained.
        prompt_length: rows of a new prompt.
        top: how many prompts of the library are tried.
        seed: of everything random.
        budget: seconds for the whole run, None for no limit.
        command: what the user typed, for the record.
        say: receives lines about what is going on.

    Raises:
        InputError: the output folder is taken, the disk is full, or a split is empty.
        TrainingError: not even the linear probe could be fitted.
    """
    _check(task, prompt_length, top)
    check_output_folder(out)
    clock = Clock(budget)
    data = embed_task(backbone, task)
    ranking = rank_library(library, data, seed, _estimators(library, data, clock)) if top and len(library) else None
    if ranking is not None:
        tried, evidence = ", ".join(ranking.fitting[:top]), ranking.evidence or "none, a rank is a guess"
        fit = f"{len(library)} prompts, {len(ranking.fitting)} fit"
        say(f"library: {fit}; best by {ranking.order}, to be tried: {tried}")
        say(f"evidence: {evidence}")
    elif top:
        say(f"library: {len(library)} prompts, none fits" if len(library) else "library: empty, no prompt to transfer")
    plans = plan_candidates(library, ranking, data, top)
    setting = Setting(backbone, data.train, prompt_length, "deep", seed)
    checkpoints = cache_root() / "runs" / _run_key(data, setting, plans, recipe)
    best = find_best(plans, data, setting, recipe, clock, checkpoints=checkpoints, command=command)
    candidates, winner, adapted = best.candidates, best.winner, best.adapted
    linear = candidates[0]
    differences: dict[Candidate, Score] = {
        candidate: paired_difference(candidate.val_correct, linear.val_correct)
        for candidate in candidates[1:]
        if candidate.val_score() is not None
    }
    probabilities = adapted.probabilities(data.test)
    record = {
        "recipe": recipe.model_dump(mode="json"),
        "prompt_length": prompt_length,
        "seed": seed,
        "budget_seconds": budget,
        "seconds": round(clock.elapsed, 1),
        "command": command,
        "out": path_text(out),
    }
    named = {source.id: name for plan in plans for source, name in zip(plan.sources, plan.names, strict=True)}
    result = build_result(
        task, backbone, candidates, best.left_out, winner, differences, probabilities, ranking, named, record
    )
    adapted = adapted.with_score("test", Score(**result["test_accuracy"]))
    with atomic_folder(out) as temporary:
        adapted.write_into(temporary)
        (temporary / RESULT_FILE).write_text(canonical_json(result) + "\n", encoding="utf-8")
        write_report(result, temporary, images=_error_images(result["errors"], task))
    shutil.rmtree(checkpoints, ignore_errors=True)
    return Outcome(adapted, result, out)


def find_best(
    plans: Sequence[Plan],
    data: EmbeddedTask,
    setting: Setting,
    recipe: Recipe,
    clock: Clock,
    *,
    checkpoints: Path | None = None,
    command: str = "",
) -> Best:
    """Race candidates on the validation split and retrain the winner on train and validation together.

    Args:
        plans: what to try; the first always starts.
        data: its test split is not looked at.
        setting: what the candidates have in common.
        recipe: how prompts are trained.
        clock: the time budget.
        checkpoints: a folder from which a race that was stopped goes on.
        command: what the user typed, for the record.

    Raises:
        TrainingError: the first plan failed to start, or all failed.
    """
    task, forward = data.task, _forward_seconds(data)
    clock.first_epoch = forward * (3 * len(task.train) + len(task.val))  # a backward pass takes about two forward ones
    clock.reserve = forward * (len(task.train) + len(task.val) + len(task.test))
    clock.retrain_share = 1 + len(task.val) / len(task.train)
    candidates, left_out = _start(plans, setting, data, recipe, checkpoints, clock, forward)
    running = sum(candidate.status == "running" for candidate in candidates)
    with progress_bar("candidates", steps(running, recipe), "epoch") as bar:

        def on_epoch(candidate: Candidate) -> None:
            bar.note(candidate.label if candidate.source is None else f"{candidate.label} of {candidate.source}")
            bar.advance()

        race(candidates, recipe, clock, on_epoch)
    winner = _winner(candidates)
    return Best(candidates, left_out, winner, _retrain(winner, data, recipe, command))


def _check(task: Task, prompt_length: int, top: int) -> None:
    if prompt_length < 1:
        raise InputError(f"prompt_length must be at least 1, got {prompt_length}.")
    if top < 0:
        raise InputError(f"top must be 0 or more prompts of the library, got {top}.")
    for name in ("val", "test"):
        if not len(getattr(task, name)):
            raise InputError(
                f"task {task.name} has no {name} examples. Add data, or ask for a larger part of it: n_{name} "
                f"(--n-{name} on the command line)."
            )


def _estimators(library: PromptLibrary, data: EmbeddedTask, clock: Clock) -> Sequence[str]:
    """What ranks the library: with a forward pass for each prompt where these take a fifth of the budget at most."""
    passes = len(library) * min(len(data.train), LOOKED_AT) * _forward_seconds(data)
    return DEFAULT if clock.has(5 * passes) else QUICK


def _start(
    plans: Sequence[Plan],
    setting: Setting,
    data: EmbeddedTask,
    recipe: Recipe,
    checkpoints: Path | None,
    clock: Clock,
    forward: float,
) -> tuple[list[Candidate], list[LeftOut]]:
    """Start every candidate that there is time for: its prompt, and its head at the linear probe's solution.

    The linear probe comes first and always starts; without it there is nothing to compare with.
    """
    candidates: list[Candidate] = []
    left_out: list[LeftOut] = []
    pass_seconds = forward * (len(data.train) + len(data.val))
    with progress_bar("starting", len(plans), "candidate") as bar:
        for number, plan in enumerate(plans):
            bar.note(plan.method if plan.source_name is None else f"{plan.method} of {plan.source_name}")
            own = replace(setting, layers=plan.layers, sources=plan.sources, source_name=plan.source_name)
            path = None if checkpoints is None else checkpoints / f"{number}-{plan.method}.safetensors"
            method, classes = METHODS[plan.method], len(data.task.classes)
            if number and not clock.has(plan.passes * pass_seconds):
                left_out.append(LeftOut(plan, "stopped early", f"{OUT_OF_TIME} before it started"))
            else:
                try:
                    candidates.append(Candidate(method, own, data.val, classes, recipe, checkpoint=path))
                except (TrainingError, CompatibilityError) as error:
                    if number == 0:
                        raise
                    left_out.append(LeftOut(plan, "failed", str(error)))
            bar.advance()
    return candidates, left_out


def _winner(candidates: Sequence[Candidate]) -> Candidate:
    """Best selection accuracy; of equals the one with fewer parameters, then the lower loss."""
    kept = [candidate for candidate in candidates if candidate.val_score() is not None]
    if not kept:
        raise TrainingError(candidates[0].reason or "nothing could be trained")
    return max(kept, key=lambda c: (float(c.val_correct.mean()), -c.parameters, c.standing()[1]))


def _retrain(winner: Candidate, data: EmbeddedTask, recipe: Recipe, command: str) -> Adapted:
    """The winner anew on train and validation together, for as many epochs as the selection split chose."""
    both = join(data.train, data.val)
    setting = replace(winner.setting, train=both)
    with progress_bar("retraining", 1 + winner.best_epoch, "epoch") as bar:  # the start takes about as long as one
        final = Candidate(winner.method, setting, None, len(data.task.classes), recipe, probe=winner.probe)
        bar.advance()
        final.advance(winner.best_epoch, on_epoch=lambda line: bar.advance())
    score = winner.val_score()
    assert score is not None
    info = data.task.info.model_copy(update={"n_train": len(both)})
    return adapted_from(final, info, Naming(f"{info.modality}/{info.name}", command=command or None), {"val": score})


def _forward_seconds(data: EmbeddedTask) -> float:
    """Seconds per example of a forward pass, measured on one small batch."""
    tokens = data.train.tokens(torch.arange(min(16, len(data.train))))
    with torch.no_grad():
        data.backbone.run(tokens)
        started = time.perf_counter()
        data.backbone.run(tokens).cpu()  # waits for the device
    return (time.perf_counter() - started) / len(tokens)


def _error_images(errors: Sequence[dict[str, Any]], task: Task) -> dict[str, Any]:
    """The wrongly classified images by name."""
    if task.modality != "vision":
        return {}
    return {error["name"]: task.test.inputs[error["index"]] for error in errors}


def _run_key(data: EmbeddedTask, setting: Setting, plans: Sequence[Plan], recipe: Recipe) -> str:
    """Equal for runs that go on from one another's checkpoints; the keys of the splits carry the versions too."""
    chosen = [(plan.method, plan.layers, [source.id for source in plan.sources]) for plan in plans]
    parts = (data.task.fingerprint, data.train.key, data.val.key, data.backbone.info.model_dump(mode="json"))
    return content_key(*parts, chosen, recipe.model_dump(mode="json"), setting.prompt_length, setting.seed)[:24]
