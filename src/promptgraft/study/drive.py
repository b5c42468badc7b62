"""The driver: hands trials that are ready to an engine, and writes what comes back into the store."""

import heapq
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from time import sleep
from typing import Any

from promptgraft.errors import InputError, TrainingError
from promptgraft.files import path_text
from promptgraft.library import find_prompt
from promptgraft.progress import progress_bar
from promptgraft.study.artefacts import (
    check_writable,
    hash_artefacts,
    place_artefacts,
    read_artefacts,
    write_artefacts,
)
from promptgraft.study.engines.base import Engine
from promptgraft.study.plan import Plan
from promptgraft.study.status import words
from promptgraft.study.store import Store
from promptgraft.study.tracking import Mirror
from promptgraft.study.trial import Failure, Outcome, Trial
from promptgraft.study.work import BACK, Worker, pack_prompt

POLL = 1.0
"""Seconds between looks at trials that another driver runs."""


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    total: trials of the study. done: those that this driver finished. failed: those that failed, now or before.
    blocked: those that wait for a failed one.
    """

    total: int
    done: int
    failed: int
    blocked: int


def run_study(plan: Plan, store: Store, engine: Engine, mirrors: tuple[Mirror, ...] = ()) -> Summary:
    """Run what is missing of a study; what was stopped goes on, what another driver runs is left to it.

    Args:
        plan: the study's trials.
        store: where their results go.
        engine: where they run.
        mirrors: shown every new result.

    Raises:
        InputError: the folder or the store cannot be written; data, weights or prompts have changed since the study
            began (names what changed).
    """
    check_writable(store.folder)
    store.register(plan.spec.model_dump(mode="json"), plan.trials, plan.facts)
    driver = _Driver(plan, store, mirrors)
    driver.check_artefacts()
    with store.driving():
        return driver.run(engine)


class _Driver:
    def __init__(self, plan: Plan, store: Store, mirrors: tuple[Mirror, ...]) -> None:
        self.store, self.mirrors = store, mirrors
        self.trials = {trial.key: trial for trial in plan.trials}
        self.states: dict[str, str] = {}
        self.position = {trial.key: position for position, trial in enumerate(plan.trials)}
        self.users: dict[str, list[str]] = {}
        for trial in plan.trials:
            for need in trial.needs:
                self.users.setdefault(need, []).append(trial.key)
        self.under_way: set[str] = set()
        self.done = 0
        self.library_prompts: dict[str, dict[str, bytes]] = {}

    def check_artefacts(self) -> None:
        """Trials whose files were lost or altered are run again."""
        self._again_if_damaged({r.key: r.artefacts or {} for r in self.store.records(state="done", curves=False)})

    def _again_if_damaged(self, artefacts: Mapping[str, Mapping[str, str]]) -> None:
        damaged = [key for key, files in artefacts.items() if read_artefacts(self.store.folder, files) is None]
        self.store.redo(damaged, "done")
        self._look()

    def _look(self) -> None:
        """See what other drivers have done; theirs may be another plan of this study by now."""
        self.states = self.store.states(list(self.trials))

    def run(self, engine: Engine) -> Summary:
        missing = sum(state != "done" for state in self.states.values())
        with progress_bar("trials", len(self.trials), "trial") as bar:
            bar.advance(len(self.trials) - missing)
            with engine:
                self._find_ready()
                while True:
                    self._fill(engine)
                    if self.under_way:
                        for trial, outcome in engine.wait():
                            self._take(trial, outcome)
                            bar.note(words(trial.labels))
                            bar.advance()
                    elif not self._others_go_on():
                        break
        states = list(self.states.values())
        return Summary(len(states), self.done, states.count("failed"), states.count("pending"))

    def _find_ready(self) -> None:
        """Trials that may start, as a heap by their place in the plan: neighbours share data and models."""
        self.ready = [
            (self.position[key], key)
            for key, state in self.states.items()
            if state in ("pending", "running") and self._can(key)
        ]
        heapq.heapify(self.ready)

    def _can(self, key: str) -> bool:
        return all(self.states.get(need) == "done" for need in self.trials[key].needs)

    def _fill(self, engine: Engine) -> None:
        """Claim trials and hand them out while there is room."""
        while len(self.under_way) < engine.slots and self.ready:
            _, key = heapq.heappop(self.ready)
            trial = self.trials[key]
            if key in self.under_way or not self._can(key):
                continue  # what it needs was damaged and is made again: it comes anew after that
            if self.store.claim([key]) is None:
                continue  # another driver has it
            inputs = self.inputs(trial)
            if inputs is None:
                self.store.release([key])
                self._make_again(trial)
                continue
            self.states[key] = "running"
            self.under_way.add(key)
            engine.submit(trial, inputs)

    def inputs(self, trial: Trial) -> Mapping[str, Outcome] | None:
        """What a trial needs, by key or prompt id; None where a result is missing or a file of it is damaged."""
        inputs = {}
        made = self.store.outcomes(trial.needs)
        for need in trial.needs:
            files = read_artefacts(self.store.folder, made[need][1]) if need in made else None
            if files is None:
                return None
            inputs[need] = Outcome(made[need][0], artefacts=files)
        for reference, name in zip(trial.identity.get("sources", ()), trial.places.get("sources", ()), strict=False):
            if "prompt" in reference:
                inputs[reference["prompt"]] = Outcome({}, artefacts=self._library_prompt(trial, name, reference))
        return inputs

    def _make_again(self, trial: Trial) -> None:
        """What a trial needs and is damaged is made again first."""
        self._again_if_damaged({key: artefacts for key, (_, artefacts) in self.store.outcomes(trial.needs).items()})
        for need in trial.needs:
            if self.states[need] == "pending":
                heapq.heappush(self.ready, (self.position[need], need))

    def _library_prompt(self, trial: Trial, name: str, reference: Mapping[str, str]) -> dict[str, bytes]:
        wanted = reference["prompt"]
        if wanted not in self.library_prompts:
            prompt = find_prompt(name, trial.places["library"])
            if prompt.id != wanted:
                raise InputError(f"prompt {name} changed since the study was planned. {BACK}")
            self.library_prompts[wanted] = pack_prompt(prompt)
        return self.library_prompts[wanted]

    def _take(self, trial: Trial, outcome: Outcome | Failure) -> None:
        """Write what a trial made, and start what waited for it."""
        key = trial.key
        self.under_way.discard(key)
        if isinstance(outcome, Failure):
            if outcome.changed:
                raise InputError(outcome.message)
            if self.store.fail(key, outcome):
                self.states[key] = "failed"
            return
        files = place_artefacts(trial, outcome.artefacts)
        write = partial(write_artefacts, self.store.folder, files)
        if not self.store.finish(key, outcome, hash_artefacts(files), write):
            return  # another driver has taken it over
        self.done += 1
        self.states[key] = "done"
        for mirror in self.mirrors:
            try:
                mirror(trial, outcome)
            except Exception as error:  # the store has the result; a server that is down stops no study
                warnings.warn(f"a tracker missed a result: {(str(error).splitlines() or [''])[0]}", stacklevel=2)
        for user in self.users.get(key, ()):
            if self.states[user] == "pending" and self._can(user):
                heapq.heappush(self.ready, (self.position[user], user))

    def _others_go_on(self) -> bool:
        """Look at what other drivers have done, and wait for what they run; False where nothing may come any more."""
        self._look()
        self._find_ready()
        if self.ready and all(self.states[key] == "running" for _, key in self.ready) and not self.store.orphans():
            warnings.warn(
                "all that is left is run by other drivers: waiting for them. If they are gone, "
                f"`promptgraft study retry {path_text(self.store.folder)} --running` frees their trials.",
                stacklevel=2,
            )
            sleep(POLL)
        return bool(self.ready)


def run_again(plan: Plan, store: Store, key: str, device: str) -> tuple[Mapping[str, Any] | None, Outcome]:
    """Run one trial that may be done already, and change nothing in the store.

    Args:
        plan: the study's trials.
        store: of the study.
        key: of the trial, or the first digits of it.
        device: where to run it.

    Returns:
        the stored result (None if there is none), and what it made now.

    Raises:
        InputError: there is no such trial, or one that it needs is not done.
        TrainingError: it failed.
    """
    record = store.record(key)
    driver = _Driver(plan, store, ())
    if record.key not in driver.trials:
        raise InputError(f"study.yaml has changed: trial {key} is not part of it any more. Plan and run it anew.")
    trial = driver.trials[record.key]
    inputs = driver.inputs(trial)
    if inputs is None:
        raise InputError(f"trial {key} needs others that are not done. Resume the study first.")
    outcome = Worker(threads=plan.spec.threads, device=device).run(trial, inputs)
    if isinstance(outcome, Failure):
        raise TrainingError(f"trial {key} failed: {outcome.message}")
    return record.result, outcome
