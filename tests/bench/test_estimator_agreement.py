"""`promptgraft bench estimators`: figures by hand on a small folder, the published ones, and unusable folders."""

import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from promptgraft.bench.estimators import agreements, read_measured
from promptgraft.cli import app
from promptgraft.errors import InputError
from promptgraft.transferability import kendall, mean_cosine, prompt_norm, spearman

THUNLP = Path(os.environ.get("PROMPTGRAFT_SHARED", "../shared")) / "data" / "thunlp"
TASKS = ("a", "b", "c", "d")


def table(model="t5-tiny", tasks=TASKS, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        [(model, target, source, rng.uniform()) for target in tasks for source in tasks],
        columns=["model", "target", "source", "accuracy"],
    )


def write(folder, model="t5-tiny", tasks=TASKS, shape=(5, 8), rows=None):
    (folder / model).mkdir()
    generator = torch.Generator().manual_seed(1)
    for task in tasks:
        torch.save(torch.randn(*shape, generator=generator), folder / model / f"{task}.pt")
    rows = table(model, tasks) if rows is None else rows
    rows.to_csv(folder / "transfer_accuracy.tsv", sep="\t", index=False)


def load(folder, model, task):
    return torch.load(folder / model / f"{task}.pt", weights_only=True).numpy()


def run(*arguments):
    result = CliRunner().invoke(app, ["bench", "estimators", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_means_over_targets_without_the_target_itself(tmp_path):
    write(tmp_path)
    accuracy = table().set_index(["target", "source"])["accuracy"]
    by_cosine, by_norm, taus = [], [], []
    for target in TASKS:
        others = [task for task in TASKS if task != target]
        prompts = [load(tmp_path, "t5-tiny", task) for task in others]
        measured = [accuracy[target, source] for source in others]
        scores = mean_cosine(prompts, load(tmp_path, "t5-tiny", target))
        by_cosine.append(spearman(scores, measured))
        taus.append(kendall(scores, measured))
        by_norm.append(spearman(prompt_norm(prompts), measured))
    rows = {row["estimator"]: row for row in json.loads(run("--data", tmp_path, "--json"))}
    assert {"norm", "mean-cosine", "token-cosine"} <= rows.keys()
    assert not {"volume", "gap", "overlap", "transferability"} & rows.keys()
    assert rows["mean-cosine"]["model"] == "t5-tiny"
    assert rows["mean-cosine"]["spearman"] == pytest.approx(np.mean(by_cosine))
    assert rows["mean-cosine"]["kendall"] == pytest.approx(np.mean(taus))
    assert rows["norm"]["spearman"] == pytest.approx(np.mean(by_norm))
    assert all(above["spearman"] >= below["spearman"] for above, below in pairwise(rows.values()))


def test_dead_rows_are_left_out_and_kept(tmp_path):
    write(tmp_path, "roberta-tiny")
    rows = {row.estimator: row for row in agreements(read_measured(tmp_path)[0])}
    for path in (tmp_path / "roberta-tiny").glob("*.pt"):
        torch.save(torch.load(path, weights_only=True)[1:], path)
    (tmp_path / "roberta-tiny").rename(tmp_path / "t5-tiny")
    table().to_csv(tmp_path / "transfer_accuracy.tsv", sep="\t", index=False)
    without = {row.estimator: row for row in agreements(read_measured(tmp_path)[0])}
    assert rows["mean-cosine"].spearman == without["mean-cosine"].spearman
    assert rows.keys() == without.keys() | {f"{name} (dead rows kept)" for name in without}


def test_volume_where_all_sizes_are_known(tmp_path):
    write(tmp_path, tasks=("mnli", "snli", "sst2"))
    assert "volume" in {row.estimator for row in agreements(read_measured(tmp_path)[0])}


def test_ties_count_as_no_agreement(tmp_path):
    write(tmp_path)
    for task in TASKS:
        torch.save(torch.eye(5, 8), tmp_path / "t5-tiny" / f"{task}.pt")
    row = next(row for row in agreements(read_measured(tmp_path)[0]) if row.estimator == "norm")
    assert (row.spearman, row.kendall, row.low) == (0, 0, None)


def test_what_cannot_be_measured_is_left_out_aloud(tmp_path):
    flat = table()
    flat.loc[flat["target"] == "b", "accuracy"] = 0.5
    extra = pd.DataFrame([("t5-tiny", "a", "lost", 0.1)], columns=flat.columns)
    write(tmp_path, rows=pd.concat([flat, extra, table("t5-gone")]))
    (tmp_path / "t5-spare").mkdir()
    with pytest.warns(UserWarning, match="left out of the bench") as caught:
        (measured,) = read_measured(tmp_path)
    said = " ".join(str(warning.message) for warning in caught)
    for what in ("t5-tiny: no prompt of lost", "t5-gone: no prompts", "t5-tiny: all sources are alike on b"):
        assert what in said
    assert list(measured.accuracy.index) == ["a", "c", "d"]
    assert all(row.targets == 3 for row in agreements(measured))


def test_unusable_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTGRAFT_SHARED", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"no file .*nowhere/data/thunlp/transfer_accuracy.tsv.*PROMPTGRAFT_SHARED"):
        run()
    write(tmp_path)
    for rows, message in [
        (table().drop(columns="accuracy"), "not a table with the tab-separated columns model, target"),
        (table().assign(accuracy="good"), "not a table with"),
        (table().assign(accuracy=np.inf), "not finite"),
        (pd.concat([table(), table()]), "two accuracies of t5-tiny from a to a"),
    ]:
        rows.to_csv(tmp_path / "transfer_accuracy.tsv", sep="\t", index=False)
        with pytest.raises(InputError, match=message):
            run("--data", tmp_path)


@pytest.mark.filterwarnings("ignore:left out of the bench")
def test_no_model_left(tmp_path):
    write(tmp_path, rows=table("t5-other"))
    with pytest.raises(InputError, match="no model with both"):
        run("--data", tmp_path)


def test_the_name_stands_alone():
    with pytest.raises(InputError, match="Name it alone"):
        run("linear-grid")
    result = CliRunner().invoke(app, ["bench", "linear-grid", "--data", "x"])
    assert "--data x is for" in str(result.exception)


@pytest.mark.real
@pytest.mark.skipif(not THUNLP.is_dir(), reason="published prompts are not here")
@pytest.mark.filterwarnings("ignore:left out of the bench")
def test_published_figures():
    known = {
        ("roberta-base", "mean-cosine"): 39.9,
        ("roberta-base", "mean-cosine (dead rows kept)"): 34.7,
        ("roberta-base", "token-cosine"): 38.9,
        ("roberta-base", "token-cosine (dead rows kept)"): 38.8,
        ("t5-base", "mean-cosine"): 50.8,
        ("t5-base", "token-cosine"): 42.9,
    }
    found = {
        (row.model, row.estimator): row.spearman for measured in read_measured(THUNLP) for row in agreements(measured)
    }
    assert {key: round(found[key], 1) for key in known} == known
