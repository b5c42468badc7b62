"""SECURITY.md names tests that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_tests_that_hold_the_promises_are_there() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\w+/)*test_\w+\.py|hostile/)`", text))
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / "tests" / name).exists()]
