"""A search whose settings are drawn one after another."""

import json
import math
from typing import Any

import pytest

from promptgraft.study.tpe import STARTUP, Chain

SPAN = {"low": 1e-4, "high": 1.0, "log": True}


def identity(
    number: int, over: dict[str, Any] | None = None, epochs: int | None = None, seed: int = 0, stop_from: int = 1
) -> dict[str, Any]:
    return {
        "over": over or {"lr": SPAN},
        "number": number,
        "epochs": epochs,
        "stop_from": stop_from,
        "seed": seed,
    }


def tried(setting: dict[str, Any] | None, *accuracies: float, stopped: bool = False) -> dict[str, Any]:
    """The result of a setting with these validation accuracies, the first before any step."""
    curve = [[epoch, None, 1.0, accuracy] for epoch, accuracy in enumerate(accuracies)]
    return {"setting": setting, "stopped": stopped, "value": max(accuracies, default=None), "curve": curve}


def search(count: int, **how: Any) -> list[dict[str, Any]]:
    """Results of a search whose accuracy is best where lr is 0.01."""
    results: list[dict[str, Any]] = []
    for number in range(count):
        setting = Chain(identity(number, **how), results).setting
        results.append(tried(setting, 0.1, math.exp(-abs(math.log10(setting["lr"]) + 2))))
    return results


def test_a_chain_rebuilt_from_what_is_stored_goes_on_the_same() -> None:
    whole = search(STARTUP + 5)
    stored = json.loads(json.dumps(whole))
    for number in range(len(whole)):
        assert Chain(identity(number), stored[:number]).setting == whole[number]["setting"]


def test_settings_depend_on_the_seed_and_on_what_was_found() -> None:
    settings = [result["setting"]["lr"] for result in search(STARTUP + 1)]
    assert len(set(settings)) == STARTUP + 1
    assert [result["setting"]["lr"] for result in search(STARTUP + 1, seed=1)] != settings
    results = search(STARTUP)
    turned = [result | {"value": 1 - result["value"]} for result in results]
    pairs = [[Chain(identity(STARTUP, seed=seed), found).setting for found in (turned, results)] for seed in range(5)]
    assert any(ours != theirs for ours, theirs in pairs)  # some draws are from the prior, whatever was found


def test_the_order_in_which_fields_are_written_does_not_matter() -> None:
    over = {"lr": SPAN, "weight_decay": SPAN | {"high": 0.1}, "warmup": [0.0, 1.0, 2.0]}
    turned = dict(reversed(over.items()))
    assert Chain(identity(0, over), []).setting == Chain(identity(0, turned), []).setting


def test_the_sampler_finds_its_way() -> None:
    rates = [math.log10(result["setting"]["lr"]) for result in search(30)]
    assert all(-4 <= rate <= 0 for rate in rates)
    assert sum(abs(rate + 2) for rate in rates[-10:]) / 10 < 0.6  # 1.0 if drawn at random


def test_values_and_ranges_are_drawn_as_they_are_written() -> None:
    over = {
        "optimizer": ["sgd", "adam"],
        "patience": [None, 3],
        "class_balanced": [True, False],
        "label_smoothing": {"low": 0.0, "high": 0.5, "log": False},
    }
    results: list[dict[str, Any]] = []
    for number in range(12):
        setting = Chain(identity(number, over), results).setting
        assert set(setting) == set(over)
        assert 0 <= setting["label_smoothing"] <= 0.5
        results.append(json.loads(json.dumps(tried(setting, 0.5, 0.5))))
    for field in ("optimizer", "patience", "class_balanced"):
        drawn = [result["setting"][field] for result in results]
        assert set(drawn) == set(over[field])
        assert {type(value) for value in drawn} == {type(value) for value in over[field]}


def test_a_setting_behind_the_median_is_stopped() -> None:
    earlier = [tried({"lr": 0.1}, 0.1, 0.5, value, value) for value in (0.5, 0.6, 0.7, 0.8, 0.9)]
    good, bad, slow = (Chain(identity(5), earlier) for _ in range(3))
    assert [good.behind(1, 0.5), good.behind(2, 0.8)] == [False, False]
    assert [bad.behind(1, 0.5), bad.behind(2, 0.6)] == [False, True]
    assert [slow.behind(1, 0.9), slow.behind(2, 0.6)] == [False, False]  # its best so far counts
    assert not Chain(identity(5), earlier).behind(2, None)
    assert [Chain(identity(5, stop_from=first), earlier).behind(2, 0.6) for first in (2, 3)] == [True, False]


def test_the_first_settings_are_never_stopped() -> None:
    earlier = [tried({"lr": 0.1}, 0.1, 0.9, 0.9) for _ in range(STARTUP - 1)]
    assert not Chain(identity(STARTUP - 1), earlier).behind(2, 0.0)
    assert Chain(identity(STARTUP), [*earlier, tried({"lr": 0.1}, 0.1, 0.9, 0.9)]).behind(2, 0.0)


def test_settings_that_diverged_or_were_stopped_are_learned_from() -> None:
    diverged: dict[str, Any] = {"setting": {"lr": 0.9}, "stopped": True, "value": None, "curve": []}
    results = [*search(STARTUP), diverged, tried({"lr": 0.5}, 0.1, 0.2, stopped=True)]
    low, high = SPAN["low"], SPAN["high"]
    assert low <= Chain(identity(len(results)), results).setting["lr"] <= high


@pytest.mark.parametrize(("limit", "spent"), [(None, False), (5, False), (4, True), (3, True)])
def test_epochs_are_spent_over_all_settings(limit: int | None, spent: bool) -> None:
    results = [
        tried({"lr": 0.1}, 0.1, 0.2, 0.3),  # epoch 0 costs nothing
        tried({"lr": 0.1}, 0.1, 0.2, 0.3, stopped=True),
        {"setting": {"lr": 0.9}, "stopped": True, "value": None, "curve": []},
        {"setting": None, "notes": ["the search has used up its epochs"]},
    ]
    assert Chain(identity(4, epochs=limit), results).spent is spent
