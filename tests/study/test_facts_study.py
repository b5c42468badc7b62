"""Studies of facts: planned, run, stopped, summarised and reported, on tiny models."""

import json
import re

import pytest

from probing.probers import prober, prober_folder, tiny_facts
from promptgraft.errors import InputError
from promptgraft.files import cache_root
from promptgraft.probing import tuning
from promptgraft.probing.comparison import Way, compare_facts
from promptgraft.probing.tuning import FactRecipe
from promptgraft.report.study_page import render_study
from promptgraft.report.study_tables import latex, markdown
from promptgraft.study.document import read_spec
from promptgraft.study.estimate import Estimator
from promptgraft.study.plan import plan_study
from promptgraft.study.session import run_folder
from promptgraft.study.store import Store
from promptgraft.study.summary import summarize
from promptgraft.tasks.fact_files import SPLITS

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")
BERT, ALBERT = prober_folder("bert"), prober_folder("albert")


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "tiny"
    data.mkdir()
    facts = tiny_facts()
    lines = [json.dumps({"relation": each.name, "template": each.template}) for each in facts.relations]
    (data / "relations.jsonl").write_text("\n".join(lines))
    for split in SPLITS:
        lines = [
            json.dumps({"relation": each.name, "subject": fact.subject, "object": fact.object})
            for each in facts.relations
            for fact in each.split(split)
        ]
        (data / f"{split}.jsonl").write_text("\n".join(lines))
    study = tmp_path / "s"
    study.mkdir()
    (study / "study.yaml").write_text(
        f"""
study: told
backbones:
  - {{name: "{BERT}", max_length: 24, label: bert}}
  - {{name: "{ALBERT}", max_length: 24, label: albert}}
targets: [{data}]
facts:
  sources: [bert]
  methods:
    - {{method: relative, options: {{top_k: 40}}}}
    - {{method: relative, options: {{top_k: 40, keep_spread: true}}, label: spread}}
    - copy
    - manual
    - tuned
  recipe: {{prompt_length: 2, epochs: 2, lr: 0.05}}
  other_lengths: [1]
seeds: [0, 1]
"""
    )
    return study


def test_a_trial_for_each_model_seed_and_length(folder):
    plan = plan_study(read_spec(folder / "study.yaml"))
    found = [
        (t.labels["backbone"], t.labels["prompt_length"], t.labels["seed"], len(t.identity["ways"]))
        for t in plan.trials
    ]
    assert found == [
        ("bert", 2, 0, 5),
        ("albert", 2, 0, 2),
        ("bert", 1, 0, 2),
        ("bert", 2, 1, 5),
        ("albert", 2, 1, 2),
        ("bert", 1, 1, 2),
    ]
    assert [way[2] for way in plan.trials[2].identity["ways"]] == ["tuned", "relative"]
    assert {fact.kind for fact in plan.facts} == {"weights", "data"}
    assert len({trial.key for trial in plan.trials}) == 6
    [cost, other] = Estimator(1, "cpu").costs(plan, {})
    assert (cost.what, cost.trials, other.what, other.trials) == ("facts, 2 rows", 4, "facts, 1 rows", 2)
    assert cost.seconds > 0
    assert Estimator(1, "cpu").disk(plan) == 0


def test_rows_are_those_of_the_comparison(folder):
    ended = run_folder(folder)
    assert (ended.total, ended.done, ended.failed) == (6, 6, 0)
    summary = summarize(Store(folder, "told"))
    rows = {(r["length"], r["method"], r["source"], r["target"]): r for r in summary["facts"]}
    assert len(rows) == 2 * 2 + 3 * 2 + 1 + 2
    bert, albert = (prober(family, dtype="float32") for family in ("bert", "albert"))
    ways = [Way("relative", {"top_k": 40}), Way("relative", {"top_k": 40, "keep_spread": True}, "spread"), "manual"]
    recipe = FactRecipe(prompt_length=2, epochs=2, lr=0.05)
    names = {bert.info.name: "bert", albert.info.name: "albert", None: None}
    by_seed = [
        compare_facts(tiny_facts(), [bert], [bert, albert], methods=ways, recipe=recipe, seed=seed).rows
        for seed in (0, 1)
    ]
    for first, second in zip(*by_seed, strict=True):
        row = rows[2, first.method, names[first.source], names[first.target]]
        assert (row["n"], row["facts"]) == (2, first.accuracy.n) == (2, 8)
        assert row["mean"] == pytest.approx((first.accuracy.value + second.accuracy.value) / 2)
        assert row["by_relation"] == pytest.approx((first.mean + second.mean) / 2)
        if first.source:
            assert row["matching_loss"] == pytest.approx((first.matching_loss + second.matching_loss) / 2)
    copied = rows[2, "copy", "bert", "albert"]
    assert copied["n"] == 0
    assert copied["mean"] is None
    assert "32 wide" in copied["note"]
    own, tuned = rows[2, "copy", "bert", "bert"], rows[2, "tuned", None, "bert"]
    assert own["mean"] == tuned["mean"]
    assert rows[2, "spread", "bert", "bert"]["low"] <= rows[2, "spread", "bert", "bert"]["mean"]
    assert not rows[1, "tuned", None, "bert"]["main"]
    again = run_folder(folder)
    assert (again.done, again.failed) == (0, 0)


def test_sources_together(folder):
    path = folder / "study.yaml"
    path.write_text(path.read_text().replace("sources: [bert]", "sources: [bert, [bert, albert]]"))
    plan = plan_study(read_spec(path))
    pairs = [trial for trial in plan.trials if len(trial.labels["sources"]) == 2]
    assert len(plan.trials) == 8
    assert [(trial.labels["backbone"], trial.labels["prompt_length"]) for trial in pairs] == [("bert + albert", 2)] * 2
    assert [way[2] for way in pairs[0].identity["ways"]] == ["relative", "spread"]
    assert Estimator(1, "cpu").costs(plan, {})[0].seconds > 0
    ended = run_folder(folder)
    assert (ended.done, ended.failed) == (8, 0)
    summary = summarize(Store(folder, "told"))
    rows = {(r["method"], r["source"], r["target"]): r for r in summary["facts"] if r["main"]}
    bert, albert = (prober(family, dtype="float32") for family in ("bert", "albert"))
    ways, recipe = [Way("relative", {"top_k": 40})], FactRecipe(prompt_length=2, epochs=2, lr=0.05)
    alone = [
        compare_facts(tiny_facts(), [(bert, albert)], [bert, albert], methods=ways, recipe=recipe, seed=seed).rows
        for seed in (0, 1)
    ]
    for target, of_seeds in zip(("bert", "albert"), zip(*alone, strict=True), strict=True):
        row = rows["relative", "bert + albert", target]
        assert row["mean"] == pytest.approx(sum(each.accuracy.value for each in of_seeds) / 2)
        assert row["own"]
    assert not rows["relative", "bert", "albert"]["own"]
    assert rows["relative", "bert", "bert"]["own"]
    told = markdown(summary)
    assert "| relative | bert + albert | \\[" in told
    assert "or to one of two or more" in told
    assert re.search(r"Backbones</dt><dd>2\b", render_study(summary))


def test_tuned_prompts_are_kept_for_models_that_run_alike(folder, own_cache):
    path = folder / "study.yaml"
    run_folder(folder)
    path.write_text(path.read_text().replace("max_length: 24", "max_length: 24, dtype: bfloat16"))
    assert run_folder(folder).done == 6
    kept = list((cache_root() / "tuned-facts").iterdir())
    assert len(kept) == 2
    assert all(list(each.iterdir()) for each in kept)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("[[bert, albret]]", "no backbone 'albret' to tune prompts on. Did you mean 'albert'"),
        ("[[bert]]", "sources"),
    ],
)
def test_sources_together_are_checked(folder, sources, message):
    path = folder / "study.yaml"
    path.write_text(path.read_text().replace("sources: [bert]", f"sources: {sources}"))
    with pytest.raises(InputError, match=message):
        read_spec(path)


def test_together_needs_relative(folder):
    path = folder / "study.yaml"
    text = path.read_text().replace("sources: [bert]", "sources: [[bert, albert]]")
    path.write_text("\n".join(line for line in text.splitlines() if "method: relative" not in line))
    with pytest.raises(InputError, match="only `relative` carries prompts of several sources"):
        read_spec(path)


def test_tables_and_page(folder):
    run_folder(folder)
    summary = summarize(Store(folder, "told"))
    told = markdown(summary)
    assert "## Facts told: tiny" in told
    line = next(line for line in told.splitlines() if line.startswith("| spread | bert |"))
    assert line.split("|")[3].strip().startswith("\\[") or line.split("|")[3].strip().startswith("[")
    assert "Facts told: tiny" in latex(summary)
    page = render_study(summary)
    assert 'id="facts"' in page
    assert "Prompt length" in page
    assert "Spread of the rows" not in page  # top_k is another thing
    assert "matching loss" in page
    assert "carried to another model by" in page


def test_a_stopped_trial_goes_on(folder, monkeypatch, tmp_path):
    epochs, first = [], tuning._Run._epoch

    def counted(run):
        if len(epochs) == 1:
            epochs.append(-1)
            raise KeyboardInterrupt
        epochs.append(run.epoch)
        return first(run)

    monkeypatch.setattr(tuning._Run, "_epoch", counted)
    with pytest.raises(KeyboardInterrupt):
        run_folder(folder)
    assert run_folder(folder).failed == 0
    assert epochs[:3] == [0, -1, 1]  # bert's second epoch


def test_changed_facts_stop_the_study(folder):
    run_folder(folder)
    data = folder.parent / "tiny" / "test.jsonl"
    data.write_text("\n".join(data.read_text().split("\n")[1:]))
    with pytest.raises(InputError, match="changed since study told began"):
        run_folder(folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sources: [bert]", "sources: [bart]", r"no backbone 'bart' to tune prompts on\. Did you mean 'bert'"),
        ("- manual", "- manuel", "no method named 'manuel'. Did you mean 'manual'"),
        ("top_k: 40}", "topk: 40}", "has no option 'topk'"),
        ("label: spread", "label: copy", "method 'copy' stands there twice"),
        ("seeds:", "methods: [linear]\nseeds:", "leave `methods` out"),
    ],
)
def test_a_mistake_is_named(folder, old, new, message):
    path = folder / "study.yaml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        read_spec(path)
