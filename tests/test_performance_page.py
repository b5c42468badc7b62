"""docs/performance.md and other pages say what the committed measurements say."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel

from promptgraft.study.tpe import Chain

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def page():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import page
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return page


def test_tables_are_those_of_the_measurements(page):
    texts = [path.read_text(encoding="utf-8") for path in page.PAGES]
    assert {mark for text in texts for mark in page.MARK.findall(text)} == page.tables().keys()
    assert [page.filled(text) for text in texts] == texts


def test_the_committed_ratios_are_of_all_benches():
    path = ROOT / "benchmarks" / "pocket.json"
    if not path.exists():
        pytest.skip("not measured yet")
    from promptgraft.bench.base import BENCHES

    rows = json.loads(path.read_text(encoding="utf-8"))
    assert all(any(row["name"].startswith(name) for row in rows) for name in BENCHES)


def test_a_table_follows_its_rows(page, tmp_path):
    row = {
        "name": "x",
        "baseline": "loop",
        "seconds": 0.5,
        "baseline_seconds": 2000.0,
        "ratio": 4000.0,
        "floor": 0.25,
        "memory": 3_000_000,
        "baseline_memory": 7_000_000,
        "error": 1e-7,
        "exact": True,
        "date": "2026-01-02",
        "versions": "torch 9",
        "machine": "a toaster, load 1.5",
    }
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([row, row | {"floor": None, "memory": None, "baseline_memory": None, "exact": False}]))
    assert page.bench_table(path)[2:] == [
        "| x | loop | 2e+03 | 0.5 | 4,000.00 | 2.0 | 7 | 3 | 1e-07 |",
        "| x | loop | 2e+03 | 0.5 | 4,000.00 |  |  |  | ~1e-07 |",
        "",
        "Measured 2026-01-02 with torch 9, on a toaster, load 1.5 to 1.5.",
    ]


def test_exponents_are_slopes(page):
    points = [{"value": n, "seconds": 2 * n**1.5, "baseline_seconds": 7.0} for n in (1, 10, 100)]
    assert page.growth.exponent(points, "seconds") == pytest.approx(1.5)
    assert page.growth.exponent(points, "baseline_seconds") == pytest.approx(0)


def test_a_replay_races_as_adapt_does(page):
    def recorded(start, end, accuracy):
        curve = [
            [epoch, None, start + (end - start) * epoch / 9, accuracy if epoch == 9 else 0.5] for epoch in range(10)
        ]
        return page.race.Recorded(curve, 100, np.arange(1000) < 1000 * accuracy)

    slow, fast = recorded(2.0, 0.1, 0.9), [recorded(1.0 - i / 100, 0.5, 0.7 + i / 100) for i in range(5)]
    recipe = page.race.RECIPES["short"].model_copy(update={"epochs": 9})
    replay = page.race.replay([slow, *fast], recipe)
    assert not replay.same  # the best of all is the last at the start
    assert replay.validation == pytest.approx(-16)
    assert replay.test == pytest.approx(-16)
    assert (replay.worse, replay.better) == (True, False)
    assert replay.share == pytest.approx((2 * 3 + 6) / 54)
    assert page.race.replay(fast, recipe).same


def test_prompts_that_start_at_tokens_are_told_from_random_ones_over_epochs(page):
    def trial(method, seed, accuracy, target="digits"):
        curve = [accuracy + epoch / 100 for epoch in range(11)]
        return page.self_prompt.Trial("CLS", target, method, seed, [1 - value for value in curve], curve, accuracy)

    found = [trial("vpt deep", 0, 0.1), trial("vpt deep", 1, 0.3), trial("spt deep", 0, 0.5), trial("linear", 0, 0.9)]
    assert page.self_prompt.starts(found)[2:] == [
        "| CLS | vpt | 2 | 0.80, 20.0 % | 0.79, 21.0 % | 0.78, 22.0 % | 0.77, 23.0 % | 0.75, 25.0 % | 0.70, 30.0 % |",
        "| CLS | spt | 1 | 0.50, 50.0 % | 0.49, 51.0 % | 0.48, 52.0 % | 0.47, 53.0 % | 0.45, 55.0 % | 0.40, 60.0 % |",
    ]
    lengths = [
        trial(name.format(method), seed, 0.5 + seed / 10 + rows / 1000, target)
        for target in page.self_prompt.LENGTH_TARGETS
        for method in ("vpt", "spt")
        for rows, name in page.self_prompt.LENGTHS.items()
        for seed in range(3)
    ]
    told = page.self_prompt.lengths(lengths)[2:]
    cells = "60.5 ± 10.0 | 61.0 ± 10.0 | 62.0 ± 10.0 | 65.0 ± 10.0 | 4.5 |"
    assert told == [f"| {t} | {m} | {cells}" for t in ("digits", "textile") for m in ("vpt", "spt")]
    tests = {("vpt deep", "digits"): (0.1, 0.3), ("vpt deep", "emoji"): (0.4, 0.4), ("spt deep", "digits"): (0.5, 0.5)}
    tests |= {("spt deep", "emoji"): (0.4, 0.6)}
    tests |= {(method.replace("deep", "shallow"), target): values for (method, target), values in tests.items()}
    both = [
        trial(m, seed, value, target) for (m, target), values in tests.items() for seed, value in enumerate(values)
    ]
    p = ttest_rel([20, 40], [50, 50]).pvalue
    assert page.self_prompt.against(both)[2:] == [
        f"| CLS | {layers} | 30.0 | 50.0 | +20.0 | {p:.2f} | 7.1 | 7.1 |" for layers in ("deep", "shallow")
    ]


def test_settings_are_stopped_as_a_search_stops_them(page):
    rng = np.random.default_rng(0)
    grid = []
    for quality in rng.uniform(size=60):
        curve = [[epoch, None, 1 - value, value] for epoch, value in enumerate(quality + rng.uniform(0, 0.6, 7))]
        grid.append({"setting": {"lr": 0.1}, "curve": curve, "value": max(line[3] for line in curve), "loss": 0.0})
    earlier, taken = [], []
    for number, result in enumerate(grid):
        how = {"over": {"lr": {"low": 0.01, "high": 1.0}}, "number": number, "epochs": None, "stop_from": 3, "seed": 0}
        chain = Chain(how, earlier)
        behind = [line[0] for line in result["curve"][1:] if chain.behind(line[0], line[3])]
        taken.append(min(behind, default=6))
        earlier.append(result | {"stopped": bool(behind), "curve": result["curve"][: taken[-1] + 1]})
    assert page.stopping.median(grid, stop_from=3) == taken
    assert {3, 5, 6} <= set(taken)


def test_halving_keeps_the_best_so_far(page):
    def result(*accuracies):
        return {"curve": [[epoch, None, 1.0 - value, value] for epoch, value in enumerate((0.5, *accuracies))]}

    grid = [result(0.3, 0.4, 0.9), result(0.6, 0.2, 0.2), result(0.1, 0.9, 0.9), result(0.5, 0.8, 0.3)]
    assert page.stopping.halving(grid, {1: 2, 2: 1}) == [1, 2, 1, 3]
