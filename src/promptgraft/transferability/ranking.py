"""Rank a library's prompts for a task before any of them is tried."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from promptgraft.backbones.base import Backbone
from promptgraft.errors import InputError
from promptgraft.library import PromptLibrary
from promptgraft.prompt import SoftPrompt
from promptgraft.tasks.base import Task
from promptgraft.tasks.embedded import EmbeddedTask
from promptgraft.transferability.base import ESTIMATORS, Estimator, Evidence
from promptgraft.transferability.gather import gather_evidence
from promptgraft.transferability.patches import LIMIT
from promptgraft.transferability.shortlist import BEST, Shortlist, make_shortlist
from promptgraft.transferability.sketch_index import Segment, index_of, segments_of
from promptgraft.transferability.track_record import TrackRecord, track_records

DEFAULT = ("leave-one-out", "gap", "norm", "volume")
"""What agreed best with measured transfer from text to images, the cross-modality paper's gap, and the trivial two."""
QUICK = DEFAULT[1:]
"""Those of them that run the model under no prompt."""


def rank(
    library: PromptLibrary | Sequence[SoftPrompt],
    backbone: Backbone,
    task: Task | EmbeddedTask,
    estimators: Sequence[str] | None = None,
    *,
    seed: int = 0,
    limit: int = LIMIT,
    shortlist: int | None = None,
) -> pd.DataFrame:
    """Score every prompt with every estimator.

    None of the prompts is tuned. Where an estimator compares them with a prompt of the target's own, that one is tuned
    first, on the training split, its best epoch chosen on the validation split. The others look at the training
    split only, and where it has more than 1,000 inputs, at 1,000 of them chosen at random; `leave-one-out`, `h-score`,
    `log-me`, `leep` and `n-leep` run the model on these once under each prompt.

    Args:
        library: the prompts.
        backbone: the frozen model that a prompt would be grafted onto.
        task: the task that a prompt would serve, embedded already or not.
        estimators: names from `ESTIMATORS`; by default those in `DEFAULT`, for a shortlist those in `QUICK`.
        seed: seeds all random draws.
        limit: labelled inputs at most that the model sees under each prompt.
        shortlist: read and score only so many prompts, those whose sketches score best by the first estimator. A
            library keeps the sketches beside its prompts; what has none yet gets one first.

    Returns:
        One row per estimator and prompt, best first within an estimator, with the columns `prompt` (name),
        `estimator`, `score` (larger = transfers better; comparable within an estimator only), `rank` (1 = best; equal
        scores share the better rank) and `seconds` (of the estimator for all prompts; the first one that needs the
        embedded inputs or the target's own prompt bears their making). A prompt that an estimator does not apply to
        has score NaN and ranks last; the table's `attrs["notes"]` says which and why. `attrs["evidence"]` says how far
        to trust each estimator: its `TrackRecord` on the transfers that were measured with this library's prompts,
        None where there are none.

        With a shortlist the scores are the same, of the prompts that were read; ranks are among these, and the first
        estimator's seconds include the choice. `attrs["shortlist"]` says of how many prompts they are (`prompts`) and
        how many of the 10 best by the first estimator to expect among the others (`misses`, an estimate, see
        `Shortlist`). Measured transfers count, too, whose prompts were removed since.

    Raises:
        InputError: there is no prompt, no such estimator, no training input, or the first estimator cannot make a
            shortlist.
    """
    if estimators is None:
        estimators = DEFAULT if shortlist is None else QUICK
    chosen = [ESTIMATORS[name] for name in estimators]
    start, found = time.perf_counter(), None
    if shortlist is None:
        named = _named(library)
        if not named:
            raise InputError("there is no prompt to rank. Add some with `promptgraft library add`.")
        evidence = gather_evidence([prompt for _, prompt in named], backbone, task, seed=seed, limit=limit)
        start = time.perf_counter()
    else:
        target = gather_evidence([], backbone, task, seed=seed)
        found, named = _few(library, chosen[0], target, shortlist)
        evidence = replace(
            gather_evidence([prompt for _, prompt in named], backbone, task, seed=seed, limit=limit),
            embed_patches=lambda: target.patches,
            tune_prompt=lambda: target.target_prompt,
        )
    names = [name for name, _ in named]
    tables, notes = [], []
    for estimator in chosen:
        table = pd.DataFrame({"prompt": names, "estimator": estimator.name, "score": estimator.score(evidence)})
        table["rank"] = table["score"].rank(ascending=False, method="min", na_option="bottom").astype(int)
        table["seconds"], start = time.perf_counter() - start, time.perf_counter()
        tables.append(table.sort_values("rank", kind="stable"))
        missing = table["prompt"][table["score"].isna()]
        if len(missing):
            notes.append(f"{estimator.name} has no score for {', '.join(missing)}: it applies to {estimator.applies}.")
    ranking = pd.concat(tables, ignore_index=True)
    if found is not None:
        misses = found.misses(tables[0].sort_index()["score"].to_numpy())
        total = len(names) + len(found.others)
        ranking.attrs["shortlist"] = {"prompts": total, "misses": misses}
        notes.insert(0, _chosen(estimators, len(names), total, misses))
    ranking.attrs["notes"] = notes
    ranking.attrs["evidence"] = _evidence(library, backbone, task, estimators, shortlist is not None)
    return ranking


def _few(
    library: PromptLibrary | Sequence[SoftPrompt], estimator: Estimator, target: Evidence, size: int
) -> tuple[Shortlist, list[tuple[str, SoftPrompt]]]:
    found = make_shortlist(_segments(library), estimator, target, size)
    if isinstance(library, PromptLibrary):
        return found, [(name, library[name]) for name in found.names]
    prompts = [library[int(name)] for name in found.names]
    return found, [(prompt.card.name, prompt) for prompt in prompts]


def _segments(library: PromptLibrary | Sequence[SoftPrompt]) -> Iterator[Segment]:
    yield from index_of(library)[0].segments if isinstance(library, PromptLibrary) else segments_of(library)


def _chosen(estimators: Sequence[str], size: int, total: int, misses: float) -> str:
    first, *others = estimators
    expected = "fewer than 0.01" if misses < 0.01 else f"{misses:.2g}"
    note = f"{first} chose {size} of {total} prompts by their sketches; of its {BEST} best {expected} are missed"
    cure = " (a longer shortlist misses fewer)" if misses >= 0.1 else ""
    return note + cure + (f". Ranks by {', '.join(others)} are among these {size}." if others else ".")


def _evidence(
    library: PromptLibrary | Sequence[SoftPrompt],
    backbone: Backbone,
    task: Task | EmbeddedTask,
    estimators: Sequence[str],
    large: bool,
) -> dict[str, TrackRecord | None]:
    measured = library.measured() if isinstance(library, PromptLibrary) else []
    if not isinstance(library, PromptLibrary) or not measured:
        return dict.fromkeys(estimators)
    held = {transfer.source_id for transfer in measured} if large else {entry.id for entry in library.find()}
    modality = (task.task if isinstance(task, EmbeddedTask) else task).modality
    known = [transfer for transfer in measured if transfer.source_id in held]
    return track_records(known, estimators, backbone.info.weights_sha256, modality)


def _named(library: PromptLibrary | Sequence[SoftPrompt]) -> list[tuple[str, SoftPrompt]]:
    if isinstance(library, PromptLibrary):
        return [(name, library[name]) for name in library]
    return [(prompt.card.name, prompt) for prompt in library]
