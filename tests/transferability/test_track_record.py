"""What measured transfers say of estimators, on evidence made by hand."""

import json

import numpy as np
import pytest

from promptgraft.measured import Transfer
from promptgraft.transferability import agreement_interval
from promptgraft.transferability.track_record import long_form, short_form, track_records

HERE, THERE, ELSEWHERE = "0" * 64, "1" * 64, "2" * 64
REACHED = {"one": [0.9, 0.8, 0.7], "two": [0.5, 0.6, 0.7]}
# on target one Kendall 100 and -100; on target two (2 - 1) / 3 and 100
SCORES = {"gap": {"one": [3, 2, 1], "two": [1, 3, 2]}, "norm": {"one": [1, 2, 3], "two": [1, 2, 3]}}


def transfers(reached=REACHED, scores=SCORES, **fields):
    """One for each target and source; None as a score for none."""
    plain = {"study": "s", "modality": "vision", "backbone": "vit", "weights_sha256": HERE, "method": "projection"}
    return [
        Transfer(
            **plain | fields,
            target=target,
            source=f"text/{place}",
            source_id=f"{place:064}",
            accuracy=accuracy,
            baseline=0.5,
            seeds=1,
            scores={name: own[target][place] for name, own in scores.items() if own[target][place] is not None},
        )
        for target, accuracies in reached.items()
        for place, accuracy in enumerate(accuracies)
    ]


def records(given, estimators=("gap", "norm"), weights=HERE, modality="vision"):
    found = track_records(given, estimators, weights, modality)
    json.dumps(found, allow_nan=False)
    assert list(found) == list(estimators)
    return found


def test_by_hand():
    found = records(transfers())
    gap, norm = found["gap"], found["norm"]
    assert (gap["targets"], gap["kendall"]) == (2, pytest.approx((100 + 100 / 3) / 2))
    assert (norm["targets"], norm["kendall"]) == (2, pytest.approx(0))
    # differences 200 and -66.7: of the four sign patterns two reach their sum
    assert (gap["compared"], gap["beats_norm"], gap["p"]) == (2, 1, 0.5)
    assert (norm["compared"], norm["beats_norm"], norm["p"]) == (0, None, None)
    assert (gap["backbone"], gap["modality"], gap["same_backbone"]) == ("vit", "vision", True)
    expected = agreement_interval(list(SCORES["gap"].values()), list(REACHED.values()))
    assert (gap["kendall"], gap["low"], gap["high"]) == pytest.approx(tuple(expected))


def test_a_target_that_was_measured_twice_counts_once():
    again = {"one": [0.7, 0.8, 0.9]}  # the other way round: gap -100, norm 100
    for fields in ({"method": "initial"}, {"study": "t"}, {"backbone": "vit at 112 px"}):
        gap = records([*transfers(), *transfers(again, **fields)])["gap"]
        assert (gap["targets"], gap["kendall"]) == (2, pytest.approx((0 + 100 / 3) / 2))
        assert (gap["compared"], gap["beats_norm"]) == (2, 0)  # equal on the first, worse on the second
        assert gap["backbone"] == ("vit, vit at 112 px" if "backbone" in fields else "vit")


def test_sources_without_a_score_are_compared_with_by_none():
    scores = {"gap": {"one": [3, 2, None]}, "norm": {"one": [2, 1, 3]}}
    found = records(transfers({"one": [0.9, 0.8, 0.7]}, scores))
    assert found["norm"]["kendall"] == pytest.approx(-100 / 3)
    assert found["gap"]["kendall"] == 100
    assert (found["gap"]["compared"], found["gap"]["beats_norm"], found["gap"]["p"]) == (
        1,
        0,
        1.0,
    )  # both rank a over b


@pytest.mark.parametrize(
    ("reached", "scores"),
    [
        ([0.9], [1]),
        ([0.9, 0.8], [1, None]),
        ([0.9, 0.8], [None, None]),
        ([0.9, 0.8], [2, 2]),
        ([0.9, 0.9], [1, 2]),
    ],
    ids=["one source", "one score", "none", "equal scores", "equal accuracies"],
)
def test_what_ranks_nothing_says_nothing(reached, scores):
    norm = {"one": list(range(len(reached)))}
    assert records(transfers({"one": reached}, {"gap": {"one": scores}, "norm": norm}))["gap"] is None
    both = {"one": reached, "two": REACHED["two"]}
    gap = {"one": scores, "two": SCORES["gap"]["two"]}
    found = records(transfers(both, {"gap": gap, "norm": {"one": norm["one"], "two": SCORES["norm"]["two"]}}))["gap"]
    assert (found["targets"], found["kendall"]) == (1, pytest.approx(100 / 3))


def test_nothing_measured():
    assert records([]) == {"gap": None, "norm": None}
    assert records(transfers(), ["overlap"]) == {"overlap": None}


def test_the_same_weights_count_first_then_the_same_modality_then_most_targets():
    one, two = ({name: REACHED[name]} for name in REACHED)
    other = {"weights_sha256": THERE, "backbone": "deit"}
    text = {"weights_sha256": ELSEWHERE, "backbone": "bert", "modality": "text"}
    both = [*transfers(one), *transfers(REACHED, **other)]
    assert [records(both)["gap"][key] for key in ("kendall", "same_backbone", "backbone")] == [100, True, "vit"]
    from_other = records(both, weights=ELSEWHERE)["gap"]
    assert (from_other["targets"], from_other["same_backbone"], from_other["backbone"]) == (2, False, "deit")
    few = [*transfers(two, **other), *transfers(REACHED, **text)]
    assert records(few)["gap"]["backbone"] == "deit"
    assert records(few, modality="text")["gap"]["backbone"] == "bert"
    # an estimator without evidence here is not looked up elsewhere while another one has some
    scores = SCORES | {"overlap": SCORES["gap"]}
    mixed = [*transfers(), *transfers(scores=scores, **other)]
    assert records(mixed, ["gap", "overlap"])["overlap"] is None
    assert records(mixed, ["overlap"])["overlap"]["backbone"] == "deit"


def test_extreme_scores_make_no_noise():
    scores = {"gap": {"one": [1e30, -1e30, 0]}, "norm": SCORES["norm"]}
    with np.errstate(all="raise"):
        assert records(transfers({"one": REACHED["one"]}, scores))["gap"]["kendall"] == pytest.approx(100 / 3)


RECORD = {
    "backbone": "vit",
    "modality": "vision",
    "same_backbone": True,
    "targets": 7,
    "kendall": 41.4,
    "low": 12.0,
    "high": 62.9,
    "compared": 6,
    "beats_norm": 5,
    "p": 0.109375,
}


@pytest.mark.parametrize(
    ("changes", "long", "short"),
    [
        (
            {},
            "gap: Kendall 41 (12 to 63) on 7 measured targets of this library; beats norm on 5 of 6 (p 0.11)",
            "gap beats norm on 5 of 6 measured targets",
        ),
        (
            {"kendall": -0.3, "low": -100.0, "targets": 1, "compared": 1, "beats_norm": 0, "p": 1.0},
            "gap: Kendall 0 (-100 to 63) on 1 measured target of this library; beats norm on 0 of 1 (p 1)",
            "gap beats norm on 0 of 1 measured target",
        ),
        (
            {"same_backbone": False, "p": 0.0001},
            "gap: Kendall 41 (12 to 63) on 7 measured targets of another backbone, vit; "
            "beats norm on 5 of 6 (p < 0.001)",
            "gap beats norm on 5 of 6 measured targets of another backbone, vit",
        ),
        (
            {"compared": 0, "beats_norm": None, "p": None},
            "gap: Kendall 41 (12 to 63) on 7 measured targets of this library",
            "gap has Kendall 41 on 7 measured targets",
        ),
    ],
)
def test_sentences(changes, long, short):
    assert long_form("gap", RECORD | changes) == long
    assert short_form("gap", RECORD | changes) == short


def test_no_record_is_told():
    assert long_form("overlap", None) == "overlap: no measured transfer in this library"
