"""How much of each source the methods took that weigh several, and how far the gradients of the sources agree."""

from collections.abc import Mapping, Sequence
from typing import Any

from promptgraft.study.grouping import grouped, mean_of
from promptgraft.study.store import Record

PLACE = ("backbone", "target", "method")


def source_weights(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One row for each target and method that weighs several sources.

    Args:
        records: trials on targets, in the order of the plan.

    Returns:
        rows `backbone`, `target`, `method`, `n` (seeds); `sources`, `weights` (means over seeds; a seed that did not
        take a source gave it 0); `cosines`, of the gradients of every two sources at the start as rows and columns in
        the order of `sources`, means over the seeds that took both, None where the method looks at no gradients.
    """
    known = [(record.labels, record.result) for record in records if record.result and "weights" in record.result]
    rows = []
    for where, members in grouped(known, lambda pair: tuple(pair[0][name] for name in PLACE)).items():
        results = [result for _, result in members]
        names = list(dict.fromkeys(name for result in results for name in result["sources"]))
        weights = [dict(zip(result["sources"], result["weights"], strict=True)) for result in results]
        row = dict(zip(PLACE, where, strict=True)) | {"n": len(results), "sources": names}
        row["weights"] = [mean_of([own.get(name, 0.0) for own in weights]) for name in names]
        row["cosines"] = _cosines(names, [result for result in results if "gradient_cosines" in result])
        rows.append(row)
    return rows


def _cosines(names: Sequence[str], results: Sequence[Mapping[str, Any]]) -> list[list[float | None]] | None:
    if not results:
        return None
    known: dict[tuple[str, str], list[float]] = {}
    for result in results:
        for name, line in zip(result["sources"], result["gradient_cosines"], strict=True):
            for other, value in zip(result["sources"], line, strict=True):
                known.setdefault((name, other), []).append(value)
    return [[mean_of(known.get((name, other), [])) for other in names] for name in names]
