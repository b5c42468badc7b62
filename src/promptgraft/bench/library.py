"""A library of very many prompts: `rank --shortlist` against ranking them all, and what its index costs.

The prompts are made of published ones, each by its number and always alike, so that a million need no folders; the
index and all that works on it are those of a real library. What folders cost is timed on fewer, real ones.
"""

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from promptgraft.bench.base import Row, Size, compare
from promptgraft.bench.estimators import default_folder
from promptgraft.exchange.thunlp import read_rows
from promptgraft.library import PromptLibrary, Stamp, starter
from promptgraft.prompt import CARD_FILE, SoftPrompt
from promptgraft.transferability.base import ESTIMATORS, Evidence
from promptgraft.transferability.shortlist import BEST, make_shortlist
from promptgraft.transferability.sketch_index import FOLDER, SketchIndex, Source, index_of

Rows = NDArray[np.float32]

TEXTS = ("imdb-sentences", "sarcasm", "newsgroups", "vader-tweets", "spam", "boolq", "piqa", "word-sense")


@dataclass(frozen=True)
class _Scale:
    """How much is tried.

    prompts: in the library. read: the shortlist. wider: of the best by sketch, and as many at random, among which the
    truly best are looked for. slice: prompts that the baseline ranks. patches: of a target. folders, listed: real.
    """

    prompts: int
    read: int
    wider: int
    slice: int
    patches: int
    folders: int
    listed: int


_SCALES: dict[Size, _Scale] = {
    "pocket": _Scale(5_000, read=200, wider=400, slice=100, patches=1_000, folders=200, listed=5_000),
    "paper": _Scale(1_000_000, read=200, wider=500, slice=100, patches=2_000, folders=1_000, listed=100_000),
    "smoke": _Scale(100, read=20, wider=30, slice=10, patches=50, folders=2, listed=10),
}


def library(size: Size) -> list[Row]:
    """5,000 prompts of 100 x 768 (paper: 1,000,000; smoke: 100 of 6 x 16), ranked for 3 targets.

    A target's patches are rows of the prompts that are published for one model; paper adds the words of 8 data sets,
    embedded by MPNet. `error` of a ranking is the share of the 10 best prompts that the shortlist misses.
    """
    scale, sources = _SCALES[size], _sources(size)
    made, targets = _Synthetic(sources), _targets(sources, scale) + (_words(scale) if size == "paper" else [])
    with tempfile.TemporaryDirectory() as name:
        index, stamps = SketchIndex(Path(name) / FOLDER), {f"{n:07}": (n, 1, 1) for n in range(scale.prompts)}
        later = scale.prompts // 100
        built = made.index(index, dict(list(stamps.items())[later:]))
        append = made.index(index, stamps)
        rows = [_ranked(estimator, index, stamps, made, targets, scale) for estimator in ("gap", "mean-cosine")]
        note = f"{later} prompts; the rest, in memory, at {(scale.prompts - later) / built:,.0f} a second"
        rows.append(Row("library-append", "a new index", append, built, built / append, 0.0, note, exact=False))
        return [*rows, _indexed(sources[0], Path(name) / "prompts", scale), _listed(Path(name) / "cards", scale)]


def shortlisting(prompts: int) -> Row:
    """The gap's ranking of a library of so many prompts by its index, which is there, against ranking all of them."""
    scale = _Scale(prompts, read=100, wider=100, slice=20, patches=500, folders=0, listed=0)
    sources = _sources("pocket")
    made = _Synthetic(sources)
    with tempfile.TemporaryDirectory() as name:
        index, stamps = SketchIndex(Path(name) / FOLDER), {f"{n:07}": (n, 1, 1) for n in range(prompts)}
        made.index(index, stamps)
        return _ranked("gap", index, stamps, made, _targets(sources, scale)[:1], scale)


class _Synthetic:
    """Prompts by number: two published prompts of one model in a random mixture, at a random scale.

    Every row has noise of its own, and every prompt a direction of its own.
    """

    def __init__(self, sources: Rows) -> None:
        self._models = np.array_split(sources, 3)
        self._noise = np.random.default_rng(0).standard_normal(2**22, np.float32)
        self._seconds = 0.0

    def __call__(self, name: str) -> Source:
        start = time.perf_counter()
        made = self._make(int(name))
        self._seconds += time.perf_counter() - start
        return made

    def rows(self, names: Sequence[str]) -> list[Rows]:
        return [self._make(int(name))[0] for name in names]

    def index(self, index: SketchIndex, stamps: Mapping[str, Stamp]) -> float:
        """Bring an index up to date; the seconds that it takes, without those of making the prompts."""
        start, before = time.perf_counter(), self._seconds
        index.update(stamps, self)
        return time.perf_counter() - start - (self._seconds - before)

    def _make(self, number: int) -> Source:
        rng = np.random.default_rng(number)
        model = self._models[rng.integers(len(self._models))]
        first, second = model[rng.choice(len(model), 2, replace=False)]
        share = np.float32(rng.uniform())
        rows = share * first + (1 - share) * np.roll(second, rng.integers(len(second)), axis=0)
        rows += np.float32(0.1) * rows.std() * (self._drawn(rng, rows.shape) + self._drawn(rng, rows.shape[1:]))
        rows *= np.float32(np.exp(rng.normal(0, 0.5)))
        return rows, float(np.exp(rng.uniform(4, 13)))

    def _drawn(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Rows:
        count = int(np.prod(shape))
        start = rng.integers(len(self._noise) - count)
        drawn: Rows = self._noise[start : start + count].reshape(shape)
        return drawn


def _sources(size: Size) -> Rows:
    """The published prompts of three models, or random ones where they are not at hand."""
    files = sorted(default_folder().glob("*/*.pt"))
    if size != "smoke" and files:
        return np.stack([read_rows(path) for path in files])
    count, length, width = (39, 100, 768) if size != "smoke" else (9, 6, 16)
    rng = np.random.default_rng(2)
    scales = rng.uniform(0.1, 2, (count, 1, 1)).astype(np.float32)
    rows: Rows = scales * rng.standard_normal((count, length, width), np.float32)
    return rows


def _targets(sources: Rows, scale: _Scale) -> list[Evidence]:
    rng = np.random.default_rng(1)
    found: list[Evidence] = []
    for model in np.array_split(sources, 3):
        rows = rng.permutation(model.reshape(-1, model.shape[2]))[: scale.patches]
        found.append(_evidence(rows, model[rng.integers(len(model))], seed=len(found)))
    return found


def _words(scale: _Scale) -> list[Evidence]:
    from promptgraft.backbones.load import load_backbone
    from promptgraft.tasks.load import load_task
    from promptgraft.transferability.patches import embedded_patches

    backbone, found = load_backbone("packs/mpnet-base"), []
    for seed, name in enumerate(TEXTS):
        words = embedded_patches(backbone, load_task(f"builtin/{name}", n_train=400, seed=seed).train.inputs)
        rows = np.random.default_rng(seed).permutation(words)[: scale.patches]
        found.append(_evidence(rows, rows[:20], seed))
    return found


def _evidence(patches: Rows, prompt: Rows, seed: int) -> Evidence:
    return Evidence([], [], lambda: patches, lambda: prompt, lambda rows: np.empty(0, np.float32), seed)


def _ranked(
    name: str,
    index: SketchIndex,
    stamps: Mapping[str, Stamp],
    made: _Synthetic,
    targets: Sequence[Evidence],
    scale: _Scale,
) -> Row:
    estimator, rng = ESTIMATORS[name], np.random.default_rng(3)
    some = made.rows([f"{number:07}" for number in range(scale.slice)])
    width, missed, expected = some[0].shape[1], 0, 0.0

    def scores(target: Evidence, rows: Sequence[Rows]) -> NDArray[np.float64]:
        return estimator.score(replace(target, prompts=rows))

    def shortlisted(target: Evidence) -> None:
        index.update(stamps, made)
        found = make_shortlist(index.segments, estimator, target, scale.read)
        scores(target, made.rows(found.names))

    for target in targets:
        found = make_shortlist(index.segments, estimator, target, scale.read)
        wider = make_shortlist(index.segments, estimator, target, scale.wider).names
        drawn = {f"{number:07}" for number in rng.choice(scale.prompts, scale.wider, replace=False)}
        names = [*wider, *sorted(drawn - set(wider))]
        exact = scores(target, made.rows(names))
        best = {names[place] for place in np.argsort(-exact)[:BEST]}
        missed += len(best - set(found.names))
        expected += found.misses(exact[: scale.read])
    start = time.perf_counter()
    make_shortlist(index.segments, estimator, targets[0], scale.read)
    alone = time.perf_counter() - start
    return compare(
        f"library-{name}",
        "every prompt, exactly",
        lambda: shortlisted(targets[0]),
        lambda: scores(targets[0], some),
        error=missed / (BEST * len(targets)),
        rounds=1 if scale.prompts > 1e5 else 3,
        share=scale.slice / scale.prompts,
        note=f"{scale.read} of {scale.prompts:,}, found in {alone:.2g} s; {len(targets)} x {BEST} best: "
        f"{missed} missed, {expected:.2g} expected",
        operations=0,
        bytes_read=scale.prompts * 2 * width,
        exact=False,
    )


def _indexed(rows: Rows, folder: Path, scale: _Scale) -> Row:
    """Folders of whole prompts."""
    card = next(iter(starter()[name].card for name in starter()))
    shape = {"layers": 1, "length": len(rows), "dim": rows.shape[1]}
    card = card.model_copy(
        update={
            "prompt": card.prompt.model_copy(update=shape | {"dead_rows": ()}),
            "backbone": card.backbone.model_copy(update={"dim": rows.shape[1], "embed_dim": rows.shape[1]}),
        }
    )
    library, names = PromptLibrary(folder), [f"{number:07}" for number in range(scale.folders)]
    for number, name in enumerate(names):
        library.add(SoftPrompt(rows[None] + np.float32(number), card), name)

    def ours() -> None:
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        index_of(library)

    row = compare(
        "library-index",
        "SoftPrompt.load of each",
        ours,
        lambda: [SoftPrompt.load(folder / name) for name in names],
        error=0.0,
        rounds=3,
        operations=0,
        exact=False,
    )
    note = f"{scale.folders} folders, {scale.folders / row.seconds:,.0f} a second; the baseline checks every hash"
    return replace(row, note=note)


def _listed(folder: Path, scale: _Scale) -> Row:
    """Folders of cards alone: what is looked at before every ranking, against a listing that reads each."""
    name = next(iter(starter()))
    for number in range(scale.listed):
        (folder / f"{number:07}").mkdir(parents=True)
        shutil.copyfile(starter().folder / name / CARD_FILE, folder / f"{number:07}" / CARD_FILE)
    return compare(
        "library-folders",
        "find(), no .index.json",
        lambda: PromptLibrary(folder).stamps(),
        lambda: PromptLibrary(folder, read_only=True).find(),
        error=0.0,
        rounds=1 if scale.listed > 10_000 else 3,
        note=f"{scale.listed:,} folders, in the file system's cache",
        operations=0,
        exact=False,
    )
