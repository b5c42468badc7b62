"""What a study will cost."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from promptgraft.errors import InputError
from promptgraft.study import estimate
from promptgraft.study.estimate import Cost, Estimator, _Probe
from promptgraft.study.plan import plan_study
from promptgraft.study.spec import StudySpec
from promptgraft.study.store import Store
from promptgraft.tasks.embedded import embed_task

MakeSpec = Callable[..., StudySpec]
VPT = {"method": "vpt", "prompt_length": 2}


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """1 s for a forward pass, 3 s for a step, 100 bytes and 10 more for each example; heads cost nothing."""
    shapes: list[tuple[int, int]] = []

    def measure(backbone: Any, tokens: Any, layers: int, length: int, device: str) -> _Probe:
        shapes.append((layers, length))
        return _Probe(forward=1.0, step=3.0, memory=100.0, memory_per_example=10.0)

    monkeypatch.setattr(estimate, "_measure", measure)
    monkeypatch.setattr(Estimator, "_head_seconds", lambda *_: 0.0)
    return shapes


def costs(spec: StudySpec, done: dict[str, Any] | None = None) -> dict[tuple[str, str], Cost]:
    return {(cost.kind, cost.what): cost for cost in Estimator(1, "cpu").costs(plan_study(spec), done or {})}


def test_costs_are_composed_of_what_was_probed(tiny_study: MakeSpec, faked: list[tuple[int, int]]) -> None:
    found = costs(tiny_study())
    assert list(found) == [("train", "linear"), ("train", "vpt deep")]
    head, deep = found.values()
    assert head.seconds == 16 + 8 + 16  # one look at everything
    assert deep.seconds == 40 + 2 * (3 * 16 + 8)  # and two epochs
    assert (head.trials, head.done, head.left, head.basis) == (2, 0, 80, "probe")
    assert deep.memory == 100 + 8 * 10  # a batch of 8
    assert faked == [(2, 1), (2, 2)]


def test_more_epochs_and_larger_batches_cost_more(tiny_study: MakeSpec, faked: list[tuple[int, int]]) -> None:
    def cost(**recipe: Any) -> Cost:
        return costs(tiny_study(methods=[VPT], recipe=recipe))["train", "vpt deep"]

    seconds = [cost(epochs=epochs).seconds for epochs in (1, 2, 4)]
    assert np.diff(seconds).tolist() == [56, 112]
    memory = [cost(batch_size=size).memory for size in (4, 8, 16)]
    assert np.diff(memory).tolist() == [40, 80]  # type: ignore[arg-type]


def test_settings_of_a_search_cost_what_they_say(tiny_study: MakeSpec, faked: list[tuple[int, int]]) -> None:
    found = costs(tiny_study(methods=[VPT], seeds=[0], search={"over": {"lr": [0.1, 0.2], "epochs": [4]}}))
    assert found["search", "vpt deep"].seconds == 40 + 4 * 56
    assert found["search", "vpt deep"].trials == 2
    assert found["final", "vpt deep"].seconds == 40 + 2 * 56


def test_sources_and_estimates_are_costed_too(
    tiny_study: MakeSpec, faked: list[tuple[int, int]], tiny_bert_folder: Path, texts_csv: Path
) -> None:
    other = texts_csv.with_name("other.csv")
    other.write_text(texts_csv.read_text().replace("film", "song very"))
    tune = {"backbone": f"dir:{tiny_bert_folder}", "tasks": [str(texts_csv), str(other)], "recipe": {"epochs": 1}}
    spec = tiny_study(sources={"tune": [tune]}, methods=["projection"], estimators=["norm"])
    found = costs(spec)
    assert list(found) == [
        ("source", "vpt shallow"),
        ("head", "linear"),
        ("estimate", "norm"),
        ("train", "projection"),
    ]
    assert {cost.basis for cost in found.values()} == {"probe"}
    assert set(faked) == {(1, 10), (1, 1), (2, 1)}
    assert all(cost.seconds > 0 for cost in found.values())


def test_a_model_that_is_read_at_a_prompt_takes_no_head_alone_and_no_deep_prompt(
    tiny_study: MakeSpec, faked: list[tuple[int, int]], tiny_bert_folder: Path, texts_csv: Path, tmp_path: Path
) -> None:
    from transformers import BertConfig, BertForMaskedLM

    folder = shutil.copytree(tiny_bert_folder, tmp_path / "masked")
    BertForMaskedLM(BertConfig.from_pretrained(folder)).save_pretrained(folder)
    backbone = {"name": f"dir:{folder}", "pool": "mask"}
    words = {"epochs": 1, "verbalizer": ["bad", "good"]}
    task = {"task": str(texts_csv), "n_train": 8, "n_val": 4, "n_test": 4}
    spec = tiny_study(
        backbones=[backbone],
        targets=[task],
        sources={"same_task": True, "tune": [{"backbone": backbone, "tasks": [task], "recipe": words}]},
        methods=[{"method": "relative", "recipe": words}],
        seeds=[0],
    )
    assert list(costs(spec)) == [("source", "vpt shallow"), ("train", "relative")]
    assert {layers for layers, _ in faked} == {1}


def test_what_was_measured_is_believed(tiny_study: MakeSpec, faked: list[tuple[int, int]]) -> None:
    spec = tiny_study(seeds=[0, 1, 2])
    heads = [trial.key for trial in plan_study(spec).trials if trial.labels["method"] == "linear"]
    done = {heads[0]: {"seconds": 2.0, "peak_memory": 70}, heads[1]: {"seconds": 4.0, "peak_memory": None}}
    found = costs(spec, done)
    assert found["train", "linear"] == Cost("train", "linear", 3, 2, 3.0, 70, "measured")
    assert found["train", "linear"].left == 3.0
    assert found["train", "vpt deep"].basis == "probe"


def test_a_finished_study_costs_no_more(finished_study: Path, own_cache: Path, one_thread: None) -> None:
    from promptgraft.study.document import read_spec

    store = Store(finished_study, "finished")
    done = {record.key: dict(record.measured or {}) for record in store.records()}
    store.close()
    found = Estimator(1, "cpu").costs(plan_study(read_spec(finished_study / "study.yaml")), done)
    assert sum(cost.left for cost in found) == 0
    assert {cost.basis for cost in found} == {"measured"}


def test_a_probe_measures_something(tiny_study: MakeSpec) -> None:
    for cost in costs(tiny_study(seeds=[0])).values():
        assert 0 < cost.seconds < 60
        assert cost.memory is not None
        assert cost.memory > 1 << 20


def test_disk_is_that_of_the_token_files(tiny_study: MakeSpec, own_cache: Path, image_folder: Path) -> None:
    target = {"task": str(image_folder), "n_train": 16, "n_val": 8, "n_test": 16}
    plan = plan_study(tiny_study(targets=[target, target | {"split_seed": 5, "label": "other"}]))
    estimator = Estimator(1, "cpu")
    expected = estimator.disk(plan)
    assert not (own_cache / "tokens").exists()
    for trial in plan.trials:
        embed_task(estimator._worker.backbone(trial), estimator._worker.task(trial))
    files = list((own_cache / "tokens").glob("*.npy"))
    assert len(files) == 3 * 3  # three splits, each divided with seeds 0, 1 and 5
    assert sum(np.load(file).nbytes for file in files) == expected


def test_texts_take_no_disk(tiny_study: MakeSpec, tiny_bert_folder: Path, texts_csv: Path) -> None:
    spec = tiny_study(backbones=[f"dir:{tiny_bert_folder}"], targets=[str(texts_csv)])
    assert Estimator(1, "cpu").disk(plan_study(spec)) == 0


def test_a_target_that_cannot_be_divided_is_named(tiny_study: MakeSpec, image_folder: Path) -> None:
    plan = plan_study(tiny_study(targets=[{"task": str(image_folder), "n_train": 1000}]))
    with pytest.raises(InputError, match="1000"):
        Estimator(1, "cpu").costs(plan, {})
