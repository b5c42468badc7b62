"""Puts what was measured into the pages of docs/: a table after each comment that names where its figures are from.

    promptgraft bench --json > benchmarks/pocket.json
    python benchmarks/growth.py
    python benchmarks/page.py

A table of a page stands between a line such as `<!-- benchmarks/pocket.json -->` and `<!-- end -->`. Those of races
are replayed from the studies' learning curves, see `race.py`, and those of `self_prompt.py` are read from them.
`tests/test_performance_page.py` holds all pages to it.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import between_widths
import growth
import mutual_information
import race
import self_prompt
import stopping

HERE = Path(__file__).parent
NAMES = ("performance.md", "analysis.md", "zero-shot.md", "self-prompt-tuning.md")
PAGES = [HERE.parent / "docs" / name for name in NAMES]
NOT_YET = ["Not measured yet."]
MARK = re.compile(r"<!-- (benchmarks/[^>]+) -->\n.*?<!-- end -->\n", re.DOTALL)


def bench_table(path: Path) -> list[str]:
    """Rows of `promptgraft bench --json`, and where they were measured."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        "| bench | baseline | baseline, s | ours, s | ratio | floors | baseline, MB | ours, MB | error |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
        *map(_line, rows),
    ]
    return [*lines, *_where(rows)]


def _line(row: Mapping[str, Any]) -> str:
    cells = [
        row["name"],
        row["baseline"],
        f"{row['baseline_seconds']:,.3g}",
        f"{row['seconds']:.3g}",
        f"{row['ratio']:,.2f}",
        "" if row["floor"] is None else f"{row['seconds'] / row['floor']:.1f}",
        *("" if row[name] is None else f"{row[name] / 1e6:,.0f}" for name in ("baseline_memory", "memory")),
        f"{'' if row['exact'] else '~'}{row['error']:.0e}",
    ]
    return f"| {' | '.join(cells)} |"


def _where(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line below a table for each date, set of versions and machine, with the load averages that it had."""
    loads: dict[str, list[float]] = {}
    for row in rows:
        machine, load = row["machine"].rsplit(", load ", 1)
        loads.setdefault(f"Measured {row['date']} with {row['versions']}, on {machine}", []).append(float(load))
    return ["", *(f"{where}, load {min(load)} to {max(load)}." for where, load in loads.items())]


def _if_there(path: Path, make: Callable[[Path], list[str]]) -> list[str]:
    return make(path) if path.exists() else NOT_YET


def growth_table(path: Path) -> list[str]:
    """What `growth.py` measured."""
    points = json.loads(path.read_text(encoding="utf-8"))
    figure = (
        "![Seconds over images, tokens, prompt length, sources and library size, ours and the baseline](growth.svg)"
    )
    return ["", figure, "", *growth.table(points), *_where(points)]


def tables() -> dict[str, Callable[[], list[str]]]:
    """What makes the table after each mark."""
    studies = HERE.parent / "studies"

    def prompts() -> list[self_prompt.Trial]:
        return self_prompt.trials(studies / "self-prompt")

    def raced(study: str, **how: Any) -> Callable[[], list[str]]:
        return lambda: race.table([studies / study], **how)

    return {
        "benchmarks/pocket.json": lambda: _if_there(HERE / "pocket.json", bench_table),
        "benchmarks/paper.json": lambda: _if_there(HERE / "paper.json", bench_table),
        "benchmarks/library-paper.json": lambda: _if_there(HERE / "library-paper.json", bench_table),
        "benchmarks/growth.json": lambda: _if_there(HERE / "growth.json", growth_table),
        "benchmarks/mutual_information.json": lambda: mutual_information.table(
            json.loads((HERE / "mutual_information.json").read_text(encoding="utf-8"))
        ),
        "benchmarks/between_widths.json": lambda: _if_there(
            HERE / "between_widths.json",
            lambda path: between_widths.table(json.loads(path.read_text(encoding="utf-8"))),
        ),
        "benchmarks/race.py studies/cross-modality": raced("cross-modality"),
        "benchmarks/race.py studies/cross-modality --field 8": raced("cross-modality", field=8),
        "benchmarks/race.py studies/ensembles": raced("ensembles"),
        "benchmarks/race.py studies/self-prompt --prompts": raced("self-prompt", prompts=True),
        "benchmarks/stopping.py studies/search": lambda: stopping.table(studies / "search"),
        "benchmarks/self_prompt.py against": lambda: self_prompt.against(prompts()),
        "benchmarks/self_prompt.py starts": lambda: self_prompt.starts(prompts()),
        "benchmarks/self_prompt.py lengths": lambda: self_prompt.lengths(prompts()),
    }


def filled(text: str) -> str:
    """A page with its tables as they should be."""
    made = tables()

    def fill(found: re.Match[str]) -> str:
        return "\n".join([f"<!-- {found[1]} -->", *made[found[1]](), "<!-- end -->", ""])

    return MARK.sub(fill, text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
