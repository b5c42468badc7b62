"""What is said of a race."""

from types import SimpleNamespace

import numpy as np

from promptgraft.adapt.verdict import verdict


def candidate(label, right, source=None, n=100):
    correct = None if right is None else np.arange(n) < right
    return SimpleNamespace(label=label, source=source, val_correct=correct, val_score=lambda: correct)


def test_a_clear_win_and_who_cannot_be_told_apart():
    linear, best = candidate("linear", 60), candidate("spt deep", 90)
    others = [candidate("initial", 89, "text/news"), candidate("vpt deep", 70), candidate("vpt shallow", None)]
    said = verdict(best, linear, [linear, best, *others])
    assert said.startswith("spt deep beats the linear probe by 30.0 points (95 % interval ")
    assert said.endswith("). Not distinguishable from spt deep: initial of text/news.")


def test_a_narrow_win_is_no_win():
    linear, best = candidate("linear", 89), candidate("initial", 90, "text/news")
    said = verdict(best, linear, [linear, best])
    assert said.startswith("initial of text/news is not distinguishable from the linear probe: ahead by 1.0 points")
    assert said.endswith(").")
    assert "Not distinguishable from" not in said


def test_the_linear_probe_wins():
    linear, other = candidate("linear", 90), candidate("vpt deep", 90)
    assert verdict(linear, linear, [linear, other]) == (
        "Nothing beats the linear probe on the validation split: no prompt is needed here. "
        "Not distinguishable from the linear probe: vpt deep."
    )
    worse = candidate("vpt deep", 10)
    assert verdict(linear, linear, [linear, worse]).endswith("no prompt is needed here.")
