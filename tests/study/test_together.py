"""Methods that take several sources, in a study."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptgraft.errors import InputError
from promptgraft.library import PromptLibrary
from promptgraft.prompt import SoftPrompt
from promptgraft.study import estimate
from promptgraft.study.drive import run_study
from promptgraft.study.engines.base import Resources
from promptgraft.study.engines.inline import InlineEngine
from promptgraft.study.estimate import Estimator
from promptgraft.study.evidence import give_evidence
from promptgraft.study.plan import Plan, plan_study
from promptgraft.study.spec import StudySpec
from promptgraft.study.store import Store
from promptgraft.study.summary import summarize

MakeSpec = Callable[..., StudySpec]


@pytest.fixture
def prompts(tmp_path: Path, make_prompt: Callable[..., SoftPrompt]) -> Path:
    """A library of three shallow prompts, of norms that rise, and a deep one."""
    library = PromptLibrary(tmp_path / "prompts")
    for number, name in enumerate("abc"):
        prompt = make_prompt(dim=32, length=3, name=name, seed=number)
        library.add(SoftPrompt(prompt.tensor * (1 + number), prompt.card), name)
    library.add(make_prompt(dim=32, layers=2, length=3, name="deep", seed=9), "deep")
    return library.folder


def trains(plan: Plan) -> list[Any]:
    return [trial for trial in plan.trials if trial.kind == "train"]


def test_all_that_fit_are_one_trial(tiny_study: MakeSpec, prompts: Path) -> None:
    spec = tiny_study(sources={"library": str(prompts)}, methods=["average", "initial"], seeds=[0])
    plan = plan_study(spec)
    together, *alone = trains(plan)
    library = PromptLibrary(prompts)
    assert together.labels["source"] == "all"
    assert together.identity["sources"] == [{"prompt": library[name].id} for name in "abc"]
    assert together.places["sources"] == ["a", "b", "c"]
    assert together.places["shape"] == [1, 3]
    assert "choice" not in together.identity
    assert [trial.labels["source"] for trial in alone] == ["a", "b", "c", "deep"]
    (reason,) = plan.left_out
    assert reason.startswith("average of deep on vit: prompt 'deep' is deep (2 layers); average carries shallow")


def test_named_ones(tiny_study: MakeSpec, prompts: Path) -> None:
    chosen = {"method": "concatenation", "sources": ["c", "a"]}
    (trial,) = trains(plan_study(tiny_study(sources={"library": str(prompts)}, methods=[chosen], seeds=[0])))
    assert (trial.labels["source"], trial.places["sources"]) == ("a + c", ["a", "c"])
    with pytest.raises(InputError, match="there is no source prompt 'd'"):
        plan_study(tiny_study(sources={"library": str(prompts)}, methods=[chosen | {"sources": ["d", "a"]}]))


@pytest.fixture
def mixed(tiny_vit_folder: Path, tiny_bert_folder: Path, image_folder: Path, texts_csv: Path) -> dict[str, Any]:
    """Sources that the study tunes: three of images, one of them of the target's own task, and one of texts."""
    sizes = {"n_train": 8, "n_val": 4, "n_test": 4}
    dark = [{"task": str(folder), "label": folder.name} | sizes for folder in _others(image_folder, texts_csv.parent)]
    own = {"task": str(image_folder), "label": "own"} | sizes
    common = {"prompt_length": 3, "recipe": {"epochs": 1}}
    return {
        "tune": [
            {"backbone": f"dir:{tiny_vit_folder}", "tasks": [*dark, own]} | common,
            {"backbone": f"dir:{tiny_bert_folder}", "tasks": [{"task": str(texts_csv), "label": "words"}]} | common,
        ]
    }


def _others(folder: Path, place: Path) -> list[Path]:
    """Two further folders of images, each without another file."""
    made = []
    for name in ("first", "second"):
        made.append(Path(shutil.copytree(folder, place / name)))
        sorted(made[-1].rglob("*.png"))[len(made)].unlink()
    return made


def test_those_of_a_modality_but_for_the_targets_own(tiny_study: MakeSpec, mixed: dict[str, Any]) -> None:
    methods = [
        {"method": "average", "sources": {"modality": "vision"}, "label": "seen"},
        {"method": "average", "label": "both"},
        {"method": "initial", "sources": {"modality": "vision"}},
        {"method": "concatenation", "sources": {"modality": "text"}},
    ]
    plan = plan_study(tiny_study(sources=mixed, methods=methods, seeds=[0]))
    taken = [(trial.labels["method"], trial.labels["source"], trial.places["sources"]) for trial in trains(plan)]
    seen = ["vision/first", "vision/second"]
    assert taken == [
        ("seen", "all of vision", seen),
        ("both", "all", [*seen, "text/words"]),
        *(("initial", name, [name]) for name in seen),
    ]
    assert [trial.places.get("projected") for trial in trains(plan)] == [0, 1, None, None]
    assert "vision/own for photos: it was tuned on this task; `same_task: true` takes it" in plan.left_out
    assert "concatenation for photos: it takes two source prompts or more, got 1" in plan.left_out


def test_the_best_of_a_modality(tiny_study: MakeSpec, mixed: dict[str, Any]) -> None:
    best = {"top": 2, "by": "norm", "modality": "vision"}
    methods = [{"method": "average", "sources": best}, {"method": "initial", "sources": best}]
    plan = plan_study(tiny_study(sources=mixed, methods=methods, estimators=["norm"], seeds=[0]))
    assert [trial.labels["source"] for trial in trains(plan)] == [
        "top 2 of vision by norm",
        "#1 of vision by norm",
        "#2 of vision by norm",
    ]
    assert {trial.identity["choice"]["places"][-1] for trial in trains(plan)} == {1}  # of three, one of them of texts


def test_evidence_and_projections_are_costed(
    tiny_study: MakeSpec, mixed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "_measure", lambda *_: estimate._Probe(1.0, 3.0, 100.0, 10.0))
    monkeypatch.setattr(Estimator, "_head_seconds", lambda *_: 0.0)
    methods = [{"method": "hgprompt", "sources": {"modality": "vision"}, "label": "seen"}, "hgprompt"]
    spec = tiny_study(sources=mixed, methods=methods, seeds=[0])
    found = {
        cost.what: cost.seconds for cost in Estimator(1, "cpu").costs(plan_study(spec), {}) if cost.kind == "train"
    }
    look, epochs = 16 + 8 + 16, 2 * (3 * 16 + 8)
    assert found == {"seen": look + epochs + 2 * 3 * 16, "hgprompt": look + 2 * epochs + 3 * 3 * 16}


def test_the_best_of_a_ranking(tiny_study: MakeSpec, prompts: Path) -> None:
    chosen = {"method": "average", "sources": {"top": 2, "by": "norm"}}
    spec = tiny_study(sources={"library": str(prompts)}, methods=[chosen], estimators=["gap", "norm"], seeds=[0])
    plan = plan_study(spec)
    (trial,) = trains(plan)
    estimate = next(each for each in plan.trials if each.labels.get("estimator") == "norm")
    assert trial.labels["source"] == "top 2 by norm"
    assert trial.needs == (estimate.key,)
    assert trial.identity["choice"] == {"top": 2, "estimate": estimate.key, "places": [0, 1, 2]}


@pytest.mark.parametrize("sources", [["a"], {"top": 1, "by": "norm"}])
def test_one_source_is_left_out_with_the_reason(tiny_study: MakeSpec, prompts: Path, sources: Any) -> None:
    chosen = {"method": "average", "sources": sources}
    plan = plan_study(
        tiny_study(sources={"library": str(prompts)}, methods=[chosen], estimators=["norm"], seeds=[0, 1])
    )
    assert trains(plan) == []
    assert "average for photos: it takes two source prompts or more, got 1" in plan.left_out
    assert sum("two source prompts" in reason for reason in plan.left_out) == 1  # once, not for each seed


def test_they_run_and_are_no_evidence(tiny_study: MakeSpec, prompts: Path, tmp_path: Path) -> None:
    top = {"sources": {"top": 2, "by": "norm"}}
    methods = ["linear", {"method": "average"} | top, "hgprompt", "attempt", "initial"]
    spec = tiny_study(
        sources={"library": str(prompts)},
        methods=methods,
        estimators=["norm", "h-score"],
        recipe={"epochs": 1},
        seeds=[0],
    )
    store = Store(tmp_path, spec.study)
    run_study(plan_study(spec), store, InlineEngine(Resources()))
    assert {record.state for record in store.records()} == {"done"}
    tried = [record for record in store.records() if record.kind == "train"]
    records = {(record.labels["method"], record.labels["source"]): record for record in tried}
    average = records["average", "top 2 by norm"].result or {}
    assert average["sources"] == ["c", "b"]
    assert average["weights"] == [0.5, 0.5]
    weighed = records["hgprompt", "all"].result or {}
    assert weighed["sources"] == ["a", "b", "c"]
    assert np.sum(weighed["weights"]) == pytest.approx(1)
    assert np.shape(weighed["gradient_cosines"]) == (3, 3)
    attended = records["attempt", "all"].result or {}
    assert 0 < np.sum(attended["weights"]) < 1  # the rest is the new prompt's
    assert "gradient_cosines" not in average
    rows = {(row["method"], row["source"]) for row in summarize(store)["rows"]}
    assert {("average", "top 2 by norm"), ("hgprompt", "all"), ("attempt", "all")} <= rows
    given = give_evidence(store, PromptLibrary(tmp_path / "library"))
    assert {transfer.method for transfer in given.transfers} == {"initial"}
    scores = next(transfer.scores for transfer in given.transfers if transfer.source == "a")
    assert set(scores) == {"norm", "h-score"}
    store.close()


def test_a_search_ends_in_one_training_with_the_same_sources(tiny_study: MakeSpec, prompts: Path) -> None:
    spec = tiny_study(
        sources={"library": str(prompts)}, methods=["average"], search={"over": {"lr": [0.1, 0.01]}}, seeds=[0]
    )
    plan = plan_study(spec)
    assert [trial.kind for trial in plan.trials] == ["search", "search", "final"]
    assert len({str(trial.identity["sources"]) for trial in plan.trials}) == 1
    assert all(trial.labels["source"] == "all" for trial in plan.trials)
