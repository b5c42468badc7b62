"""What stopping early loses: races of `adapt` replayed on the learning curves of studies that trained every candidate.

A race changes nothing of what its candidates do, only how long they do it, so a study that ran all of them to the end
holds every race. For each target and seed the candidates that were trained race by `promptgraft.adapt.halving.race`
itself, and what wins is held against the winner of them all trained to the end. `--field N` draws 60 fields of N
candidates from those of a target, as `adapt` has about eight; `--prompts` leaves out methods that change the model,
which `adapt` does not try: they all start where the linear probe stands, so that the first rung tells nothing of them.

    python benchmarks/race.py studies/ensembles
    python benchmarks/race.py studies/cross-modality --field 8
    python benchmarks/race.py studies/self-prompt --prompts

Targets of which a trial is missing are left out.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from promptgraft.adapt.halving import Clock, race
from promptgraft.intervals import paired_difference
from promptgraft.study.folder import open_started
from promptgraft.study.kinds import unpack_answers
from promptgraft.tuning.candidate import Candidate
from promptgraft.tuning.method import METHODS
from promptgraft.tuning.recipes import RECIPES, Recipe

DRAWN = 60
"""Fields of a target with `--field`."""
SMALLEST = 4
"""Candidates of a case at least: of fewer, less than a fifth of the epochs cannot be left."""


@dataclass
class Recorded:
    """A candidate that was trained before: what `race` sees of it comes from its curve.

    curve: of each epoch from the start, its number, training loss, selection loss in nats, selection accuracy.
    answers: right or wrong on the test examples, when it was trained to the end.
    """

    curve: Sequence[Sequence[float]]
    parameters: int
    answers: NDArray[np.bool_]
    epoch: int = 0
    status: str = "running"
    epoch_seconds: float = 0.0

    def loss(self, until: int) -> float:
        """The lowest selection loss until an epoch."""
        return min(line[2] for line in self.curve[: until + 1])

    def advance(self, until: int) -> None:
        """Go on to an epoch."""
        self.epoch = until
        if self.epoch == len(self.curve) - 1:
            self.status = "finished"

    def stop(self, status: str, reason: str) -> None:
        """Stay where it is."""
        self.status = status

    def standing(self) -> tuple[float, int, float]:
        """What the winner has most of: accuracy of the best epoch so far, then few parameters, then a low loss."""
        accuracy, minus_loss = max((line[3], -line[2]) for line in self.curve[: self.epoch + 1])
        return accuracy, -self.parameters, minus_loss


@dataclass(frozen=True)
class Replay:
    """One race: the winner's accuracies less those of the winner without a race, in points, and the share of epochs.

    same: whether both are one. worse, better: whether the test examples tell them apart, by the 95 % interval of the
    paired difference.
    """

    same: bool
    validation: float
    test: float
    worse: bool
    better: bool
    share: float


def replay(candidates: Sequence[Recorded], recipe: Recipe) -> Replay:
    """Race candidates, and let all of them train to the end."""
    raced, ended = (
        [Recorded(c.curve, c.parameters, c.answers, epoch) for c in candidates] for epoch in (0, recipe.epochs)
    )
    race(cast(Sequence[Candidate], raced), recipe, Clock(None), lambda candidate: None)
    winner, best = max(raced, key=Recorded.standing), max(ended, key=Recorded.standing)
    test = paired_difference(winner.answers, best.answers)
    return Replay(
        same=winner.curve is best.curve,
        validation=100 * (winner.standing()[0] - best.standing()[0]),
        test=100 * test.value,
        worse=test.high < 0,
        better=test.low > 0,
        share=sum(candidate.epoch for candidate in raced) / sum(candidate.epoch for candidate in ended),
    )


def cases(folder: Path, prompts: bool) -> Iterator[tuple[str, list[Recorded]]]:
    """Targets of a study that is done with them, and the candidates, or prompts alone, that were trained there."""
    store = open_started(folder)
    records = [record for record in store.records() if record.kind == "train"]
    store.close()
    if prompts:
        records = [record for record in records if not METHODS[record.labels["method"].split()[0]].edits]
    keys = dict.fromkeys(tuple(record.labels[name] for name in ("backbone", "target", "seed")) for record in records)
    for backbone, target, seed in keys:
        wanted = {"backbone": backbone, "target": target, "seed": seed}.items()
        own = [record for record in records if wanted <= record.labels.items()]
        if any(record.state != "done" for record in own):
            continue
        found = [_recorded(record.result) for record in own if record.result and len(record.result["curve"]) > 1]
        if len(found) >= SMALLEST:
            yield target if seed == 0 else f"{target}, seed {seed}", found


def _recorded(result: Mapping[str, Any]) -> Recorded:
    return Recorded(result["curve"], result["parameters"], unpack_answers(result["test_correct"], result["test_n"]))


def table(folders: Sequence[Path], field: int | None = None, prompts: bool = False) -> list[str]:
    """Lines of a Markdown table, one for each case, and the means."""
    lines = [
        "| case | candidates | races | epochs | same winner | validation | test | worse | better |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    rng, every = np.random.default_rng(0), []
    for folder in folders:
        for name, candidates in cases(folder, prompts):
            epochs = len(candidates[0].curve) - 1
            recipe = RECIPES["short"].model_copy(update={"epochs": epochs})
            fields = [candidates]
            if field is not None:
                drawn = (rng.choice(len(candidates), field, replace=False) for _ in range(DRAWN))
                fields = [[candidates[place] for place in places] for places in drawn]
            races = [replay(chosen, recipe) for chosen in fields]
            every += races
            lines.append(_line(name, len(fields[0]), races))
    return [*lines, _line("all", "", every)]


def _line(name: str, candidates: int | str, races: Sequence[Replay]) -> str:
    same, worse, better = (sum(getattr(one, what) for one in races) for what in ("same", "worse", "better"))
    validation, test, share = (
        np.mean([getattr(one, what) for one in races]) for what in ("validation", "test", "share")
    )
    cells = [name, str(candidates), str(len(races)), f"{share:.1%}", str(same), f"{validation:+.1f}", f"{test:+.1f}"]
    return f"| {' | '.join([*cells, str(worse), str(better)])} |"


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path, help="folders of studies")
    parser.add_argument("--field", type=int, help="candidates in a race; all by default")
    parser.add_argument("--prompts", action="store_true", help="leave out methods that change the model")
    arguments = parser.parse_args()
    print("\n".join(table(arguments.studies, arguments.field, arguments.prompts)))


if __name__ == "__main__":
    main()
