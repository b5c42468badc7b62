"""How far a study is; reads the store alone, so it answers at once while drivers are at work."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from promptgraft.readme import printable
from promptgraft.report.tables import Column, table
from promptgraft.study.store import Record, Store

_LISTED = 10
_IDLE = 10  # seconds without a running trial, after one has failed, before watching ends
STATES = ("done", "running", "pending", "failed")


def look(store: Store) -> dict[str, Any]:
    """Counts by kind and state, what runs now, and what failed, as JSON can hold it.

    `lost` is true of a running trial whose driver has died: the next driver takes it over.
    """
    counts, lost = store.counts(), set(store.orphans())
    return {
        "study": store.study,
        "counts": counts,
        "trials": sum(sum(states.values()) for states in counts.values()),
        "done": sum(states.get("done", 0) for states in counts.values()),
        "running": [
            _brief(record) | {"lost": record.key in lost} for record in store.records(state="running", curves=False)
        ],
        "failed": [_brief(record) | {"error": record.error} for record in store.records(state="failed", curves=False)],
    }


def show(seen: Mapping[str, Any]) -> None:
    """Print what `look` saw."""
    Console(highlight=False).print(_lines(seen), soft_wrap=True)


def follow(store: Store) -> None:
    """Show it anew every second until nothing is left that may still run."""
    idle = 0
    with Live(console=Console(highlight=False), auto_refresh=False) as live:
        while True:
            seen = look(store)
            live.update(_lines(seen), refresh=True)
            left = seen["trials"] - seen["done"] - len(seen["failed"])
            idle = idle + 1 if seen["failed"] and not seen["running"] else 0
            if not left or idle == _IDLE:  # what is left waits for what failed
                return
            time.sleep(1.0)


def _lines(seen: Mapping[str, Any]) -> Group:
    rows = [
        {"kind": kind} | {state: states.get(state, 0) for state in STATES} for kind, states in seen["counts"].items()
    ]
    columns = [Column("kind", "kind"), *(Column(state, state, right=True) for state in STATES)]
    lines = [Text(f"study {seen['study']}: {seen['done']} of {seen['trials']} trials done"), table(rows, columns)]
    for trial in seen["running"][:_LISTED]:
        state = "stopped" if trial["lost"] else "running"  # by a kill: `resume` takes it over
        lines.append(Text(f"{state}  {trial['key'][:12]}  {printable(trial['what'])}"))
    for trial in seen["failed"][:_LISTED]:
        said = printable(f"{trial['what']}: {trial['error']}")
        lines.append(Text(f"failed   {trial['key'][:12]}  {said}"))
    if (more := len(seen["failed"]) - _LISTED) > 0:
        lines.append(Text(f"and {more} more failed; --json lists them all"))
    return Group(*lines)


def _brief(record: Record) -> dict[str, Any]:
    return {"key": record.key, "kind": record.kind, "what": words(record.labels)}


def words(labels: Mapping[str, Any]) -> str:
    """A trial in a few words."""
    what = labels.get("method") or labels.get("estimator")
    source = f" of {labels['source']}" if labels.get("source") else ""
    return f"{what}{source}, {labels['target']}, seed {labels['seed']}"
