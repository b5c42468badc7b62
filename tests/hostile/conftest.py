"""`search`: hypothesis against one reader; short, or as long as PROMPTGRAFT_FUZZ_SECONDS asks for."""

from pathlib import Path
from typing import Any

import pytest

from hostile.searching import CASES, REFUSED, SECONDS, Search

_SHARE = pytest.StashKey[float]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Share the time out among the searches."""
    searches = [item for item in items if "search" in getattr(item, "fixturenames", ())]
    for item in searches:
        item.stash[_SHARE] = SECONDS / len(searches)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many cases each search has tried, where it was asked for a time."""
    if SECONDS:
        terminalreporter.section("hostile cases")
        for name, count in sorted(CASES.items()):
            terminalreporter.write_line(f"{count:>9,} {name}, {REFUSED[name]:,} of them refused")


@pytest.fixture
def search(request: pytest.FixtureRequest) -> Search:
    """Tries spoilt folders on a reader: `search(read, strategy)`."""
    return Search(request.node.name.removeprefix("test_"), request.node.stash[_SHARE])


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network; caches and libraries of this test alone."""
    for variable, value in (("CACHE", tmp_path / "cache"), ("LIBRARY", tmp_path / "library"), ("OFFLINE", "1")):
        monkeypatch.setenv(f"PROMPTGRAFT_{variable}", str(value))
