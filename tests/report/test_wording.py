import math

import pytest

from promptgraft.report import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.0 k"),
        (3465, "3.5 k"),
        (9960, "10 k"),
        (92_160, "92 k"),
        (999_600, "1.0 M"),
        (2.3e6, "2.3 M"),
    ],
)
def test_compact(value, text):
    assert wording.compact(value).replace(wording.NBSP, " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.94, "0.9 s"), (48.4, "48 s"), (59.7, "1 min 0 s"), (171.2, "2 min 51 s"), (3720, "1 h 2 min")],
)
def test_duration(value, text):
    assert wording.duration(value).replace(wording.NBSP, " ") == text


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "x", True])
def test_what_is_not_a_number_is_a_dash(value):
    for write in (wording.percent, wording.points, wording.compact, wording.duration):
        assert write(value) == wording.DASH


def test_points_carry_their_sign():
    assert wording.points(0.0324) == "+3.2"
    assert wording.points(-0.01) == "−1.0"
