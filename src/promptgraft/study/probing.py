"""Studies of facts: prompts tuned on one language model, and what they make all of a study's models tell.

One trial tunes the prompts of one model, of one length, with one seed, tests them there beside prompts that need no
source, and carries them to every model of the study, itself included: a column of the tables 1 and 2 of zero-shot
continuous prompt transfer (Wu et al. 2024, https://arxiv.org/abs/2310.01691), and a row of its table 3.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.errors import InputError
from promptgraft.files import cache_root, content_key
from promptgraft.probing.candidates import load_prober, shared_candidates
from promptgraft.probing.comparison import FactRow, Way, carries, compare_facts
from promptgraft.probing.questions import Prober, Questions
from promptgraft.probing.tuning import FactRecipe, random_prompts
from promptgraft.study.facts import Fact
from promptgraft.study.plan import backbone_identity, backbone_options
from promptgraft.study.spec import BackboneSpec, FactsSpec, StudySpec
from promptgraft.study.trial import Outcome, Trial
from promptgraft.study.work import BACK, ChangedError
from promptgraft.tasks.fact_files import SPLITS
from promptgraft.tasks.facts import Facts, load_facts
from promptgraft.transfer.converter import CONVERTERS
from promptgraft.tuning.adapted import versions

GetProber = Callable[[Mapping[str, Any], Mapping[str, Any]], TransformerBackbone]
"""Identity and options of a model to the model."""

_TIMED = 16  # questions of which a pass is timed


def fact_trials(spec: StudySpec, asked: FactsSpec) -> tuple[tuple[Trial, ...], tuple[Fact, ...]]:
    """The trials of a study of facts, and what they rest on.

    Raises:
        InputError: a model has no head that tells words, or there is no such set of facts.
    """
    probers = [load_prober(**_options(backbone)) for backbone in spec.backbones]
    models = [backbone_identity(prober) for prober in probers]
    names = [backbone.shown for backbone in spec.backbones]
    facts = [
        Fact("weights", backbone.pinned, prober.info.weights_sha256)
        for backbone, prober in zip(spec.backbones, probers, strict=True)
    ]
    facts += [Fact("data", target.task, load_facts(target.task).fingerprint) for target in spec.targets]
    together = [each for each in asked.sources or () if not isinstance(each, str)]
    main = asked.recipe.prompt_length
    trials: list[Trial] = []
    for target, seed, length in itertools.product(spec.targets, spec.seeds, (main, *asked.other_lengths)):
        fingerprint = load_facts(target.task, seed=seed, limit=asked.limit).fingerprint
        for group in [*((name,) for name in names), *together]:
            chosen = _chosen(asked, group, main=length == main)
            if not chosen:
                continue
            numbers = [names.index(name) for name in group]
            identity: dict[str, Any] = {
                "models": models,
                "tuned_on": numbers[0] if len(numbers) == 1 else numbers,
                "facts": fingerprint,
                "limit": asked.limit,
                "ways": [[way.method, dict(way.options), way.shown] for way in chosen],
                "fact_recipe": asked.recipe.model_copy(update={"prompt_length": length}).model_dump(mode="json"),
                "seed": seed,
                "threads": spec.threads,
            }
            places: dict[str, Any] = {"facts": target.task, "models": [_options(each) for each in spec.backbones]}
            labels: dict[str, Any] = {
                "backbone": " + ".join(group),
                "sources": list(group),
                "target": target.shown,
                "method": f"facts, {length} rows",
            }
            labels |= {"seed": seed, "models": names, "prompt_length": length, "main": length == main}
            trials.append(Trial("facts", identity, places, (), labels))
    return tuple(trials), tuple(facts)


def _chosen(asked: FactsSpec, group: Sequence[str], *, main: bool) -> list[Way]:
    """The ways that are tried with prompts of these models, at the study's own prompt length or at another one."""
    ways = [each.way for each in asked.methods]
    own = [way for way in ways if carries(way.method, len(group))]
    if len(group) > 1:
        return own if main else []
    if asked.sources is not None and group[0] not in asked.sources:
        own = []
    if main:
        return [*(way for way in ways if way.method not in CONVERTERS), *own]
    return [*(way for way in ways if way.method == "tuned"), own[0]] if own else []


def tell(trial: Trial, prober: GetProber) -> Outcome:
    """Tune, carry, test.

    Returns:
        `rows`: `way`, `target` (number of the model), `carried`, and what `FactRow.flat` has.

    Raises:
        ChangedError: the facts are not those that the trial was planned with.
    """
    identity = trial.identity
    models, facts = _at_hand(trial, prober)
    tuned_on, recipe = _tuned_on(trial), FactRecipe.model_validate(identity["fact_recipe"])
    own = [models[number] for number in tuned_on]
    ways = [Way(*way) for way in identity["ways"]]
    # kept: sources that are carried together were tuned for their own trials, too
    known = content_key(versions(), identity["models"], identity["threads"], [str(model.device) for model in models])
    checkpoints = cache_root() / "tuned-facts" / known
    common: dict[str, Any] = {"recipe": recipe, "seed": identity["seed"], "checkpoints": checkpoints}
    free = [way for way in ways if way.method not in CONVERTERS]
    carried = [way for way in ways if way.method in CONVERTERS]
    rows: list[dict[str, Any]] = []
    notes: tuple[str, ...] = ()
    words = 0
    # the second comparison finds the prompts of the first one tuned
    if free:
        found = compare_facts(facts, [], own, methods=free, others=models, **common)
        rows += [_flat(row, tuned_on[0]) for row in found.rows]
        notes, words = found.facts.notes, len(found.candidates.words)
    if carried:
        found = compare_facts(facts, [own], models, methods=carried, **common)
        rows += [_flat(row, number // len(carried)) for number, row in enumerate(found.rows)]
        notes, words = found.facts.notes, len(found.candidates.words)
    return Outcome({"rows": rows, "candidates": words, "notes": list(notes)})


def seconds_to_tell(trial: Trial, prober: GetProber) -> float:
    """What a trial will take, from passes of a few questions through each of its models."""
    models, facts = _at_hand(trial, prober)
    identity, recipe = trial.identity, FactRecipe.model_validate(trial.identity["fact_recipe"])
    facts, candidates = shared_candidates(facts, models)
    sizes = {split: facts.count(split) for split in SPLITS}
    methods = [way[0] for way in identity["ways"]]
    carried = sum(method in CONVERTERS for method in methods)
    seconds = 0.0
    for number, model in enumerate(models):
        asked = Prober(model, candidates)
        questions = asked.ask(facts, "train", recipe.prompt_length)
        prompts = random_prompts(model, facts, asked.words, recipe.prompt_length, 0)
        own = number in _tuned_on(trial)
        forward, step = (_seconds(asked, questions, prompts, train=train) for train in (False, own))
        seconds += sizes["test"] * forward * (carried + (len(methods) - carried if own else 0))
        if own and (carried or "tuned" in methods):
            seconds += recipe.epochs * (sizes["train"] * step + sizes["dev"] * forward)
    return seconds


def _tuned_on(trial: Trial) -> list[int]:
    """Numbers of the models that prompts are tuned on."""
    known = trial.identity["tuned_on"]
    return [known] if isinstance(known, int) else list(known)


def _seconds(prober: Prober, questions: Questions, prompts: torch.Tensor, *, train: bool) -> float:
    """Seconds of a question."""
    index = torch.arange(min(_TIMED, len(questions)))
    started = time.perf_counter()
    with torch.set_grad_enabled(train):
        scores = prober.scores(questions, index, prompts.requires_grad_(train))
        if train:
            torch.autograd.backward(scores.sum())
    return (time.perf_counter() - started) / len(index)


def _at_hand(trial: Trial, prober: GetProber) -> tuple[list[TransformerBackbone], Facts]:
    identity, places = trial.identity, trial.places
    models = [prober(known, options) for known, options in zip(identity["models"], places["models"], strict=True)]
    changed = ChangedError(f"facts {places['facts']} changed since the study was planned. {BACK}")
    try:
        facts = load_facts(places["facts"], seed=identity["seed"], limit=identity["limit"])
    except InputError as error:
        raise changed from error
    if facts.fingerprint != identity["facts"]:
        raise changed
    return models, facts


def _flat(row: FactRow, target: int) -> dict[str, Any]:
    """A row without names: a result holds only what the trial's key determines."""
    flat = replace(row, source=None).flat()
    del flat["source"]
    return flat | {"way": flat.pop("method"), "target": target, "carried": row.source is not None}


def _options(backbone: BackboneSpec) -> dict[str, Any]:
    """What `load_prober` is called with, but for the device."""
    options = backbone_options(backbone)
    return {name: options[name] for name in ("name", "max_length", "dtype", "revision")}
