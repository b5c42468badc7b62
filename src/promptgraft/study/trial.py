"""A trial: the smallest piece of a study that is run, found again and reported, named by what makes its result."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from promptgraft.files import content_key

Kind = Literal["source", "head", "train", "search", "final", "estimate", "facts"]
"""What a trial does.

source: tunes a source prompt. head: the head alone on a source's own task, which the prompt is to beat. train: a
method on a target, the epoch chosen on val, tested once. search: one setting, trained on train and measured on val.
final: the setting that the search chose, trained on train and val together, tested once. estimate: an estimator's
scores of all sources for a target. facts: prompts tuned on one language model to tell facts, and carried to all.
"""

VERSIONS: dict[Kind, int] = {"source": 1, "head": 1, "train": 1, "search": 1, "final": 1, "estimate": 1, "facts": 1}
"""Raised whenever what a kind of trial computes changes: results of an earlier version are then not taken for it."""


@dataclass(frozen=True)
class Trial:
    """One frozen piece of work.

    identity: all that its result depends on: settings, data fingerprint, weights hash, seed, versions of the
        algorithms. Paths and names are not in it.
    places: where to find what `identity` names by its hash: names and paths, which may change.
    needs: keys of the trials whose results it starts from.
    labels: what tables call it: `backbone`, `target`, `method`, `source`, `estimator`, `seed` (None where not its).
    """

    kind: Kind
    identity: dict[str, Any]
    places: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    labels: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """sha256 (hex) over kind, version, identity and the keys of what it needs."""
        return content_key("trial", self.kind, VERSIONS[self.kind], self.identity, self.needs)

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True)
class Outcome:
    """What a trial made.

    result: JSON that the trial's key determines: equal on every run and in every engine.
    measured: what this one run cost and where it ran: seconds, peak memory, device, host, versions.
    artefacts: file name -> content, such as the files of a prompt folder.
    """

    result: dict[str, Any]
    measured: dict[str, Any] = field(default_factory=dict)
    artefacts: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A trial that raised: its last line for a table, the whole traceback for the curious.

    changed: it found data, weights or a prompt to be others than those it was planned with; the study must stop.
    """

    message: str
    traceback: str
    changed: bool = False
