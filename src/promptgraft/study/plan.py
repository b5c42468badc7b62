"""From what a study asks for to its trials, in the order in which they share most."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from promptgraft.backbones.load import load_backbone
from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.card import BackboneInfo
from promptgraft.errors import CompatibilityError, InputError
from promptgraft.library import PromptLibrary, open_library
from promptgraft.study.facts import Fact, data_fact
from promptgraft.study.spec import BackboneSpec, MethodSpec, SomeSources, StudySpec, TaskSpec, TunedSources
from promptgraft.study.trial import Trial
from promptgraft.transferability.base import ESTIMATORS
from promptgraft.tuning.method import METHODS
from promptgraft.tuning.recipes import Recipe


@dataclass(frozen=True)
class Source:
    """A source prompt as a plan sees it.

    reference: what names its content: `{"prompt": id}` or `{"trial": key}`. backbone: that it was tuned on. task: of
    its card or its data's fact.
    """

    name: str
    reference: dict[str, str]
    layers: int
    length: int
    width: int
    backbone: BackboneInfo
    task: str

    @property
    def needs(self) -> tuple[str, ...]:
        """The trial that makes it, if one does."""
        return (self.reference["trial"],) if "trial" in self.reference else ()


@dataclass(frozen=True)
class Plan:
    """The trials of a study, each after those that it needs.

    facts: what they rest on. left_out: what was asked for and cannot be, with the reason.
    """

    spec: StudySpec
    trials: tuple[Trial, ...]
    facts: tuple[Fact, ...]
    left_out: tuple[str, ...] = ()


@dataclass
class _Planner:
    spec: StudySpec
    facts: dict[tuple[str, str], Fact] = field(default_factory=dict)
    left_out: dict[str, None] = field(default_factory=dict)
    backbones: dict[BackboneSpec, TransformerBackbone] = field(default_factory=dict)

    def backbone(self, spec: BackboneSpec) -> TransformerBackbone:
        if spec not in self.backbones:
            self.backbones[spec] = load_backbone(**backbone_options(spec))
            fact = Fact("weights", spec.pinned, self.backbones[spec].info.weights_sha256)
            self.facts[fact.kind, fact.name] = fact
        return self.backbones[spec]

    def data(self, task: str) -> Fact:
        if ("data", task) not in self.facts:
            self.facts["data", task] = data_fact(task)
        return self.facts["data", task]

    def target(self, spec: TaskSpec, seed: int) -> dict[str, Any]:
        split_seed = seed if spec.split_seed is None else spec.split_seed
        sizes: dict[str, Any] = {"n_train": spec.n_train, "n_val": spec.n_val, "n_test": spec.n_test}
        given = {key: value for key, value in sizes.items() if value is not None}
        return {"data": self.data(spec.task).value, "seed": split_seed, **given}

    def common(self, backbone: BackboneSpec, task: TaskSpec, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Identity and places of a trial on a target."""
        identity: dict[str, Any] = {
            "backbone": backbone_identity(self.backbone(backbone)),
            "task": self.target(task, seed),
        }
        identity |= {"seed": seed, "threads": self.spec.threads}
        places = {"backbone": backbone_options(backbone), "task": task.task, "name": task.shown}
        return identity, places | {"library": self.spec.sources.library if self.spec.sources else None}

    # sources

    def sources(self) -> tuple[list[Trial], list[Source]]:
        """Trials that tune source prompts, and all sources."""
        asked = self.spec.sources
        if asked is None:
            return [], []
        trials, found = [], []
        if asked.library is not None:
            library = open_library(asked.library)
            names = library.names() if asked.prompts is None else [library.resolve(name) for name in asked.prompts]
            found += [self._library_source(library, name) for name in names]
        for group in asked.tune:
            for task in group.tasks:
                trial = self._tuning(group, task)
                info = self.backbone(group.backbone).info
                shape = (1, info.embed_dim) if group.layers == "shallow" else (info.depth, info.dim)
                name = f"{info.modality}/{task.shown}"
                # a model that is read at a prompt's row has no head alone
                trials += [trial] if info.pool == "mask" else [trial, self._head_alone(group, task)]
                reference, fact = {"trial": trial.key}, self.data(task.task)
                found.append(Source(name, reference, shape[0], group.prompt_length, shape[1], info, fact.value))
        names = [source.name for source in found]
        if double := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(f"source prompt {double[0]!r} is there twice. Give one of the tasks another `label`.")
        return trials, found

    def _library_source(self, library: PromptLibrary, name: str) -> Source:
        prompt = library[name]
        fact = Fact("prompt", name, prompt.id)
        self.facts[fact.kind, fact.name] = fact
        layers, length, width = prompt.tensor.shape
        card = prompt.card
        return Source(name, {"prompt": prompt.id}, layers, length, width, card.backbone, card.task.name)

    def _tuning(self, group: TunedSources, task: TaskSpec) -> Trial:
        identity, places = self.common(group.backbone, task, group.seed)
        identity |= method_identity(
            group.method, group.layers, group.prompt_length, group.recipe.recipe(group.method, task.plain)
        )
        modality = self.backbone(group.backbone).info.modality
        labels = self._labels(group.backbone, task, group.seed) | {
            "method": f"{group.method} {group.layers}",
            "source": f"{modality}/{task.shown}",
        }
        return Trial("source", identity, places | {"method": group.method}, (), labels)

    def _head_alone(self, group: TunedSources, task: TaskSpec) -> Trial:
        """What a tuned source is compared to on its own task."""
        identity, places = self.common(group.backbone, task, group.seed)
        identity |= method_identity(
            "linear", group.layers, group.prompt_length, group.recipe.recipe("linear", task.plain)
        )
        labels = self._tuning(group, task).labels | {"method": "linear"}
        return Trial("head", identity, places | {"method": "linear"}, (), labels)

    def _labels(self, backbone: BackboneSpec, task: TaskSpec, seed: int) -> dict[str, Any]:
        return {"backbone": backbone.shown, "target": task.shown, "seed": seed}

    def _own(self, source: Source, task: TaskSpec) -> bool:
        """Whether a source was tuned on the target's own task."""
        return source.task in (self.data(task.task).value, task.plain, task.shown)

    def allowed(self, sources: Sequence[Source], task: TaskSpec) -> list[Source]:
        assert self.spec.sources is not None
        own = [] if self.spec.sources.same_task else [source for source in sources if self._own(source, task)]
        for source in own:
            self.left_out[f"{source.name} for {task.shown}: it was tuned on this task; `same_task: true` takes it"] = (
                None
            )
        return [source for source in sources if source not in own]

    # estimates and methods

    def estimates(self, backbone: BackboneSpec, task: TaskSpec, seed: int, sources: Sequence[Source]) -> list[Trial]:
        allowed = self.allowed(sources, task) if sources else []
        trials = []
        for name in self.spec.estimators:
            if len(allowed) < 2:
                self.left_out[f"{name} for {task.shown}: it ranks two sources or more, got {len(allowed)}"] = None
                continue
            identity, places = self.common(backbone, task, seed)
            identity |= {"estimator": name, "version": ESTIMATORS[name].version}
            identity["sources"] = [source.reference for source in allowed]
            names = [source.name for source in allowed]
            labels = self._labels(backbone, task, seed) | {"estimator": name, "sources": names}
            places |= {"sources": names}
            needs = tuple(itertools.chain.from_iterable(source.needs for source in allowed))
            trials.append(Trial("estimate", identity, places, needs, labels))
        return trials

    def method(
        self,
        method: MethodSpec,
        backbone: BackboneSpec,
        task: TaskSpec,
        seed: int,
        sources: Sequence[Source],
        estimates: Sequence[Trial],
    ) -> Iterator[Trial]:
        for identity, places, needs, label in self._sourced(method, backbone, task, sources, estimates):
            recipe = (method.recipe or self.spec.recipe).recipe(method.method, task.plain)
            base, where = self.common(backbone, task, seed)
            labels = self._labels(backbone, task, seed) | {"method": method.shown, "source": label}
            where |= places | {"method": method.method}
            base |= identity
            if self.spec.search is None or not method.search:
                base |= method_identity(method.method, method.depth, method.prompt_length, recipe)
                yield Trial("train", base, where, needs, labels)
            else:
                yield from self._searched(method, recipe, base, where, needs, labels, task, backbone)

    def _sourced(
        self,
        method: MethodSpec,
        backbone: BackboneSpec,
        task: TaskSpec,
        sources: Sequence[Source],
        estimates: Sequence[Trial],
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any], tuple[str, ...], str | None]]:
        """Identity, places, needs and label of each choice of sources that a method is tried with."""
        kind = METHODS[method.method]
        if kind.sources == "none":
            yield {"sources": []}, {"sources": []}, (), None
            return
        fitting = []
        for source in self.allowed(sources, task):
            try:
                kind.fits(self.backbone(backbone), source.layers, source.width, f"prompt {source.name!r}")
                fitting.append(source)
            except CompatibilityError as error:
                self.left_out[f"{method.shown} of {source.name} on {backbone.shown}: {error}"] = None
        if isinstance(method.sources, tuple):
            names = [source.name for source in sources]
            for name in method.sources:
                if name not in names:
                    raise InputError(f"method {method.shown}: there is no source prompt {name!r}. There are {names}.")
            fitting = [source for source in fitting if source.name in method.sources]
        if isinstance(method.sources, SomeSources) and method.sources.modality is not None:
            fitting = [source for source in fitting if source.backbone.modality == method.sources.modality]
        if kind.sources == "several":
            yield from self._together(method, backbone, task, fitting, estimates)
            return
        if method.ranked:
            yield from self._ranked(method.ranked, fitting, estimates)
            return
        for source in fitting:
            places = {"sources": [source.name], "shape": [source.layers, source.length]}
            yield {"sources": [source.reference]}, places, source.needs, source.name

    def _together(
        self,
        method: MethodSpec,
        backbone: BackboneSpec,
        task: TaskSpec,
        fitting: Sequence[Source],
        estimates: Sequence[Trial],
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any], tuple[str, ...], str]]:
        """One choice for a method that takes several: all that fit, of a modality or named, or a ranking's best."""
        asked, ranked = method.sources, method.ranked
        count = min(ranked.top, len(fitting)) if ranked and ranked.top else len(fitting)
        if count < 2:
            self.left_out[f"{method.shown} for {task.shown}: it takes two source prompts or more, got {count}"] = None
            return
        identity: dict[str, Any] = {"sources": [source.reference for source in fitting]}
        names = [source.name for source in fitting]
        where = {"sources": names, "shape": [fitting[0].layers, max(source.length for source in fitting)]}
        weights = self.backbone(backbone).info.weights_sha256
        where["projected"] = sum(source.backbone.weights_sha256 != weights for source in fitting)
        needs = tuple(itertools.chain.from_iterable(source.needs for source in fitting))
        shown = asked.shown if isinstance(asked, SomeSources) else "all" if asked == "all" else " + ".join(names)
        if ranked is None:
            yield identity, where, needs, shown
        elif (estimate := self._estimate(ranked, estimates)) is not None:
            choice = {"top": count, "estimate": estimate.key, "places": _places(estimate, fitting)}
            yield identity | {"choice": choice}, where, (estimate.key, *needs), shown

    @staticmethod
    def _estimate(top: SomeSources, estimates: Sequence[Trial]) -> Trial | None:
        """The ranking to choose by; None where there are too few sources to rank."""
        return next((trial for trial in estimates if trial.labels["estimator"] == top.by), None)

    def _ranked(
        self, top: SomeSources, fitting: Sequence[Source], estimates: Sequence[Trial]
    ) -> Iterator[tuple[dict[str, Any], dict[str, Any], tuple[str, ...], str]]:
        estimate = self._estimate(top, estimates)
        if estimate is None:
            return
        references, names = [s.reference for s in fitting], [s.name for s in fitting]
        places = _places(estimate, fitting)
        of = "" if top.modality is None else f" of {top.modality}"
        needs = (estimate.key, *itertools.chain.from_iterable(source.needs for source in fitting))
        for place in range(1, min(top.top or 0, len(fitting)) + 1):
            choice = {"rank": place, "estimate": estimate.key, "places": places}
            where = {"sources": names, "shape": [fitting[0].layers, max(source.length for source in fitting)]}
            yield {"sources": references, "choice": choice}, where, needs, f"#{place}{of} by {top.by}"

    def _searched(
        self,
        method: MethodSpec,
        recipe: Recipe,
        base: dict[str, Any],
        places: dict[str, Any],
        needs: tuple[str, ...],
        labels: dict[str, Any],
        task: TaskSpec,
        backbone: BackboneSpec,
    ) -> Iterator[Trial]:
        """The settings that a search tries, and the last training with the best of them."""
        search = self.spec.search
        assert search is not None
        # where each seed divides the data anew, another seed's validation split would hold this one's test examples
        seed = labels["seed"] if task.split_seed is None else search.seed
        own = base | self.common(backbone, task, seed)[0]
        tried = labels | {"seed": seed}
        alike = method_identity(method.method, method.depth, method.prompt_length, recipe)
        settings: list[Trial] = []
        over = {
            name: value.model_dump() if not isinstance(value, tuple) else value for name, value in search.over.items()
        }
        if METHODS[method.method].head_only:
            changes: list[dict[str, Any] | None] = [{}]  # the whole grid of the head is one trial
        elif search.sampler == "grid":
            changes = [dict(zip(over, values, strict=True)) for values in itertools.product(*over.values())]
        else:
            changes = [None] * (search.trials or 0)
        for number, change in enumerate(changes):
            how = dict(alike)
            chain: tuple[str, ...] = ()
            if change is None:
                how["tpe"] = {
                    "over": over,
                    "number": number,
                    "epochs": search.epochs,
                    # while the learning rate is high, epochs tell settings apart badly (docs/performance.md)
                    "stop_from": max(recipe.epochs // 2, 1),
                    "seed": search.seed,
                }
                chain = tuple(trial.key for trial in settings)
            else:
                how["setting"] = change
            settings.append(Trial("search", own | how, places, (*needs, *chain), tried))
        yield from settings
        searched = [trial.key for trial in settings]
        yield Trial("final", base | alike | {"searched": searched}, places, (*needs, *searched), labels)


def plan_study(spec: StudySpec) -> Plan:
    """All trials of a study; what was asked for twice is there once.

    Raises:
        InputError: data, a backbone, a library or a prompt that is named cannot be had.
    """
    if spec.facts is not None:
        from promptgraft.study.probing import fact_trials

        told, rest_on = fact_trials(spec, spec.facts)
        return Plan(spec, told, rest_on)
    planner = _Planner(spec)
    tuning, sources = planner.sources()
    trials: dict[str, Trial] = {trial.key: trial for trial in tuning}
    for backbone, task, seed in itertools.product(spec.backbones, spec.targets, spec.seeds):
        estimates = planner.estimates(backbone, task, seed, sources)
        for trial in estimates:
            trials.setdefault(trial.key, trial)
        for method in spec.methods:
            if not method.tried_on(backbone, task):
                continue
            for trial in planner.method(method, backbone, task, seed, sources, estimates):
                trials.setdefault(trial.key, trial)
    return Plan(spec, tuple(trials.values()), tuple(planner.facts.values()), tuple(planner.left_out))


def _places(estimate: Trial, sources: Sequence[Source]) -> list[int]:
    """Where an estimate, which scored others too, has the scores of these sources."""
    return [estimate.identity["sources"].index(source.reference) for source in sources]


def backbone_options(spec: BackboneSpec) -> dict[str, Any]:
    """What `load_backbone` is called with, but for the device."""
    return spec.model_dump(exclude={"label"})


def backbone_identity(backbone: TransformerBackbone) -> dict[str, Any]:
    """All of a frozen model that features depend on; its name and where it came from are not of it."""
    kept = {"weights_sha256", "family", "pool", "position", "image_size"}
    facts = backbone.info.model_dump(mode="json", include=kept, exclude_none=True)
    preparation = {
        key: value for key, value in backbone.info.preprocessing.items() if key != "tokenizer"
    }  # a class name
    return facts | {"preprocessing": preparation, "dtype": str(backbone.dtype).removeprefix("torch.")}


@cache
def method_identity(method: str, layers: str, prompt_length: int, recipe: Recipe) -> dict[str, Any]:
    """All of a method that a result depends on; what a method does not look at is left out."""
    kind = METHODS[method]
    # without defaults, so that a field that a recipe gains changes no key of what was measured without it
    changed = recipe.model_dump(mode="json", exclude_defaults=True)
    identity: dict[str, Any] = {"method": method, "version": kind.version, "recipe": changed}
    if kind.layers:
        identity |= {"layers": layers, "prompt_length": prompt_length}
    return identity
