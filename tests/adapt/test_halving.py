"""Successive halving on candidates whose learning curves are written down."""

import contextlib
import math
from itertools import pairwise

import pytest

from promptgraft.adapt import halving
from promptgraft.adapt.halving import Clock, race, rungs, steps
from promptgraft.errors import TrainingError
from promptgraft.tuning.recipes import RECIPES, Recipe


def probed(epochs: int) -> Recipe:
    return RECIPES["short"].model_copy(update={"epochs": epochs})


def random_heads(epochs: int) -> Recipe:
    return probed(epochs).model_copy(update={"head_start": "random"})


class Fake:
    """A candidate that reaches `curve[epoch - 1]` after an epoch, `curve[0]` at the start; NaN diverges."""

    def __init__(self, *curve: float, seconds: float = 1.0, epoch: int = 0, start: float | None = None) -> None:
        self.curve, self.seconds, self.epoch = curve, seconds, epoch
        self.start = curve[0] if start is None else start
        self.status, self.reason, self.trained = "running", None, 0

    @property
    def epoch_seconds(self) -> float:
        return self.seconds if self.epoch else 0.0

    def loss(self, until: int) -> float:
        assert until <= self.epoch or self.status != "running"
        return 1 - max([self.start, *self.curve[:until]])

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
    ("epochs", "expected"), [(1, [0]), (2, [0, 1]), (3, [0, 1]), (4, [0, 1]), (10, [0, 3]), (100, [0, 33])]
)
def test_rungs_are_the_start_and_a_third(epochs, expected):
    assert rungs(probed(epochs)) == expected


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, []), (2, [1]), (3, [1]), (4, [1]), (5, [1, 2]), (10, [1, 3]), (100, [11, 33])]
)
def test_heads_that_start_at_random_train_before_the_first_rung(epochs, expected):
    assert rungs(random_heads(epochs)) == expected


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 7, 12])
@pytest.mark.parametrize("epochs", [1, 2, 3, 8])
@pytest.mark.parametrize("recipe", [probed, random_heads])
def test_steps_are_the_epochs_that_are_trained(count, epochs, recipe):
    candidates, calls = [flat(0.01 * i, epochs) for i in range(count)], []
    race(candidates, recipe(epochs), Clock(None), calls.append)
    assert steps(count, recipe(epochs)) == len(calls) == sum(candidate.trained for candidate in candidates)


@pytest.mark.parametrize("count", [8, 9, 22])
@pytest.mark.parametrize("epochs", [10, 30, 100])
def test_about_a_fifth_of_all_epochs_is_trained(count, epochs):
    assert 0.15 < steps(count, probed(epochs)) / (count * epochs) <= 0.21


def test_the_best_third_goes_on():
    values = (0.1, 0.5, 0.3, 0.4, 0.2, 0.15, 0.35, 0.05)
    candidates = [flat(value) for value in values]
    race(candidates, probed(8), Clock(None), lambda candidate: None)
    assert [candidate.epoch for candidate in candidates] == [0, 8, 0, 3, 0, 0, 3, 0]
    assert [candidate.status for candidate in candidates if candidate.epoch < 8] == ["stopped early"] * 7
    assert candidates[1].status == "finished"
    assert candidates[0].reason == "not among the best 3 at the start"
    assert candidates[3].reason == "not among the best 1 after 3 epochs"


def test_two_train_at_least():
    candidates = [flat(0.1, 10), flat(0.3, 10), flat(0.2, 10)]
    race(candidates, probed(10), Clock(None), lambda candidate: None)
    assert [candidate.epoch for candidate in candidates] == [0, 10, 3]
    assert candidates[0].reason == "not among the best 2 at the start"


def test_only_the_epochs_so_far_count():
    late = Fake(0, 0, 0, 0, 1, 1, 1, 1)
    race([late, flat(0.5)], random_heads(8), Clock(None), lambda candidate: None)
    assert (late.status, late.epoch) == ("stopped early", 1)


def test_all_train_in_turn():
    order = []
    a, b = flat(0.1, 20), flat(0.2, 20)
    race([a, b], random_heads(20), Clock(None), lambda candidate: order.append((candidate is b, candidate.epoch)))
    assert order[:4] == [(False, 1), (True, 1), (False, 2), (True, 2)]


def test_a_candidate_that_diverges_fails_alone():
    bad, good = Fake(0.9, *[math.nan] * 7), [flat(value) for value in (0.6, 0.5, 0.4, 0.3)]
    race([bad, *good], random_heads(8), Clock(None), lambda candidate: None)
    assert (bad.status, bad.epoch) == ("failed", 1)
    assert bad.reason == "the loss became nan in epoch 2. Lower the learning rate."
    assert [candidate.status for candidate in good] == ["finished", *["stopped early"] * 3]


def test_those_that_were_finished_at_the_start_are_left_alone():
    done = flat(0.9)
    done.status = "finished"
    race([done, flat(0.1)], probed(8), Clock(None), lambda candidate: None)
    assert done.trained == 0


@pytest.mark.parametrize("recipe", [probed, random_heads])
@pytest.mark.parametrize("calls", range(1, 16))
def test_a_restored_race_decides_as_an_undisturbed_one(calls, recipe):
    curves = [(0.5, *[0.9] * 7), [0.6] * 8, (0.75, 0.75), [0.55] * 8, (0.7, math.nan), [0.1] * 8, [0.2] * 8, [0.3] * 8]

    def outcome(candidates):
        race(candidates, recipe(8), Clock(None), lambda candidate: None)
        return [(c.status, c.reason, c.epoch) for c in candidates]

    def interrupt(candidate):
        nonlocal calls
        calls -= 1
        if not calls:
            raise KeyboardInterrupt

    first = [Fake(*curve) for curve in curves]
    with contextlib.suppress(KeyboardInterrupt):
        race(first, recipe(8), Clock(None), interrupt)
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
    race(candidates, random_heads(100), clock, ticking(time))
    winner = max(candidate.epoch for candidate in candidates)
    assert time.now + winner * clock.retrain_share + clock.reserve <= 20
    assert winner == 5  # 2 x 5 epochs, 5 to retrain: 15 s and 3 s, and one more epoch would cost 2 s
    assert [candidate.status for candidate in candidates] == ["stopped early"] * 2
    assert candidates[0].reason == "the time budget ran out after 5 epochs"


def test_a_slow_candidate_ends_and_the_others_go_on(time):
    slow, fast = flat(0.9, 20, seconds=6.0), flat(0.5, 20, seconds=0.2)
    race([slow, fast], random_heads(20), Clock(11), ticking(time))
    assert (slow.status, slow.epoch) == ("stopped early", 1)
    assert (fast.status, fast.epoch) == ("finished", 20)


def test_a_first_epoch_that_cannot_fit_is_not_begun(time):
    clock = Clock(10)
    clock.first_epoch = 11
    candidate = flat(0.5)
    race([candidate], probed(8), clock, ticking(time))
    assert (candidate.epoch, candidate.reason) == (0, "the time budget ran out after 0 epochs")


def test_every_rung_is_before_the_end():
    for epochs in range(1, 50):
        assert all(a < b for a, b in pairwise([-1, *rungs(probed(epochs)), epochs]))
        assert all(a < b for a, b in pairwise([0, *rungs(random_heads(epochs)), epochs]))
