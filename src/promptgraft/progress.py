"""Progress bars for long steps: rate and time left on a terminal, silence in a pipe."""

import contextlib
import os
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from promptgraft.readme import printable


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        unit, speed = task.fields.get("unit", "it"), task.speed
        if speed and speed < 1:
            return Text(f"{1 / speed:.1f} s/{unit}", style="progress.data.speed")
        return Text(f"{speed:.0f} {unit}/s" if speed else f"- {unit}/s", style="progress.data.speed")


class Bar:
    """One running step; `advance` moves it on and `note` shows a short text beside it."""

    def __init__(self, progress: Progress, description: str, total: int, unit: str) -> None:
        self._progress = progress
        self._task = progress.add_task(f"{description:<13}", total=total, unit=unit, note="")

    def advance(self, steps: int = 1) -> None:
        """Move the bar on by `steps`."""
        self._progress.advance(self._task, steps)

    def note(self, text: str) -> None:
        """Show `text` at the end of the bar."""
        self._progress.update(self._task, note=printable(text))

    def remove(self) -> None:
        """Take the bar off the display."""
        self._progress.remove_task(self._task)


_shown: Progress | None = None
"""The display of the outermost running bar: a terminal has room for one."""


@contextlib.contextmanager
def progress_bar(description: str, total: int, unit: str = "it") -> Iterator[Bar]:
    """Show a bar on standard error while the block runs; silent off a terminal or with `PROMPTGRAFT_PROGRESS=0`.

    A bar inside another bar's block stands below that one, and goes away when its block ends.

    Args:
        description: what is being done, in one or two words.
        total: the number of steps.
        unit: what a step is, such as "img".
    """
    global _shown
    if _shown is not None:
        bar = Bar(_shown, description, total, unit)
        try:
            yield bar
        finally:
            bar.remove()
        return
    console = Console(stderr=True)
    hidden = not console.is_terminal or os.environ.get("PROMPTGRAFT_PROGRESS") == "0"
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, disable=hidden) as _shown:
        try:
            yield Bar(_shown, description, total, unit)
        finally:
            _shown = None
