"""What a study asks for: the content of `study.yaml` as frozen values, equal whether they come from YAML or Python."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from promptgraft.card import Modality, Pool, Section
from promptgraft.probing.comparison import Way, carries, checked_ways
from promptgraft.probing.tuning import FactRecipe
from promptgraft.registry import did_you_mean
from promptgraft.transferability.base import ESTIMATORS
from promptgraft.tuning.method import METHODS
from promptgraft.tuning.recipes import Recipe, resolve_recipe

Layers = Literal["shallow", "deep"]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Short(Section):
    """A section that may be written as one word, which stands for its first field."""

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        return {next(iter(cls.model_fields)): value} if isinstance(value, str) else value


class BackboneSpec(_Short):
    """A frozen model as `load_backbone` takes it. `label`: what tables call it; its name if None."""

    name: Name
    image_size: Count | None = None
    max_length: Annotated[int, Field(ge=3)] = 128
    pool: Pool | None = None
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"
    revision: str | None = None
    label: Name | None = None

    @property
    def shown(self) -> str:
        """What tables call it."""
        return self.label or self.name.rsplit("/", 1)[-1]

    @property
    def pinned(self) -> str:
        """Its name, with the revision where one is given."""
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


class TaskSpec(_Short):
    """Labelled data as `load_task` takes it.

    split_seed: of the division of the data; None divides anew with each of the study's seeds.
    """

    task: Name
    n_train: Count | None = None
    n_val: Annotated[int, Field(ge=0)] | None = None
    n_test: Annotated[int, Field(ge=0)] | None = None
    split_seed: Seed | None = None
    label: Name | None = None

    @property
    def shown(self) -> str:
        """What tables call it."""
        return self.label or self.task.rstrip("/").rsplit("/", 1)[-1]

    @property
    def plain(self) -> str:
        """The task's own name: of the built-in task, the folder or the file."""
        return self.task.removeprefix("builtin/") if self.task.startswith("builtin/") else Path(self.task).stem


def _exactly(name: str, changes: dict[str, Any], method: str | None = None, task: str | None = None) -> Recipe:
    """The recipe with its changes, refusing those that it would take for something else, such as "3" for 3."""
    recipe = resolve_recipe(name, method=method, task=task, **changes)
    for field, given in changes.items():
        taken = getattr(recipe, field)
        given = tuple(given) if isinstance(given, list) else given
        if taken != given or isinstance(taken, bool) != isinstance(given, bool):
            raise ValueError(f"recipe: {field}: must be a value like {taken!r}, got {given!r}")
    return recipe


class RecipeSpec(_Short):
    """A recipe by name, and the fields that differ from it.

    In YAML a word (`recipe: short`), or a mapping of `name` and any field of a recipe
    (`recipe: {name: short, epochs: 3}`).
    """

    name: str = "short"
    changes: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        if isinstance(value, dict) and "changes" not in value:
            fields = {key: given for key, given in value.items() if key != "name"}
            return {"name": value.get("name", "short"), "changes": fields}
        return value

    @model_validator(mode="after")
    def _resolves(self) -> "RecipeSpec":
        self.recipe("vpt", None)
        return self

    def recipe(self, method: str, task: str | None) -> Recipe:
        """The recipe of a method on a task, by the plain name of the latter."""
        known = list(Recipe.model_fields)
        if unknown := [field for field in self.changes if field not in known]:
            raise ValueError(f"a recipe has no {unknown[0]!r}.{did_you_mean(unknown[0], known)}")
        return _exactly(self.name, self.changes, method, task)


class SomeSources(Section):
    """A choice of sources: those tuned on backbones of a `modality`, the best-ranked of each target, or both.

    top: how many of the best. by: the estimator that ranks them.
    """

    top: Count | None = None
    by: Name | None = None
    modality: Modality | None = None

    @model_validator(mode="after")
    def _says_which(self) -> "SomeSources":
        if (self.top is None) != (self.by is None):
            raise ValueError("`top` and `by` belong together: the best sources, by an estimator")
        if self.top is None and self.modality is None:
            raise ValueError("name a `modality`, or `top` and `by`")
        return self

    @property
    def shown(self) -> str:
        """What tables call the choice, such as `top 3 of text by gap`."""
        which = "all" if self.top is None else f"top {self.top}"
        of = "" if self.modality is None else f" of {self.modality}"
        return which + of + ("" if self.by is None else f" by {self.by}")


class MethodSpec(_Short):
    """One row of the table: a method with its settings.

    layers: of a new prompt; None takes `deep` where the method has it. sources: which source prompts it is tried with,
    for methods that take some: `all`, names, the best-ranked, or those of a modality; one after another, or together
    by a method that takes several. recipe: instead of the study's. search: whether the study's search chooses its
    settings. backbones, targets: the names of those that it is tried on; None for all.
    """

    method: str
    layers: Layers | None = None
    prompt_length: Count = 10
    sources: Literal["all"] | tuple[Name, ...] | SomeSources = "all"
    recipe: RecipeSpec | None = None
    search: bool = True
    backbones: tuple[Name, ...] | None = None
    targets: tuple[Name, ...] | None = None
    label: Name | None = None

    @model_validator(mode="after")
    def _known(self) -> "MethodSpec":
        known = METHODS[self.method].layers
        if known and self.depth not in known:
            raise ValueError(f"method {self.method!r} has no {self.layers} prompt; its layers are {', '.join(known)}")
        return self

    @property
    def depth(self) -> Layers:
        """Layers of a new prompt; of no meaning where the method makes none."""
        return METHODS[self.method].depth(self.layers)

    @property
    def ranked(self) -> SomeSources | None:
        """The choice of the best-ranked sources, if it is one."""
        return self.sources if isinstance(self.sources, SomeSources) and self.sources.top else None

    def tried_on(self, backbone: BackboneSpec, target: TaskSpec) -> bool:
        """Whether the method is to be tried there."""
        here = self.backbones is None or backbone.shown in self.backbones
        return here and (self.targets is None or target.shown in self.targets)

    @property
    def shown(self) -> str:
        """What tables call it."""
        if self.label:
            return self.label
        return f"{self.method} {self.depth}" if len(METHODS[self.method].layers) > 1 else self.method


class TunedSources(Section):
    """Source prompts that the study tunes itself: one for each task."""

    backbone: BackboneSpec
    tasks: Annotated[tuple[TaskSpec, ...], Field(min_length=1)]
    method: str = "vpt"
    layers: Layers = "shallow"
    prompt_length: Count = 10
    recipe: RecipeSpec = RecipeSpec()
    seed: Seed = 0

    @model_validator(mode="after")
    def _known(self) -> "TunedSources":
        if self.layers not in METHODS[self.method].layers or METHODS[self.method].edits:
            raise ValueError(f"method {self.method!r} makes no {self.layers} prompt of its own; 'vpt' and 'spt' do")
        return self


class SourcesSpec(Section):
    """Prompts to transfer: those of a library, those that the study tunes, or both.

    library: "starter", "user" or a folder. prompts: names in it; None takes all. same_task: whether a target may take
    a prompt that was tuned on the target's own task.
    """

    library: Name | None = None
    prompts: tuple[Name, ...] | None = None
    tune: tuple[TunedSources, ...] = ()
    same_task: bool = False

    @model_validator(mode="after")
    def _any(self) -> "SourcesSpec":
        if self.library is None and not self.tune:
            raise ValueError("name a library, or tasks to tune prompts on")
        if self.prompts is not None and self.library is None:
            raise ValueError("prompts are names in a library: name the library too")
        return self


class Span(Section):
    """A range that Optuna's sampler draws from, on a logarithmic scale if `log`."""

    low: float
    high: float
    log: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> "Span":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"must be 0 < low < high where log is true, else low < high; got {self.low}, {self.high}")
        return self


class SearchSpec(Section):
    """How the recipe's fields are chosen on the validation split before the last training on train and val together.

    grid: every combination of `over`, as the papers have it. tpe: Optuna's sampler draws `trials` settings one after
    another, each stopped where it is behind the median of the earlier ones after half of its epochs or more; none is
    begun after `epochs` in all. over: field of a recipe -> values, or a range (tpe only). seed: of the search, where
    the targets have a `split_seed`; where each of the study's seeds divides the data anew, each has a search of its
    own.
    """

    sampler: Literal["grid", "tpe"] = "grid"
    over: Annotated[dict[str, tuple[Any, ...] | Span], Field(min_length=1)]
    trials: Count | None = None
    epochs: Count | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _whole(self) -> "SearchSpec":
        for field, values in self.over.items():
            if field not in Recipe.model_fields:
                raise ValueError(f"a recipe has no {field!r}.{did_you_mean(field, list(Recipe.model_fields))}")
            if isinstance(values, Span):
                if self.sampler == "grid":
                    raise ValueError(f"{field}: a grid takes a list of values, not a range")
                if field not in ("lr", "head_lr", "weight_decay", "warmup", "label_smoothing"):
                    raise ValueError(f"{field}: takes a list of values, not a range")
            elif not values:
                raise ValueError(f"{field}: takes at least one value")
            ends = (values.low, values.high) if isinstance(values, Span) else values
            for value in ends:
                _exactly("short", {field: value})
        if self.sampler == "tpe" and self.trials is None:
            raise ValueError("tpe needs `trials`, the number of settings that it may draw")
        if self.sampler == "grid" and (self.trials is not None or self.epochs is not None):
            raise ValueError("`trials` and `epochs` belong to sampler tpe; a grid tries every combination")
        return self


class WaySpec(_Short):
    """One way to prompt a model for facts: a method of `promptgraft facts`, its options, and what tables call it."""

    method: str
    options: dict[str, Any] = Field(default_factory=dict)
    label: Name | None = None

    @model_validator(mode="after")
    def _known(self) -> "WaySpec":
        checked_ways([self.way])
        return self

    @property
    def way(self) -> Way:
        """As `compare_facts` takes it."""
        return Way(self.method, self.options, self.label)


class FactsSpec(Section):
    """Makes the study one of facts: its targets are sets of facts, and its backbones language models that tell them.

    methods: the ways to prompt each backbone. sources: names of the backbones that prompts are tuned on and carried
    from, to all; a list of several in one place is carried together (eq. 7); None for each alone. limit: facts of a
    relation in each split. recipe: of the tuning. other_lengths: further prompt lengths, at which the prompts of each
    single source are tuned and carried by the first method that carries.
    """

    methods: Annotated[tuple[WaySpec, ...], Field(min_length=1)]
    sources: tuple[Name | Annotated[tuple[Name, ...], Field(min_length=2)], ...] | None = None
    limit: Count | None = None
    recipe: FactRecipe = FactRecipe()
    other_lengths: tuple[Count, ...] = ()


def _estimator(name: str) -> str:
    ESTIMATORS[name]
    return name


class StudySpec(Section):
    """A whole study.

    The first method is the one that the others are compared to in the report. threads: of each trial on a CPU; sums
    are ordered by it, so equal threads give equal bits in every engine.
    """

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    description: str = ""
    backbones: Annotated[tuple[BackboneSpec, ...], Field(min_length=1)]
    targets: Annotated[tuple[TaskSpec, ...], Field(min_length=1)]
    methods: tuple[MethodSpec, ...] = ()
    sources: SourcesSpec | None = None
    estimators: tuple[Annotated[Name, AfterValidator(_estimator)], ...] = ()
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    recipe: RecipeSpec = RecipeSpec()
    search: SearchSpec | None = None
    facts: FactsSpec | None = None
    threads: Count = 1

    @model_validator(mode="after")
    def _consistent(self) -> "StudySpec":
        for what, names in self._names():
            double = sorted(name for name, times in Counter(names).items() if times > 1)
            if double:
                cure = "leave one out" if what in ("estimator", "seed") else "give one of them another `label`"
                raise ValueError(f"{what} {double[0]!r} stands there twice; {cure}")
        needy = [m.shown for m in self.methods if METHODS[m.method].sources != "none"]
        if self.sources is None and (needy or self.estimators):
            who = f"method {needy[0]!r}" if needy else f"estimator {self.estimators[0]!r}"
            raise ValueError(f"{who} needs source prompts: add `sources`")
        if self.facts is not None:
            self._only_facts(self.facts)
        elif not self.methods and not self.estimators:
            raise ValueError("a study needs methods or estimators")
        for method in self.methods:
            for what, asked, there in (
                ("backbone", method.backbones, [backbone.shown for backbone in self.backbones]),
                ("target", method.targets, [target.shown for target in self.targets]),
            ):
                if lost := [name for name in asked or () if name not in there]:
                    near = did_you_mean(lost[0], there)
                    raise ValueError(f"method {method.shown!r}: the study has no {what} {lost[0]!r}.{near}")
            by = method.ranked.by if method.ranked else None
            if by is not None and by not in self.estimators:
                raise ValueError(f"method {method.shown!r} takes sources by {by!r}: add it to estimators")
        return self

    def _only_facts(self, facts: FactsSpec) -> None:
        if beside := [name for name in ("methods", "sources", "estimators", "search") if getattr(self, name)]:
            raise ValueError(f"a study of facts has its methods and sources in `facts`: leave `{beside[0]}` out")
        if plain := [task.shown for task in self.targets if task != TaskSpec(task=task.task, label=task.label)]:
            raise ValueError(f"target {plain[0]!r}: a set of facts has no sizes; `limit` in `facts` keeps it small")
        there = [backbone.shown for backbone in self.backbones]
        named = [(each,) if isinstance(each, str) else each for each in facts.sources or ()]
        if lost := [name for name in itertools.chain(*named) if name not in there]:
            near = did_you_mean(lost[0], there)
            raise ValueError(f"facts: the study has no backbone {lost[0]!r} to tune prompts on.{near}")
        together = any(len(group) > 1 for group in named)
        if together and not any(carries(each.way.method, 2) for each in facts.methods):
            raise ValueError("facts: only `relative` carries prompts of several sources together: add it to `methods`")

    def _names(self) -> Iterator[tuple[str, Sequence[Any]]]:
        yield "backbone", [backbone.shown for backbone in self.backbones]
        yield "target", [target.shown for target in self.targets]
        yield "method", [method.shown for method in self.methods]
        yield "estimator", self.estimators
        if self.facts is not None:
            yield "method", [each.way.shown for each in self.facts.methods]
        yield "seed", self.seeds
