from collections.abc import Callable
from pathlib import Path

from promptgraft.study.drive import run_study
from promptgraft.study.engines.base import Resources
from promptgraft.study.engines.inline import InlineEngine
from promptgraft.study.plan import plan_study
from promptgraft.study.spec import StudySpec
from promptgraft.study.store import Store


def results(store: Store) -> dict[str, object]:
    return {record.key: record.result for record in store.records()}


def test_a_study_runs_once_and_is_then_found(tmp_path: Path, tiny_study: Callable[..., StudySpec]) -> None:
    plan = plan_study(tiny_study(sources=True))
    store = Store(tmp_path, "tiny")
    first = run_study(plan, store, InlineEngine(Resources()))
    assert (first.total, first.done, first.failed, first.blocked) == (7, 7, 0, 0)
    assert set(store.states().values()) == {"done"}
    assert run_study(plan, store, InlineEngine(Resources())).done == 0


def test_what_is_added_runs_alone(tmp_path: Path, tiny_study: Callable[..., StudySpec]) -> None:
    store = Store(tmp_path, "tiny")
    run_study(plan_study(tiny_study()), store, InlineEngine(Resources()))
    before = results(store)
    more = run_study(plan_study(tiny_study(seeds=[0, 1, 2])), store, InlineEngine(Resources()))
    assert more.done == 2
    assert before.items() <= results(store).items()
