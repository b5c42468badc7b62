"""Zero-shot transfer of factual prompts: every way to carry them, side by side, on the same facts and candidates.

Tables 1 to 3 of zero-shot continuous prompt transfer (Wu et al. 2024, https://arxiv.org/abs/2310.01691), and what its
figure 2 plots: accuracy against the matching loss, the mean over rows of one minus eq. 5.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.card import Score
from promptgraft.errors import CompatibilityError, InputError
from promptgraft.files import content_key
from promptgraft.probing.candidates import Candidates, shared_candidates
from promptgraft.probing.scoring import FactScores, prompt_rows, score_facts, score_majority
from promptgraft.probing.tuning import FactRecipe, random_prompts, tune_facts
from promptgraft.progress import progress_bar
from promptgraft.prompt import SoftPrompt
from promptgraft.registry import did_you_mean
from promptgraft.tasks.fact_files import FactSplit
from promptgraft.tasks.facts import Facts
from promptgraft.transfer.anchors import Anchors, shared_anchors, word_embeddings
from promptgraft.transfer.convert import convert_each, converter_settings
from promptgraft.transfer.converter import CONVERTERS
from promptgraft.transfer.relative import TOP_K, matching_cosine

SOURCELESS = ("random", "manual", "majority", "tuned")
"""Normal numbers spread as the target's words; the relation's template in words; the relation's most frequent object,
without a model; a prompt tuned on the target."""
METHODS = (*CONVERTERS, *SOURCELESS)


@dataclass(frozen=True)
class Way:
    """One way to prompt a model: one of `METHODS`, its options, and what tables call it (the method if None)."""

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str | None = None

    @property
    def shown(self) -> str:
        """What tables call it."""
        return self.label or self.method


@dataclass(frozen=True)
class FactRow:
    """One cell of the tables.

    source: the model that the prompts were tuned on, `A + B` for several, None for a method without. accuracy: of all
    test facts, None where the method does not fit. mean: over relations. matching_loss: None without a source.
    relations: the accuracy of each. losses: the matching loss of each. note: why there is no accuracy.
    """

    source: str | None
    target: str
    method: str
    accuracy: Score | None = None
    mean: float | None = None
    matching_loss: float | None = None
    relations: Mapping[str, Score] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)
    note: str | None = None

    def flat(self) -> dict[str, Any]:
        """The row as JSON: accuracy, low, high and n stand beside source, target and method."""
        score = {} if self.accuracy is None else self.accuracy.model_dump()
        return {
            "source": self.source,
            "target": self.target,
            "method": self.method,
            "accuracy": score.get("value"),
            **{key: score.get(key) for key in ("low", "high", "n")},
            "mean": self.mean,
            "matching_loss": self.matching_loss,
            "relations": {
                name: each.model_dump() | {"matching_loss": self.losses.get(name)}
                for name, each in self.relations.items()
            },
            "note": self.note,
        }


@dataclass(frozen=True)
class Comparison:
    """What was compared: the facts that all models can be asked, their candidates, the rows, and all prompts."""

    facts: Facts
    candidates: Candidates
    rows: tuple[FactRow, ...]
    prompts: tuple[SoftPrompt, ...]


def compare_facts(
    facts: Facts,
    sources: Sequence[TransformerBackbone | Sequence[TransformerBackbone]],
    targets: Sequence[TransformerBackbone],
    *,
    methods: Sequence[str | Way] = METHODS,
    recipe: FactRecipe | None = None,
    others: Sequence[TransformerBackbone] = (),
    split: FactSplit = "test",
    seed: int = 0,
    checkpoints: Path | None = None,
    command: str | None = None,
) -> Comparison:
    """Tune prompts on the sources, carry them to the targets without labels, and test all of them.

    Args:
        facts: from `load_facts`; those that not all models can be asked are dropped.
        sources: models from `load_prober`; several in one item are sources together (eq. 7), for `relative`.
        targets: models from `load_prober`; a source may be among them (self-transfer).
        methods: converters (`relative`, `copy`, `discretization`, `neural-projector`), `random`, `manual`, `majority`,
            `tuned`; or such a one with options, as a `Way`.
        recipe: of the tuning; None for OptiPrompt's.
        others: further models that are compared elsewhere, so that facts and candidates are such as these know, too.
        split: whose facts are told; `dev`, to choose settings by, which also chose the epoch of tuned prompts.
        seed: of tuning, random prompts and projectors.
        checkpoints: a folder for tuning to go on from after an interruption.
        command: what made the prompts, for their cards.

    Raises:
        InputError: no such method or option, no model, several sources together and no method that takes them, or no
            facts are left.
        CompatibilityError: a model has no head that tells words, or they share none.
    """
    ways = checked_ways(methods)
    groups = [(each,) if isinstance(each, TransformerBackbone) else tuple(each) for each in sources]
    if not targets or not all(groups) or (not groups and any(way.method in CONVERTERS for way in ways)):
        raise InputError("a comparison needs a target, and a source for the methods that carry prompts. Name some.")
    if any(len(group) > 1 for group in groups) and not any(carries(way.method, 2) for way in ways):
        raise InputError("only `relative` carries prompts of several sources together. Add it to the methods.")
    recipe = recipe or FactRecipe()
    facts, candidates = shared_candidates(facts, [*itertools.chain(*groups), *targets, *others])
    tuned: dict[str, tuple[SoftPrompt, ...]] = {}
    prompts: list[SoftPrompt] = []
    rows: list[FactRow] = []

    def tuned_on(backbone: TransformerBackbone) -> tuple[SoftPrompt, ...]:
        key = backbone.info.weights_sha256
        if key not in tuned:
            run = content_key(facts.fingerprint, candidates.fingerprint, key, recipe.model_dump(), seed)
            path = None if checkpoints is None else checkpoints / f"{run}.safetensors"
            tuned[key] = tune_facts(
                backbone, facts, candidates, recipe=recipe, seed=seed, checkpoint=path, command=command
            )
            prompts.extend(tuned[key])
        return tuned[key]

    def told(target: TransformerBackbone, method: str) -> FactScores:
        """By a method without a source."""
        given: Sequence[SoftPrompt] | Tensor | None = None
        if method == "majority":
            return score_majority(facts, split=split)
        if method == "tuned":
            given = tuned_on(target)
        elif method == "random":
            given = random_prompts(target, facts, word_embeddings(target), recipe.prompt_length, seed)
        return score_facts(target, facts, candidates, given, split=split)

    free = [way for way in ways if way.method not in CONVERTERS]
    carried = [(group, [way for way in ways if carries(way.method, len(group))]) for group in groups]
    carried = [(group, own_ways) for group, own_ways in carried if own_ways]
    total = len(targets) * (len(free) + sum(len(own) for _, own in carried))
    with progress_bar("comparing", total, "method") as bar:
        for target in targets:
            for way in free:
                rows.append(_row(None, target, way.shown, told(target, way.method)))
                bar.advance()
            for group, own_ways in carried:
                own = tuple(zip(*[tuned_on(source) for source in group], strict=True))
                anchors = shared_anchors(*group, target)
                for way in own_ways:
                    settings = ({"seed": seed} if way.method == "neural-projector" else {}) | dict(way.options)
                    try:
                        made = convert_each(
                            own, source=group, target=target, method=way.method, command=command, **settings
                        )
                    except (CompatibilityError, InputError) as error:
                        rows.append(FactRow(_names(group), target.info.name, way.shown, note=str(error)))
                    else:
                        prompts.extend(made)
                        losses = _matching_losses(own, made, facts, anchors, way.options.get("top_k", TOP_K))
                        scores = score_facts(target, facts, candidates, made, split=split)
                        rows.append(_row(_names(group), target, way.shown, scores, losses))
                    bar.advance()
    return Comparison(facts, candidates, tuple(rows), tuple(prompts))


def carries(method: str, sources: int) -> bool:
    """Whether a method carries prompts of this many sources at once."""
    return method in CONVERTERS and (sources == 1 or CONVERTERS[method].several)


def _names(group: Sequence[TransformerBackbone]) -> str:
    return " + ".join(source.info.name for source in group)


def checked_ways(methods: Sequence[str | Way]) -> list[Way]:
    """The ways that are meant.

    Raises:
        InputError: no such method, or it has no such option.
    """
    ways = [Way(each) if isinstance(each, str) else each for each in methods]
    for way in ways:
        if way.method not in METHODS:
            near = did_you_mean(way.method, list(METHODS))
            raise InputError(f"there is no method named {way.method!r}.{near} Known: {', '.join(METHODS)}.")
        if way.method in CONVERTERS:
            converter_settings(CONVERTERS[way.method], dict(way.options))
        elif way.options:
            raise InputError(f"method {way.method!r} takes no options, got {', '.join(way.options)}.")
    return ways


def _row(
    source: str | None,
    target: TransformerBackbone,
    method: str,
    scores: FactScores,
    losses: Mapping[str, float] | None = None,
) -> FactRow:
    loss = None if losses is None else sum(losses.values()) / len(losses)
    return FactRow(
        source, target.info.name, method, scores.overall, scores.mean, loss, scores.by_relation(), losses or {}
    )


def _matching_losses(
    own: Sequence[Sequence[SoftPrompt]], made: Sequence[SoftPrompt], facts: Facts, anchors: Anchors, top_k: int
) -> dict[str, float]:
    """One minus the cosine of source and target relation, as prompts are used: mean over sources and prompt rows."""
    after = prompt_rows(made, facts).flatten(0, 1)
    *sources, target = anchors.embeddings
    cosines = torch.stack(
        [
            matching_cosine(prompt_rows(prompts, facts).flatten(0, 1), after, words, target, top_k=top_k)
            for prompts, words in zip(zip(*own, strict=True), sources, strict=True)
        ]
    )
    of_prompts = cosines.mean(0).view(len(made), -1).mean(1)
    return {
        relation.name: max(0.0, 1 - each) for relation, each in zip(facts.relations, of_prompts.tolist(), strict=True)
    }
