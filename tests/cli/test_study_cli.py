"""`promptgraft study`."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from promptgraft.cli import main

Run = Callable[..., tuple[int, str, str]]

DOCUMENT = """\
study: small
backbones: ["dir:{model}"]
targets: [{{task: "{photos}", n_train: 16, n_val: 8, n_test: {n_test}}}]
methods:
- linear
- {{method: vpt, prompt_length: 2}}
seeds: [0, 1]
recipe: {{name: short, epochs: 2, batch_size: 8}}
"""


def document(folder: Path, model: Path, photos: Path, n_test: int = 16) -> Path:
    folder.mkdir(parents=True)
    text = DOCUMENT.format(model=model, photos=photos, n_test=n_test)
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_vit_folder: Path, image_folder: Path) -> Path:
    """A study of four trials that `study run` has run."""
    folder = document(tmp_path_factory.mktemp("studies") / "small", tiny_vit_folder, image_folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPTGRAFT_CACHE", str(folder.parent / "cache"))
        assert main(["study", "run", str(folder)]) == 0
    return folder


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished study."""
    return Path(shutil.copytree(finished, tmp_path / "small"))


@pytest.fixture
def fresh(tmp_path: Path, tiny_vit_folder: Path, image_folder: Path) -> Path:
    """A study that was not started."""
    return document(tmp_path / "fresh", tiny_vit_folder, image_folder)


def made(folder: Path) -> list[Path]:
    """Documents, stores and exports."""
    return sorted(file for pattern in ("*.yaml", "*.sqlite", "trials.*") for file in folder.rglob(pattern))


def keys(promptgraft: Run, folder: Path) -> list[str]:
    code, out, _ = promptgraft("study", "report", folder, "--json")
    assert code == 0
    return [trial["key"] for trial in json.loads(out)["trials"]]


def test_init_plan_run_and_report_follow_one_another(promptgraft: Run, fresh: Path) -> None:
    code, out, _ = promptgraft("study", "plan", fresh)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "study small: 4 trials, 0 done"
    assert lines[1].split() == ["kind", "what", "trials", "done", "seconds", "each", "time", "left", "memory", "from"]
    assert [line.split()[:2] for line in lines[2:4]] == [["train", "linear"], ["train", "vpt"]]
    assert "one after another" in lines[-2]
    assert lines[-1] == f"next: promptgraft study run {fresh}"
    assert not (fresh / "study.sqlite").exists()  # a plan starts nothing

    code, out, _ = promptgraft("study", "run", fresh)
    assert (code, out.splitlines()) == (0, ["4 trials run, 4 in the study", f"next: promptgraft study report {fresh}"])
    assert promptgraft("study", "run", fresh)[1].startswith("0 trials run, 4 in the study")

    code, out, _ = promptgraft("study", "status", fresh)
    assert code == 0
    assert out.splitlines()[0] == "study small: 4 of 4 trials done"
    assert out.splitlines()[2].split() == ["train", "4", "0", "0", "0"]

    code, out, _ = promptgraft("study", "report", fresh)
    assert code == 0
    files = [fresh / name for name in ("report.html", "tables.md", "tables.tex")]
    assert out.splitlines()[-1] == f"wrote {', '.join(map(str, files))}"
    assert all(file.is_file() for file in files)
    assert "vpt deep" in out


def test_init_writes_a_ready_study(promptgraft: Run, tmp_path: Path) -> None:
    folder = tmp_path / "my study"
    code, out, _ = promptgraft("study", "init", "baselines", folder, "--size", "smoke")
    assert code == 0
    assert (folder / "study.yaml").is_file()
    assert out == f"wrote {folder / 'study.yaml'}     next: promptgraft study plan '{folder}'\n"
    code, _, error = promptgraft("study", "init", "baselines", folder)
    assert (code, error) == (
        2,
        f"error: output folder {folder} exists and is not empty. Choose another name or remove it.\n",
    )


def test_json_outputs_parse(promptgraft: Run, study: Path, fresh: Path) -> None:
    code, out, _ = promptgraft("study", "status", study, "--json")
    assert code == 0
    assert json.loads(out) == {
        "study": "small",
        "counts": {"train": {"done": 4}},
        "trials": 4,
        "done": 4,
        "running": [],
        "failed": [],
    }
    code, out, _ = promptgraft("study", "plan", study, "--json")
    planned = json.loads(out)
    assert (code, planned["trials"], planned["done"]) == (0, 4, 4)
    assert {(row["what"], row["basis"], row["left"]) for row in planned["costs"]} == {
        ("linear", "measured", 0.0),
        ("vpt deep", "measured", 0.0),
    }
    code, out, _ = promptgraft("study", "plan", fresh, "--json", "--no-probe")
    rows = [{"kind": "train", "what": what, "trials": 2, "done": 0} for what in ("linear", "vpt deep")]
    assert (code, json.loads(out)) == (0, {"trials": 4, "done": 0, "costs": rows, "disk": None})
    code, out, _ = promptgraft("study", "report", study, "--json")
    summary = json.loads(out)
    assert (code, [row["method"] for row in summary["rows"]]) == (0, ["linear", "vpt deep"])


def test_a_trial_is_run_again_and_compared(promptgraft: Run, study: Path) -> None:
    key = keys(promptgraft, study)[2]
    code, out, _ = promptgraft("study", "run", study, "--trial", key[:12])
    assert code == 0
    *shown, last = out.splitlines()
    assert last == "the same result as in the store"
    assert json.loads("\n".join(shown))["test_n"] == 16
    with sqlite3.connect(study / "study.sqlite") as database:
        (result,) = database.execute("SELECT result FROM promptgraft_results WHERE key = ?", [key]).fetchone()
        changed = json.dumps(json.loads(result) | {"test_accuracy": 0.123})
        database.execute("UPDATE promptgraft_results SET result = ? WHERE key = ?", [changed, key])
    code, out, _ = promptgraft("study", "run", study, "--trial", key)
    assert (code, out.splitlines()[-1]) == (1, "NOT the result that is in the store")
    with sqlite3.connect(study / "study.sqlite") as database:  # which stays as it was
        assert database.execute("SELECT result FROM promptgraft_results WHERE key = ?", [key]).fetchone() == (changed,)


def test_only_what_is_added_runs(promptgraft: Run, study: Path) -> None:
    code, out, _ = promptgraft("study", "add", study, "--seed", 2, "--method", "vpt:shallow")
    assert (code, out) == (0, f"changed {study / 'study.yaml'}     next: promptgraft study plan {study}\n")
    assert promptgraft("study", "plan", study, "--no-probe")[1].startswith("study small: 9 trials, 4 done")
    code, out, _ = promptgraft("study", "resume", study)
    assert (code, out.splitlines()[0]) == (0, "5 trials run, 9 in the study")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_trials_are_exported(suffix: str, promptgraft: Run, study: Path, tmp_path: Path) -> None:
    file = tmp_path / f"trials.{suffix}"
    code, out, _ = promptgraft("study", "export", study, file)
    assert (code, out) == (0, f"wrote {file} (4 trials)\n")
    table = pd.read_csv(file) if suffix == "csv" else pd.read_parquet(file)
    assert table["key"].tolist() == keys(promptgraft, study)
    assert table["test_accuracy"].between(0, 1).all()


def test_failed_trials_are_told_and_run_again(
    promptgraft: Run, tmp_path: Path, tiny_vit_folder: Path, image_folder: Path
) -> None:
    folder = document(tmp_path / "s", tiny_vit_folder, image_folder, n_test=0)
    code, out, _ = promptgraft("study", "run", folder)
    assert code == 1
    assert f"4 failed: promptgraft study status {folder} tells why" in out
    code, out, _ = promptgraft("study", "status", folder)
    assert code == 0
    failed = [line for line in out.splitlines() if line.startswith("failed ")]
    assert len(failed) == 4
    assert failed[0].endswith("linear, photos, seed 0: task photos has no test examples. Ask for some: n_test.")
    assert promptgraft("study", "resume", folder)[1].startswith("0 trials run")  # not before they are put back
    key = failed[0].split()[1]
    assert promptgraft("study", "retry", folder, key)[1].startswith("1 trials will run again")
    assert promptgraft("study", "retry", folder)[1].startswith("3 trials will run again")
    assert promptgraft("study", "status", folder, "--json")[1].count('"error"') == 0


def test_results_are_also_shown_to_a_tracker(promptgraft: Run, fresh: Path) -> None:
    pytest.importorskip("tensorboard")
    assert promptgraft("study", "run", fresh, "--track", "tensorboard")[0] == 0
    assert len(list((fresh / "tensorboard").iterdir())) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "{empty}"], "holds no study.yaml. `promptgraft study init baselines"),
        (["run", "{empty}"], "holds no study.yaml."),
        (["status", "{empty}"], "holds no study.yaml."),
        (["report", "{nowhere}"], "holds no study.yaml."),
        (["add", "{nowhere}", "--seed", "3"], "holds no study.yaml."),
        (["status", "{fresh}"], "has not been started. `promptgraft study run"),
        (["resume", "{fresh}"], "has not been started."),
        (["retry", "{fresh}"], "has not been started."),
        (["report", "{fresh}"], "has not been started."),
        (["export", "{fresh}", "trials.csv"], "has not been started."),
        (["run", "{fresh}", "--trial", "abc"], "has not been started."),
        (["run", "{study}", "--trial", "xyz"], "study small has no trial whose key starts with 'xyz'."),
        (["run", "{study}", "--trial", ""], "study small has several trials whose key starts with ''."),
        (["retry", "{study}", "%"], "study small has no trial whose key starts with '%'."),
        (["run", "{fresh}", "--on", "procesess"], "there is no engine named 'procesess'. Did you mean 'processes'?"),
        (["run", "{fresh}", "--track", "mlfow"], "there is no tracker named 'mlfow'. Did you mean 'mlflow'?"),
        (["init", "baseline", "{nowhere}"], "there is no ready study named 'baseline'. Did you mean 'baselines'?"),
        (["init", "baselines", "{nowhere}", "--size", "smok"], "has no size 'smok'. Did you mean 'smoke'?"),
        (["add", "{fresh}"], "nothing to add. Name a --target"),
        (["add", "{fresh}", "--method", "vptt"], "there is no method named 'vptt'. Did you mean 'vpt'?"),
        (["add", "{fresh}", "--seed", "one"], "a seed is a whole number"),
        (["export", "{study}", "trials.xls"], "trials.xls is neither .csv nor .parquet."),
        (
            ["status", "{study}", "--store", "nonsense://x"],
            "a store is PostgreSQL, or SQLite without any URL; got nonsense://.",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_with_its_cure(
    arguments: list[str], words: str, promptgraft: Run, study: Path, fresh: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    places: dict[str, Any] = {"study": study, "fresh": fresh, "empty": tmp_path / "empty"}
    before = made(tmp_path)
    places["nowhere"] = tmp_path / "nowhere"
    code, out, error = promptgraft("study", *(argument.format(**places) for argument in arguments))
    assert (code, out) == (2, "")
    assert words in error
    assert error.startswith("error: ")
    lines = error.splitlines()
    assert len(lines) == (2 if arguments[:1] == ["add"] and "vptt" in error else 1)  # what was wrong, and where
    assert made(tmp_path) == before


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("study: small", "name: small", "names no study: it lacks a line like `study: my-study`."),
        ("linear", "linaer", "study.yaml:5: methods.0: there is no method named 'linaer'. Did you mean 'linear'?"),
        ("seeds: [0, 1]", "seeds: [0, yes]", "study.yaml:7: seeds.1: must be a whole number"),
        ("recipe:", "recipes:", "study.yaml:8: recipes: there is no such key. Did you mean 'recipe'?"),
    ],
    ids=["name", "method", "seed", "key"],
)
def test_a_mistake_in_the_document_is_named_with_its_line(
    old: str, new: str, words: str, promptgraft: Run, fresh: Path
) -> None:
    text = (fresh / "study.yaml").read_text()
    (fresh / "study.yaml").write_text(text.replace(old, new))
    command = "status" if "names no" in words else "plan"
    code, out, error = promptgraft("study", command, fresh)
    assert (code, out, len(error.splitlines())) == (2, "", 1)
    assert words in error


@pytest.mark.parametrize("arguments", [["--jobs", "0"], ["--gpus-per-trial", "-1"], ["--jobs", "many"]])
def test_numbers_that_make_no_sense_are_refused(arguments: list[str], promptgraft: Run, fresh: Path) -> None:
    code, _, error = promptgraft("study", "run", fresh, *arguments)
    assert code == 2
    assert arguments[0] in error
    assert not (fresh / "study.sqlite").exists()


def test_every_command_shows_an_example(promptgraft: Run) -> None:
    for command in ("init", "plan", "run", "resume", "status", "retry", "add", "report", "evidence", "export"):
        code, out, _ = promptgraft("study", command, "--help")
        assert code == 0
        assert f"Example: promptgraft study {command}" in out


def test_a_study_without_transfers_has_no_evidence_to_give(promptgraft: Run, study: Path, tmp_path: Path) -> None:
    code, out, error = promptgraft("study", "evidence", study, "--library", tmp_path / "prompts")
    assert (code, out) == (2, "")
    assert error == "error: study small has no transfer to give: it has no method that transfers a source prompt.\n"
    assert not (tmp_path / "prompts").exists()
