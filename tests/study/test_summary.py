"""Tables of a study, on records made by hand."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import ttest_rel

from promptgraft.errors import InputError
from promptgraft.files import content_key
from promptgraft.study.store import Record, Store
from promptgraft.study.summary import CHOSEN, summarize, trial_row
from promptgraft.transferability.evaluate import kendall, spearman


class Stub:
    """A store that holds these records."""

    study, folder = "synthetic", Path("somewhere")

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = list(records)

    def spec(self) -> dict[str, Any]:
        return {"study": "synthetic", "description": "made by hand"}

    def records(self) -> list[Record]:
        return self._records

    def counts(self) -> dict[str, dict[str, int]]:
        return {}


def summary(*records: Sequence[Record]) -> dict[str, Any]:
    found = summarize(Stub([record for some in records for record in some]))  # type: ignore[arg-type]
    json.dumps(found, allow_nan=False)
    return found


def record(kind: str, labels: dict[str, Any], result: dict[str, Any] | None, **fields: Any) -> Record:
    done = result is not None
    plain: dict[str, Any] = {
        "key": content_key(kind, labels),
        "kind": kind,
        "state": "done" if done else "pending",
        "labels": {"backbone": "vit"} | labels,
        "owner": None,
        "error": None,
        "traceback": None,
        "result": result,
        "measured": {"seconds": 2.0, "peak_memory": 100} if done else None,
        "artefacts": {} if done else None,
    }
    return Record(**plain | fields)


def runs(
    method: str,
    tests: Sequence[float | None],
    target: str = "photos",
    source: str | None = None,
    val: Sequence[float | None] | None = None,
    kind: str = "train",
) -> list[Record]:
    """One trial for each seed; None for one that is not done."""
    made = []
    for seed, test in enumerate(tests):
        result = {
            "val_accuracy": (val or tests)[seed],
            "test_accuracy": test,
            "test_n": 10,
            "parameters": 5,
            "epochs": 1,
        }
        labels = {"target": target, "method": method, "source": source, "seed": seed}
        made.append(record(kind, labels, None if test is None else result))
    return made


def estimated(
    estimator: str, sources: Sequence[str], scores: Sequence[Sequence[float | None]], target: str = "photos"
) -> list[Record]:
    """One trial for each seed."""
    labels = {"target": target, "estimator": estimator, "sources": list(sources)}
    return [record("estimate", labels | {"seed": seed}, {"scores": list(own)}) for seed, own in enumerate(scores)]


def row(found: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    (only,) = [row for row in found["rows"] if wanted.items() <= row.items()]
    return dict(only)


# rows


def test_a_row_holds_mean_spread_and_interval_over_seeds() -> None:
    found = row(summary(runs("vpt", [0.5, 0.6, 0.7], val=[0.8, 0.9, None])))
    assert (found["backbone"], found["target"], found["method"], found["source"]) == ("vit", "photos", "vpt", None)
    assert found["n"] == 3
    assert found["mean"] == pytest.approx(0.6)
    assert found["sd"] == pytest.approx(0.1)
    reach = 4.302652729911275 * 0.1 / math.sqrt(3)  # t at 97.5 % with 2 degrees of freedom
    assert (found["low"], found["high"]) == pytest.approx((0.6 - reach, 0.6 + reach))
    assert found["val_mean"] == pytest.approx(0.85)
    assert (found["parameters"], found["seconds"], found["peak_memory"]) == (5, 2.0, 100)
    assert len(found["trials"]) == 3


def test_one_seed_has_no_spread_and_none_has_nothing() -> None:
    found = summary(runs("linear", [0.5]), runs("vpt", [None, None]))
    one, none = found["rows"]
    assert (one["mean"], one["sd"], one["low"], one["high"], one["rank"]) == (0.5, None, None, None, 1.0)
    assert (none["n"], none["mean"], none["sd"], none["rank"], none["difference"], none["p"]) == (0, *[None] * 5)
    assert len(none["trials"]) == 2


def test_differences_are_paired_by_seed_with_the_first_method() -> None:
    linear, vpt = [0.50, 0.60, 0.55, 0.52], [0.58, 0.66, None, 0.59]
    found = summary(runs("linear", linear), runs("vpt", vpt))
    assert found["baseline"] == "linear"
    compared = row(found, method="vpt")
    assert compared["difference"] == pytest.approx((0.08 + 0.06 + 0.07) / 3)
    p = ttest_rel([0.58, 0.66, 0.59], [0.50, 0.60, 0.52]).pvalue
    assert compared["p"] == pytest.approx(p)
    assert 0.001 < p < 0.01
    assert compared["stars"] == "**"
    own = row(found, method="linear")
    assert (own["difference"], own["p"], own["stars"]) == (None, None, "")


@pytest.mark.parametrize(
    ("differences", "stars"),
    [([0.10, 0.11, 0.12], "**"), ([0.1, 0.2, 0.3], ""), ([0.1, 0.15, 0.2], "*"), ([0.1, 0.101, 0.102], "***")],
)
def test_stars_say_how_sure_a_difference_is(differences: list[float], stars: str) -> None:
    found = summary(runs("linear", [0.5] * 3), runs("vpt", [0.5 + difference for difference in differences]))
    assert row(found, method="vpt")["stars"] == stars


@pytest.mark.parametrize(
    ("linear", "vpt"),
    [([0.1, 0.2], [0.7, 0.9]), ([0.5, 0.5, 0.5], [0.75, 0.75, 0.75]), ([0.1, 0.5, 0.3], [0.3, 0.7, 0.5])],
    ids=["two seeds", "equal", "equal but for rounding"],
)
def test_too_few_seeds_or_equal_differences_prove_nothing(linear: list[float], vpt: list[float]) -> None:
    compared = row(summary(runs("linear", linear), runs("vpt", vpt)), method="vpt")
    assert (compared["p"], compared["stars"]) == (None, "")


def test_a_baseline_of_several_sources_is_the_one_that_val_prefers() -> None:
    found = summary(
        runs("frozen", [0.9, 0.9], source="a", val=[0.5, 0.5]),
        runs("frozen", [0.6, 0.6], source="b", val=[0.7, 0.7]),
        runs("vpt", [0.8, 0.8]),
    )
    assert row(found, method="vpt")["difference"] == pytest.approx(0.2)
    assert row(found, source="a")["difference"] is None


def test_methods_are_ranked_by_the_source_that_val_prefers() -> None:
    found = summary(
        runs("linear", [0.7]),
        runs("initial", [0.9], source="a", val=[0.6]),
        runs("initial", [0.6], source="b", val=[0.8]),  # val prefers it, test would not
        runs("vpt", [0.7]),
        runs("spt", [None]),
    )
    ranks = {(row["method"], row["source"]): row["rank"] for row in found["rows"]}
    expected = {("linear", None): 1.5, ("vpt", None): 1.5, ("initial", "a"): None, ("initial", "b"): 3.0}
    assert ranks == expected | {("spt", None): None}


def test_what_a_study_tries_on_some_targets_alone_has_no_rank() -> None:
    found = summary(
        runs("linear", [0.7], target="a"),
        runs("linear", [0.7], target="b"),
        runs("vpt", [0.6], target="a"),
        runs("vpt", [None], target="b"),  # to come
        runs("vpt of 5 rows", [0.9], target="a"),
    )
    ranks = {(row["method"], row["target"]): row["rank"] for row in found["rows"]}
    expected = {("linear", "a"): 1.0, ("vpt", "a"): 2.0, ("linear", "b"): 1.0, ("vpt", "b"): None}
    assert ranks == expected | {("vpt of 5 rows", "a"): None}


def test_a_method_of_several_sources_is_one_where_it_has_not_run_yet() -> None:
    labels = {"method": "average", "source": "all", "seed": 0}
    ran = {"test_accuracy": 0.5, "val_accuracy": 0.5, "parameters": 1, "sources": ["a", "b"]}
    found = summary(
        [record("train", labels | {"target": "emoji"}, ran), record("train", labels | {"target": "digits"}, None)]
    )
    assert [row["together"] for row in found["rows"]] == [True, True]


def test_means_that_differ_by_rounding_alone_tie() -> None:
    one, other = [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]
    assert sum(one) != sum(other)
    found = summary(runs("linear", one), runs("vpt", other))
    assert [row["rank"] for row in found["rows"]] == [1.5, 1.5]
    assert [average["wins"] for average in found["averages"]] == [1, 1]


def test_final_trials_count_and_searches_do_not() -> None:
    search = [record("search", {"target": "photos", "method": "vpt", "seed": 0}, {"val_accuracy": 1.0})]
    found = summary(search, runs("vpt", [0.5], kind="final"))
    assert [(row["mean"], row["n"]) for row in found["rows"]] == [(0.5, 1)]
    assert [trial["kind"] for trial in found["trials"]] == ["search", "final"]


# averages


def test_averages_are_over_targets() -> None:
    found = summary(
        runs("linear", [0.5], "a"),
        runs("vpt", [0.7], "a"),
        runs("linear", [0.6], "b"),
        runs("vpt", [0.6], "b"),
        runs("linear", [0.3], "c"),
        runs("vpt", [0.4], "c"),
        runs("spt", [0.9], "a"),  # not on all targets
    )
    linear, vpt = found["averages"]
    assert (linear["method"], vpt["method"]) == ("linear", "vpt")
    assert (linear["targets"], vpt["targets"]) == (3, 3)
    assert linear["mean"] == pytest.approx(1.4 / 3)
    assert vpt["mean"] == pytest.approx(1.7 / 3)
    assert linear["rank"] == pytest.approx((2 + 1.5 + 2) / 3)
    assert vpt["rank"] == pytest.approx((1 + 1.5 + 1) / 3)
    assert (linear["wins"], vpt["wins"]) == (1, 2)
    assert vpt["difference"] == pytest.approx(0.1)
    assert vpt["p"] == pytest.approx(ttest_rel([0.7, 0.6, 0.4], [0.5, 0.6, 0.3]).pvalue)
    assert linear["difference"] is None
    assert (linear["source"], vpt["source"]) == (None, None)


def test_an_average_takes_on_each_target_the_source_that_val_prefers() -> None:
    found = summary(
        runs("initial", [0.9], "a", source="x", val=[0.1]),
        runs("initial", [0.5], "a", source="y", val=[0.2]),
        runs("initial", [0.3], "b", source="x", val=[0.4]),
        runs("initial", [0.8], "b", source="y", val=[0.3]),
    )
    (average,) = found["averages"]
    assert average["mean"] == pytest.approx((0.5 + 0.3) / 2)
    assert average["source"] == CHOSEN


def test_backbones_are_kept_apart() -> None:
    other = [Record(**{**vars(r), "labels": {**r.labels, "backbone": "bert"}}) for r in runs("linear", [0.9])]
    found = summary(runs("linear", [0.5]), runs("vpt", [0.6]), other)
    assert [(row["backbone"], row["rank"]) for row in found["rows"]] == [("vit", 2.0), ("vit", 1.0), ("bert", 1.0)]
    assert [(average["backbone"], average["mean"]) for average in found["averages"]] == [
        ("vit", 0.5),
        ("vit", 0.6),
        ("bert", 0.9),
    ]


# estimates


SOURCES = ("a", "b", "c", "d")
SCORES = [[4.0, 3.0, 2.0, 1.0], [1.0, 3.0, 2.0, 0.0]]
REACHED = {"a": [0.5, 0.7], "b": [0.7, 0.8], "c": [0.4, 0.5], "d": [0.8, 0.9]}


def transferred() -> list[Record]:
    return [record for source in SOURCES for record in runs("initial", REACHED[source], source=source)]


def test_agreement_is_that_of_means_over_seeds() -> None:
    found = summary(transferred(), estimated("norm", SOURCES, SCORES))
    (agreement,) = found["agreement"]
    means = [2.5, 3.0, 2.0, 0.5], [0.6, 0.75, 0.45, 0.85]
    assert agreement["kendall"] == kendall(*means) == pytest.approx(0.0)
    assert agreement["spearman"] == pytest.approx(spearman(*means))
    assert agreement["top1_regret"] == pytest.approx(0.85 - 0.75)
    assert agreement["top3_regret"] == pytest.approx(0.85 - 0.75)  # the best source is ranked last
    where = {"backbone": "vit", "target": "photos", "estimator": "norm", "method": "initial", "n": 4}
    assert where.items() <= agreement.items()


def test_estimates_stand_beside_what_was_reached() -> None:
    found = summary(transferred(), estimated("norm", SOURCES, SCORES))
    assert len(found["estimates"]) == 8
    second = found["estimates"][1]
    expected = {"source": "b", "score": 3.0, "measured": 0.75, "method": "initial", "seed": 0, "estimator": "norm"}
    assert expected.items() <= second.items()
    assert [trial["kind"] for trial in found["trials"] if trial["key"] == second["trial"]] == ["estimate"]


def test_sources_without_score_or_transfer_do_not_count() -> None:
    scores = [[4.0, None, 2.0, 1.0]]
    found = summary(
        runs("initial", [0.5], source="a"),
        runs("initial", [0.6], source="b"),
        runs("initial", [0.3], source="c"),
        estimated("norm", SOURCES, scores),
    )
    (agreement,) = found["agreement"]
    assert agreement["n"] == 2
    assert agreement["kendall"] == 100
    assert [e["measured"] for e in found["estimates"]] == [0.5, 0.6, 0.3, None]


def test_where_nothing_can_be_ranked_there_is_no_coefficient() -> None:
    one = summary(runs("initial", [0.5], source="a"), estimated("norm", SOURCES, SCORES[:1]))["agreement"]
    assert [(found["n"], found["kendall"], found["top1_regret"]) for found in one] == [(1, None, None)]
    alike = [record for source in SOURCES for record in runs("initial", [0.5], source=source)]
    (found,) = summary(alike, estimated("norm", SOURCES, SCORES[:1]))["agreement"]
    assert (found["kendall"], found["spearman"], found["top1_regret"]) == (None, None, None)
    assert summary(estimated("norm", SOURCES, SCORES))["agreement"] == []


# the rest


def test_cost_is_what_was_measured() -> None:
    failed = record("train", {"target": "photos", "method": "vpt", "seed": 9}, None, state="failed", error="it broke")
    found = summary(runs("vpt", [0.5, 0.6, None]), estimated("norm", SOURCES, SCORES), [failed])
    vpt, norm = found["cost"]
    assert vpt == {"kind": "train", "method": "vpt", "trials": 2} | {
        "seconds": 4.0,
        "seconds_each": 2.0,
        "parameters": 5.0,
        "peak_memory": 100,
    }
    assert (norm["kind"], norm["method"], norm["parameters"]) == ("estimate", "norm", None)
    assert [trial["error"] for trial in found["trials"] if trial["state"] == "failed"] == ["it broke"]


def test_the_source_that_was_taken_is_shown() -> None:
    labels = {"target": "photos", "method": "best", "source": "#1 by norm", "seed": 0}
    taken = record("train", labels, {"source": "text/a", "test_accuracy": 0.5})
    assert trial_row(taken)["source"] == "text/a"
    assert trial_row(record("train", labels, None))["source"] == "#1 by norm"


def test_a_study_without_results_has_a_summary() -> None:
    empty = summary()
    names = ("rows", "averages", "comparisons", "gains", "trials", "estimates", "agreement", "estimators", "cost")
    assert {name: empty[name] for name in names} == {name: [] for name in names}
    assert empty["baseline"] is None
    assert (empty["name"], empty["description"], empty["folder"]) == ("synthetic", "made by hand", "somewhere")


def test_a_study_that_was_not_started_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"study s has not been started\. `promptgraft study run"):
        summarize(Store(tmp_path, "s"))


def test_a_finished_study_is_summarized(finished_study: Path) -> None:
    store = Store(finished_study, "finished")
    found, again = summarize(store), summarize(store)
    store.close()
    json.dumps(found, allow_nan=False)
    assert found | {"created": ""} == again | {"created": ""}
    shown = [(row["method"], row["source"], row["n"]) for row in found["rows"]]
    sources = [("projection", "text/films", 2), ("projection", "text/songs", 2), ("preferred", "#1 by norm", 2)]
    assert shown == [("linear", None, 2), *sources]
    assert found["counts"] == {
        kind: {"done": n} for kind, n in (("estimate", 4), ("head", 2), ("source", 2), ("train", 8))
    }
    assert [row["source"] for row in found["tuned"]] == ["text/films", "text/songs"]
    assert [(e["estimator"], e["n"]) for e in found["agreement"]] == [("norm", 2), ("gap", 2)]
    assert {trial["source"] for trial in found["trials"] if trial["method"] == "preferred"} <= {
        "text/films",
        "text/songs",
    }
