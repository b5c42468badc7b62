"""Successive halving on candidates whose learning curves are written down."""

import contextlib
import math
from itertools import pairwise

import pytest

from promptgraft.adapt import halving
from promptgraft.adapt.halving import Clock, race, rungs, steps
from promptgraft.errors import TrainingError


class Fake:
    """A candidate that reaches `curve[epoch - 1]` after an epoch; NaN diverges."""

    def __init__(self, *curve: float, seconds: float = 1.0, epoch: int = 0) -> None:
        self.curve, self.seconds, self.epoch = curve, seconds, epoch
        self.status, self.reason, self.trained = "running", None, 0

    @property
    def epoch_seconds(self) -> float:
        return self.seconds if self.epoch else 0.0

    def standing(self, until: int) -> tuple[float, float]:
        return (max(self.curve[: min(until, self.epoch)], default=0.0), 0.0)

    def advance(self, until: int) -> None:
        assert self.status == "running"
        while self.epoch < until:
            if math.isnan(self.curve[self.epoch]):
                raise TrainingError(f"the loss became nan in epoch {self.epoch + 1}. Lower the learning rate.")
            self.epoch += 1
            self.trained += 1
        if self.epoch == len(self.curve):
            self.status = "finished"

    def stop(self, status: str, reason: str) -> None:
        self.status, self.reason = status, reason


def flat(value: float, epochs: int = 8, **options: float) -> Fake:
    return Fake(*[value] * epochs, **options)


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, []), (2, [1]), (3, [1, 2]), (4, [1, 2]), (10, [3, 5]), (100, [25, 50])]
)
def test_rungs_are_a_quarter_and_a_half(epochs, expected):
    assert rungs(epochs) == expected


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 7])
@pytest.mark.parametrize("epochs", [1, 2, 3, 8])
def test_steps_are_the_epochs_that_are_trained(count, epochs):
    candidates, calls = [flat(0.1 * i, epochs) for i in range(count)], []
    race(candidates, epochs, Clock(None), calls.append)
    assert steps(count, epochs) == len(calls) == sum(candidate.trained for candidate in candidates)


def test_the_better_half_goes_on():
    values = (0.1, 0.5, 0.3, 0.4, 0.2)
    candidates = [flat(value) for value in values]
    race(candidates, 8, Clock(None), lambda candidate: None)
    assert [candidate.epoch for candidate in candidates] == [2, 8, 4, 8, 2]
    assert [candidate.status for candidate in candidates] == [
        "stopped early",
        "finished",
        "stopped early",
        "finished",
        "stopped early",
    ]
    assert candidates[0].reason == "not among the best 3 after 2 epochs"
    assert candidates[2].reason == "not among the best 2 after 4 epochs"


def test_only_the_epochs_so_far_count():
    late = Fake(0, 0, 0, 0, 1, 1, 1, 1)
    race([late, flat(0.5)], 8, Clock(None), lambda candidate: None)
    assert (late.status, late.epoch) == ("stopped early", 2)


def test_all_train_in_turn():
    order = []
    a, b = flat(0.1), flat(0.2)
    race([a, b], 8, Clock(None), lambda candidate: order.append((candidate is b, candidate.epoch)))
    assert order[:4] == [(False, 1), (True, 1), (False, 2), (True, 2)]


def test_a_candidate_that_diverges_fails_alone():
    bad, good = Fake(0.9, math.nan, 0.9, 0.9), [flat(0.5, 4), flat(0.6, 4)]
    race([bad, *good], 4, Clock(None), lambda candidate: None)
    assert (bad.status, bad.epoch) == ("failed", 1)
    assert bad.reason == "the loss became nan in epoch 2. Lower the learning rate."
    assert [candidate.status for candidate in good] == ["stopped early", "finished"]


def test_those_that_were_finished_at_the_start_are_left_alone():
    done = flat(0.9)
    done.status = "finished"
    race([done, flat(0.1)], 8, Clock(None), lambda candidate: None)
    assert done.trained == 0


@pytest.mark.parametrize("calls", range(1, 18))
def test_a_restored_race_decides_as_an_undisturbed_one(calls):
    curves = [(0.5, 0.5, 0.5, 0.9, 0.9, 0.9, 0.9, 0.9), [0.6] * 8, (0.4, 0.4), [0.55] * 8, (0.7, math.nan)]

    def outcome(candidates):
        race(candidates, 8, Clock(None), lambda candidate: None)
        return [(c.status, c.reason, c.epoch) for c in candidates]

    def interrupt(candidate):
        nonlocal calls
        calls -= 1
        if not calls:
            raise KeyboardInterrupt

    first = [Fake(*curve) for curve in curves]
    with contextlib.suppress(KeyboardInterrupt):
        race(first, 8, Clock(None), interrupt)
    restored = [Fake(*curve, epoch=old.epoch) for curve, old in zip(curves, first, strict=True)]
    assert outcome(restored) == outcome([Fake(*curve) for curve in curves])


class Time:
    now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch):
    fake = Time()
    monkeypatch.setattr(halving, "time", fake)
    return fake


def ticking(time):
    def on_epoch(candidate):
        time.now += candidate.seconds

    return on_epoch


def test_a_clock_without_a_budget_always_has_time(time):
    clock = Clock(None)
    time.now = 1e9
    assert clock.has(1e9)
    assert clock.elapsed == 1e9


def test_a_budget_is_kept_with_time_to_retrain_and_to_test(time):
    clock = Clock(20)
    clock.retrain_share, clock.reserve = 1.0, 3
    candidates = [flat(0.5, 100), flat(0.6, 100)]
    race(candidates, 100, clock, ticking(time))
    winner = max(candidate.epoch for candidate in candidates)
    assert time.now + winner * clock.retrain_share + clock.reserve <= 20
    assert winner == 5  # 2 x 5 epochs, 5 to retrain: 15 s and 3 s, and one more epoch would cost 2 s
    assert [candidate.status for candidate in candidates] == ["stopped early"] * 2
    assert candidates[0].reason == "the time budget ran out after 5 epochs"


def test_a_slow_candidate_ends_and_the_others_go_on(time):
    slow, fast = flat(0.9, 8, seconds=6.0), flat(0.5, 8, seconds=0.5)
    race([slow, fast], 8, Clock(11), ticking(time))
    assert (slow.status, slow.epoch) == ("stopped early", 1)
    assert (fast.status, fast.epoch) == ("finished", 8)


def test_a_first_epoch_that_cannot_fit_is_not_begun(time):
    clock = Clock(10)
    clock.first_epoch = 11
    candidate = flat(0.5)
    race([candidate], 8, clock, ticking(time))
    assert (candidate.epoch, candidate.reason) == (0, "the time budget ran out after 0 epochs")


def test_every_rung_is_before_the_end():
    for epochs in range(1, 50):
        assert all(a < b for a, b in pairwise([0, *rungs(epochs), epochs]))
