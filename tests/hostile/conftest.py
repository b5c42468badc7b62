"""`search`: hypothesis against one reader; short, or as long as PROMPTGRAFT_FUZZ_SECONDS asks for."""

from pathlib import Path
from typing import Any

import pytest

from hostile.searching import CASES, REFUSED, SECONDS, SPENT, Search

_SHARE = pytest.StashKey[float]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Share the time out among the searches."""
    searches = [item for item in items if "search" in getattr(item, "fixturenames", ())]
    for item in searches:
        item.stash[_SHARE] = SECONDS / len(searches)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many cases each search has tried and in what time, where it was asked for one."""
    if SECONDS:
        terminalreporter.section("hostile cases")
        for name, seconds in sorted(SPENT.items()):
            terminalreporter.write_line(f"{CASES[name]:>9,} {name}, {REFUSED[name]:,} refused, {seconds:,.0f} s")
        total = f"{sum(CASES.values()):>9,} by {len(SPENT)} searches, {sum(REFUSED.values()):,} refused"
        terminalreporter.write_line(f"{total}, {sum(SPENT.values()):,.0f} s")


@pytest.fixture
def search(request: pytest.FixtureRequest) -> Search:
    """Tries spoilt folders on a reader: `search(read, strategy)`."""
    return Search(request.node.name.removeprefix("test_"), request.node.stash[_SHARE])


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network; caches and libraries of this test alone."""
    for variable, value in (("CACHE", tmp_path / "cache"), ("LIBRARY", tmp_path / "library"), ("OFFLINE", "1")):
        monkeypatch.setenv(f"PROMPTGRAFT_{variable}", str(value))
