"""Which candidates a run tries: the linear probe, prompts from scratch, transfers of the best-ranked prompts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from promptgraft.card import BackboneInfo, Modality
from promptgraft.ensembles.aligned import fits_own
from promptgraft.library import Entry, PromptLibrary
from promptgraft.prompt import SoftPrompt
from promptgraft.tasks.embedded import EmbeddedTask
from promptgraft.transferability.ranking import DEFAULT, rank
from promptgraft.transferability.track_record import short_form

FROM_SCRATCH: tuple[tuple[str, Literal["shallow", "deep"]], ...] = (
    ("linear", "shallow"),
    ("vpt", "deep"),  # deep prompts are cheaper to train than shallow ones, so they come first where time is short
    ("spt", "deep"),
    ("vpt", "shallow"),
)
LOOKED_AT = 250
"""Training examples at most that the model sees under each prompt of the library, to rank it."""
TOGETHER = 3
"""Prompts in an ensemble; a run that may try fewer tries none."""
ENSEMBLES = {"average": 1, "hgprompt": 1 + 4 * TOGETHER}
"""Methods that take them together, and how many passes over the data each takes to start: HGPrompt a forward pass for
features under each prompt, and one forward and back, three in all, for gradients."""


@dataclass(frozen=True)
class Plan:
    """One candidate to be: a method, the depth of a new prompt, and source prompts with their names in the library.

    passes: over the training and validation examples that its start takes.
    """

    method: str
    layers: Literal["shallow", "deep"]
    sources: tuple[SoftPrompt, ...] = ()
    names: tuple[str, ...] = ()
    passes: int = 1

    @property
    def source_name(self) -> str | None:
        """What tables call the source; None where there is none."""
        return f"{len(self.names)} prompts" if len(self.names) > 1 else next(iter(self.names), None)


@dataclass(frozen=True)
class LeftOut:
    """A plan that did not come to a start: it `failed`, or was `stopped early` by the time budget."""

    plan: Plan
    status: Literal["failed", "stopped early"]
    reason: str


@dataclass(frozen=True)
class Ranking:
    """The library seen from one task.

    table: as `rank` gives it. order: the estimator that orders the prompts. fitting: those that some method can take,
    best first.
    """

    table: pd.DataFrame
    order: str
    fitting: tuple[str, ...]

    @property
    def evidence(self) -> str | None:
        """How far to trust the estimator that orders the prompts, in half a line; None where nothing is measured."""
        record = self.table.attrs["evidence"][self.order]
        return None if record is None else short_form(self.order, record)

    def rows(self) -> list[dict[str, Any]]:
        """The table as JSON can hold it: a missing score is None."""
        return [
            {
                **{str(key): value for key, value in row.items()},
                "score": row["score"] if math.isfinite(row["score"]) else None,
            }
            for row in self.table.to_dict("records")
        ]


def bridging_method(entry: Entry, info: BackboneInfo, modality: Modality) -> str | None:
    """The transfer that fits a prompt to a backbone, None if there is none.

    A prompt of the same modality and shape starts the target's (`initial`); a shallow prompt of another modality or
    width is projected, as in the cross-modality paper.
    """
    width = info.embed_dim if entry.layers == 1 else info.dim
    if entry.modality == modality and entry.dim == width and entry.layers in (1, info.depth):
        return "initial"
    return "projection" if entry.layers == 1 else None


def rank_library(
    library: PromptLibrary, data: EmbeddedTask, seed: int, estimators: Sequence[str] = DEFAULT
) -> Ranking | None:
    """Rank a library's prompts for a task, by the first estimator; None where it holds no prompt that fits."""
    entries = {entry.name: entry for entry in library.find()}
    info, modality = data.backbone.info, data.task.modality
    fits = {name for name, entry in entries.items() if bridging_method(entry, info, modality)}
    if not fits:
        return None
    table = rank(library, data.backbone, data, estimators, seed=seed, limit=LOOKED_AT)
    first = table[table["estimator"] == estimators[0]].sort_values("rank", kind="stable")
    fitting = tuple(name for name in first["prompt"] if name in fits)
    return Ranking(table, estimators[0], fitting)


def plan_candidates(library: PromptLibrary, ranking: Ranking | None, data: EmbeddedTask, top: int) -> list[Plan]:
    """The linear probe, every method from scratch, the `top` best-ranked prompts by the method that fits each.

    Where `top` and the library allow it, the best-ranked prompts that go together are tried together, too.
    """
    plans = [Plan(method, layers) for method, layers in FROM_SCRATCH]
    entries = {entry.name: entry for entry in library.find()}
    for name in () if ranking is None else ranking.fitting[:top]:
        method = bridging_method(entries[name], data.backbone.info, data.task.modality)
        assert method is not None
        plans.append(Plan(method, "shallow" if entries[name].layers == 1 else "deep", (library[name],), (name,)))
    together = () if ranking is None or top < TOGETHER else _together(library, ranking, data)
    if len(together) == TOGETHER:
        sources = tuple(library[name] for name in together)
        plans += [Plan(method, "shallow", sources, together, passes) for method, passes in ENSEMBLES.items()]
    return plans


def _together(library: PromptLibrary, ranking: Ranking, data: EmbeddedTask) -> tuple[str, ...]:
    """Best-ranked prompts for an ensemble, or fewer: as long as the first of them, none to be projected beforehand.

    A projection is as dear as a candidate of its own, so that only prompts of this very backbone count.
    """
    found: list[str] = []
    lengths: set[int] = set()
    for name in ranking.fitting:
        prompt = library[name]
        length = prompt.card.prompt.length - len(prompt.card.prompt.dead_rows)
        if fits_own(data.backbone, prompt) and (lengths or {length}) == {length}:
            found.append(name)
            lengths.add(length)
        if len(found) == TOGETHER:
            break
    return tuple(found)
