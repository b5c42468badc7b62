"""Whole runs of `promptgraft adapt` on tiny models."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from promptgraft.adapt import halving, run
from promptgraft.library import PromptLibrary
from promptgraft.tasks.load import load_task
from promptgraft.tuning import methods
from promptgraft.tuning.adapted import Adapted, load_adapted
from promptgraft.tuning.candidate import Candidate
from promptgraft.tuning.fit import Trainer
from promptgraft.tuning.prompted import LearnedPrompt

KEYS = {
    *("format_version", "promptgraft", "task", "backbone", "method", "layers", "source", "val_accuracy"),
    *("test_accuracy", "linear_probe", "verdict", "candidates", "ranking", "ranking_evidence", "confusion", "errors"),
    *(
        "versions",
        "device",
        "dtype",
        "created",
        "recipe",
        "prompt_length",
        "seed",
        "budget_seconds",
        "seconds",
        "command",
        "out",
    ),
}


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def timeless(value):
    """A result without times and without what was typed."""
    if isinstance(value, dict):
        return {
            key: timeless(item) for key, item in value.items() if key not in ("seconds", "created", "command", "out")
        }
    return [timeless(item) for item in value] if isinstance(value, list) else value


def choose(monkeypatch, method, layers=None):
    """Let a candidate win whatever it reached."""

    def winner(candidates):
        return next(c for c in candidates if c.method.name == method and c.shown_layers == layers)

    monkeypatch.setattr(run, "_winner", winner)


def assert_accuracy(value, n):
    assert set(value) == {"value", "low", "high", "n"}
    assert 0 <= value["low"] <= value["value"] <= value["high"] <= 1
    assert value["n"] == n


def test_a_run_writes_its_folder(promptgraft, common, tmp_path, monkeypatch):
    choose(monkeypatch, "vpt", "deep")
    measured = []
    real = Adapted.probabilities
    monkeypatch.setattr(Adapted, "probabilities", lambda self, split: measured.append(len(split)) or real(self, split))
    out = tmp_path / "out"
    code, printed, error = promptgraft(*common, "--out", out)
    assert (code, error) == (0, "")
    assert measured == [9]  # the test split, once
    found = {path.relative_to(out).as_posix() for path in out.rglob("*")}
    assert found == {
        *("adapted.json", "head.safetensors", "result.json", "report.html"),
        *("prompt", "prompt/prompt.json", "prompt/prompt.safetensors", "prompt/README.md"),
    }
    result = result_of(out)
    assert set(result) == KEYS
    assert_accuracy(result["test_accuracy"], 9)
    assert_accuracy(result["val_accuracy"], 9)
    assert [(c["method"], c["layers"]) for c in result["candidates"]] == [
        ("linear", None),
        ("vpt", "deep"),
        ("spt", "deep"),
        ("vpt", "shallow"),
    ]
    for candidate in result["candidates"]:
        assert_accuracy(candidate["val_accuracy"], 9)
        assert candidate["status"] in ("finished", "stopped early")
        assert candidate["best_epoch"] <= candidate["epochs"] <= 4
    assert [c["winner"] for c in result["candidates"]] == [False, True, False, False]
    assert sum(map(sum, result["confusion"]["matrix"])) == 9
    assert len(result["errors"]) == 9 - np.trace(result["confusion"]["matrix"])
    assert (result["method"], result["layers"], result["source"]) == ("vpt", "deep", None)
    assert result["dtype"] == load_adapted(out).prompt.card.training.dtype == "float32"
    assert not list((tmp_path / "cache" / "runs").iterdir())  # no checkpoint stays

    lines = printed.splitlines()
    assert lines[0] == "photos: 60 images, 3 classes (train 42, val 9, test 9)"
    assert lines[1].endswith("(32-d, 2 layers, 28 px)")
    assert lines[2] == "library: empty, no prompt to transfer"
    assert [line[0] for line in lines[5:9]] == ["*", " ", " ", " "]
    assert max(map(len, lines[4:9])) <= 100
    assert lines[-2].endswith("measured once on 9 examples.")
    assert lines[-1].startswith(f"wrote {out} (")
    assert lines[-1].endswith(f"next: promptgraft predict {out} new/")


def test_the_folder_classifies_as_the_result_says(promptgraft, common, photos, tmp_path, monkeypatch):
    choose(monkeypatch, "spt", "deep")
    out = tmp_path / "out"
    assert promptgraft(*common, "--out", out)[0] == 0
    adapted, result, task = load_adapted(out), result_of(out), load_task(photos)
    predicted = adapted.predict_proba(task.test.inputs).argmax(1)
    matrix = np.zeros((3, 3), int)
    np.add.at(matrix, (task.test.labels, predicted), 1)
    assert result["confusion"] == {"matrix": matrix.tolist(), "classes": ["dark", "grey", "light"]}
    scores = adapted.info.training.scores
    assert scores["test"].model_dump() == result["test_accuracy"]
    assert scores["val"].model_dump() == result["val_accuracy"]
    assert adapted.info.task.n_train == 51  # retrained on train and validation together
    assert adapted.info.method == adapted.prompt.card.method == "spt"


def test_equal_seeds_give_equal_results(promptgraft, common, tmp_path, monkeypatch):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        monkeypatch.setenv("PROMPTGRAFT_CACHE", str(tmp_path / f"cache-{folder.name}"))
        code, _, error = promptgraft(*common, "--seed", 3, "--out", folder)
        assert (code, error) == (0, "")
    first, second = map(result_of, folders)
    assert timeless(first) == timeless(second)
    assert (folders[0] / "head.safetensors").read_bytes() == (folders[1] / "head.safetensors").read_bytes()


def test_the_recipe_of_the_paper(promptgraft, common, tmp_path, monkeypatch):
    choose(monkeypatch, "vpt", "deep")
    code, _, error = promptgraft(*common, "--recipe", "paper", "--out", tmp_path / "out")
    assert (code, error) == (0, "")
    result = result_of(tmp_path / "out")
    assert (result["recipe"]["optimizer"], result["recipe"]["head_start"], result["recipe"]["epochs"]) == (
        "sgd",
        "random",
        4,
    )
    assert all(c["best_epoch"] == c["epochs"] for c in result["candidates"])  # the last epoch is kept
    assert load_adapted(tmp_path / "out").info.training.epochs == result["candidates"][1]["epochs"]


def test_a_linear_winner_has_no_prompt(promptgraft, common, tmp_path, monkeypatch):
    choose(monkeypatch, "linear")
    out = tmp_path / "out"
    code, printed, _ = promptgraft(*common, "--out", out)
    assert code == 0
    assert not (out / "prompt").exists()
    assert "Nothing beats the linear probe on the validation split: no prompt is needed here." in printed
    assert load_adapted(out).prompt is None
    assert result_of(out)["layers"] is None


def test_of_equals_the_one_with_fewer_parameters_wins(promptgraft, common, tmp_path, monkeypatch):
    monkeypatch.setattr(Candidate, "logits", lambda self, split: torch.eye(3)[split.labels])
    monkeypatch.setattr("promptgraft.tuning.fit.predict_logits", lambda model, split: torch.eye(3)[split.labels])
    assert promptgraft(*common, "--out", tmp_path / "out")[0] == 0
    result = result_of(tmp_path / "out")
    assert {c["val_accuracy"]["value"] for c in result["candidates"]} == {1.0}
    assert result["method"] == "linear"


@pytest.fixture
def library(make_prompt, tmp_path) -> PromptLibrary:
    """Prompts that fit in all ways and in none; their cards have other names than the library gives them."""
    library = PromptLibrary(tmp_path / "prompts")
    library.add(make_prompt(1, 4, 32, modality="vision", name="card", seed=1), "vision/same")
    library.add(make_prompt(2, 4, 32, modality="vision", name="card", seed=2), "vision/deep")
    library.add(make_prompt(3, 4, 32, modality="vision", name="card", seed=3), "vision/deeper")
    library.add(make_prompt(1, 4, 48, modality="vision", name="card", seed=4), "vision/wide")
    library.add(make_prompt(1, 4, 32, modality="text", name="card", seed=5), "text/same")
    library.add(make_prompt(2, 4, 32, modality="text", name="card", seed=6), "text/deep")
    return library


def test_prompts_of_a_library_race_too(promptgraft, common, library, tmp_path, monkeypatch):
    choose(monkeypatch, "projection")
    out = tmp_path / "out"
    code, printed, error = promptgraft(*common, "--library", library.folder, "--top", 9, "--out", out)
    assert (code, error) == (0, "")
    result = result_of(out)
    transfers = {c["source"]: c["method"] for c in result["candidates"] if c["source"]}
    assert transfers == {
        "vision/same": "initial",
        "vision/deep": "initial",
        "vision/wide": "projection",
        "text/same": "projection",
    }
    assert "library: 6 prompts, 4 fit; best by leave-one-out, to be tried: " in printed
    assert "\nevidence: none, a rank is a guess\n" in printed
    assert result["ranking_evidence"].startswith("No transfer has been measured with this library yet")
    assert {row["prompt"] for row in result["ranking"]} == set(library)
    assert {row["estimator"] for row in result["ranking"]} == {"leave-one-out", "gap", "norm", "volume"}
    assert len(result["ranking"]) == 24
    assert result["source"] in ("vision/wide", "text/same")
    assert f"projection of {result['source']}" in result["verdict"]
    adapted = load_adapted(out)
    assert adapted.info.source == result["source"]
    assert adapted.prompt.card.parents == (library[result["source"]].id,)
    page = (out / "report.html").read_text()
    assert "Measured" in page  # the ranking finds its candidates by their names in the library


def test_top_limits_the_transfers(promptgraft, common, library, tmp_path):
    for top in (1, 0):
        out = tmp_path / f"out{top}"
        assert promptgraft(*common, "--library", library.folder, "--top", top, "--epochs", 1, "--out", out)[0] == 0
        assert len([c for c in result_of(out)["candidates"] if c["source"]]) == top
    assert result_of(out)["ranking"] == []


def texts(path: Path, *, pairs: bool = False) -> Path:
    generator = np.random.default_rng(0)
    words = {"good": ["good", "fine", "great", "warm", "clever"], "bad": ["bad", "dull", "poor", "cold", "silly"]}

    def sentence(label: str) -> str:
        return f"the {generator.choice(['film', 'plot', 'cast'])} is {' '.join(generator.choice(words[label], 2))}"

    rows = ["text,text2,label" if pairs else "text,label"]
    for number in range(60):
        label = ("good", "bad")[number % 2]
        sentences = [sentence(label), f"a {generator.choice(['song', 'plot'])} was {sentence(label)}"][: 1 + pairs]
        rows.append(",".join([*sentences, label]))
    path.write_text("\n".join(rows))
    return path


@pytest.mark.parametrize("pairs", [False, True])
def test_texts(promptgraft, tiny_bert_folder, tmp_path, monkeypatch, pairs):
    choose(monkeypatch, "vpt", "deep")
    data, out = texts(tmp_path / "reviews.csv", pairs=pairs), tmp_path / "out"
    code, printed, error = promptgraft("adapt", data, "--backbone", f"dir:{tiny_bert_folder}", "--out", out)
    assert (code, error) == (0, "")
    assert printed.splitlines()[0].startswith("reviews: 60 texts, 2 classes (train 42, val 9, test 9")
    assert printed.splitlines()[-1].endswith("new.csv")
    assert load_adapted(out).info.task.pair is pairs
    for wrong in result_of(out)["errors"]:
        assert wrong["name"].startswith("reviews.csv:")
        assert (" / " in wrong["text"]) is pairs
    code, printed, _ = promptgraft("predict", out, data, "--json")
    answers = json.loads(printed)
    assert code == 0
    assert [answer["input"] for answer in answers[:2]] == [f"{data}:2", f"{data}:3"]
    labels = [line.rsplit(",")[-1] for line in data.read_text().splitlines()[1:]]
    assert np.mean([answer["class"] == label for answer, label in zip(answers, labels, strict=True)]) > 0.8


def test_a_tiny_budget_still_gives_a_result(promptgraft, common, library, tmp_path):
    out = tmp_path / "out"
    code, printed, _ = promptgraft(*common, "--library", library.folder, "--budget", "0.001s", "--out", out)
    assert code == 0
    result = result_of(out)
    assert result["method"] == "linear"
    assert result["budget_seconds"] == 0.001
    assert {row["estimator"] for row in result["ranking"]} == {"gap", "norm", "volume"}  # no time to run the model
    others = [c for c in result["candidates"] if c["method"] != "linear"]
    assert len(others) == 6
    for candidate in others:
        assert (candidate["status"], candidate["epochs"], candidate["val_accuracy"]) == ("stopped early", 0, None)
        assert candidate["reason"] == "the time budget ran out before it started"
    assert printed.count("stopped early") == 6
    assert result["verdict"].endswith(" The time budget ran out for 6 candidates.")
    assert "None" not in printed


def test_a_budget_ends_the_race(promptgraft, common, tmp_path, monkeypatch):
    """Time passes only while candidates train: 10 s an epoch."""

    class Time:
        now = 0.0

        def perf_counter(self) -> float:
            return self.now

    time = Time()
    monkeypatch.setattr(halving, "time", time)
    monkeypatch.setattr("promptgraft.tuning.candidate.Candidate.epoch_seconds", property(lambda self: 10.0))
    real = Trainer.run

    def run(self, until=None, on_epoch=None):
        before = self.epoch
        real(self, until, on_epoch)
        time.now += 10.0 * (self.epoch - before)

    monkeypatch.setattr(Trainer, "run", run)
    out = tmp_path / "out"
    assert promptgraft(*common, "--epochs", 40, "--budget", "2m", "--out", out)[0] == 0
    result = result_of(out)
    assert result["seconds"] <= 120
    stopped = [c for c in result["candidates"] if c["method"] != "linear"]
    trained = [c for c in stopped if c["epochs"]]
    assert [c["reason"] for c in stopped if c not in trained] == ["not among the best 2 at the start"]
    assert {c["reason"] for c in trained} == {f"the time budget ran out after {c['epochs']} epochs" for c in trained}
    assert {c["epochs"] for c in trained} <= {3, 4}
    assert all(c["val_accuracy"] for c in stopped)


def test_balanced_skip_bad_and_sizes_are_recorded(promptgraft, common, photos, tmp_path):
    data = tmp_path / "some"
    for path in photos.rglob("*.png"):
        (data / path.parent.name).mkdir(parents=True, exist_ok=True)
        (data / path.parent.name / path.name).write_bytes(path.read_bytes())
    (data / "dark" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    out = tmp_path / "out"
    common[1] = data
    code, printed, _ = promptgraft(
        *common, "--balanced", "--skip-bad", "--n-train", 30, "--n-val", 12, "--n-test", 9, "--out", out
    )
    assert code == 0
    assert "(train 30, val 12, test 9; 1 unreadable file skipped)" in printed
    result = result_of(out)
    assert result["recipe"]["class_balanced"] is True
    assert result["recipe"]["epochs"] == 4
    assert result["task"]["notes"] == ["1 unreadable file skipped"]
    assert [result["task"][key] for key in ("n_train", "n_val", "n_test")] == [30, 12, 9]


def test_json_is_all_that_is_printed(promptgraft, common, library, tmp_path):
    out = tmp_path / "out"
    code, printed, error = promptgraft(*common, "--library", library.folder, "--json", "--out", out)
    assert (code, error) == (0, "")
    assert json.loads(printed) == result_of(out)


def test_a_pipe_gets_plain_text(common, tmp_path, monkeypatch):
    for variable, value in (("CACHE", tmp_path / "cache"), ("LIBRARY", tmp_path / "library"), ("OFFLINE", 1)):
        monkeypatch.setenv(f"PROMPTGRAFT_{variable}", str(value))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "an out"
    words = [sys.executable, "-c", "import sys; from promptgraft.cli import main; sys.exit(main())"]
    done = subprocess.run([*words, *map(str, common), "--out", out], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert done.stdout.rstrip().endswith(f"next: promptgraft predict '{out}' new/")
    assert result_of(out)["command"].startswith("promptgraft adapt ")
    assert f"promptgraft predict '{out}'" in (out / "report.html").read_text().replace("&#39;", "'")


class Stop:
    """Lets `Trainer.run` be interrupted before its n-th call."""

    def __init__(self, monkeypatch, after: int) -> None:
        self.left, self.real = after, Trainer.run
        monkeypatch.setattr(Trainer, "run", lambda trainer, *args, **options: self.run(trainer, *args, **options))

    def run(self, trainer, *args, **options):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        self.real(trainer, *args, **options)


@pytest.mark.parametrize("after", [0, 1, 2, 4])
def test_a_stopped_run_goes_on_to_the_same_result(promptgraft, common, library, tmp_path, monkeypatch, after):
    command = [*common, "--library", library.folder, "--seed", 5]
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    assert promptgraft(*command, "--out", straight)[0] == 0
    monkeypatch.setenv("PROMPTGRAFT_CACHE", str(tmp_path / "other"))
    with monkeypatch.context() as patch:
        Stop(patch, after)
        code, _, error = promptgraft(*command, "--out", resumed)
        assert (code, error.strip()) == (130, "stopped; run the same command to go on")
    assert not resumed.exists()
    trained = []
    real = Trainer._epoch
    monkeypatch.setattr(Trainer, "_epoch", lambda self: trained.append(self) or real(self))
    assert promptgraft(*command, "--out", resumed)[0] == 0
    assert timeless(result_of(straight)) == timeless(result_of(resumed))
    total = sum(c["epochs"] for c in result_of(straight)["candidates"])
    again = next(c["best_epoch"] for c in result_of(straight)["candidates"] if c["winner"])
    assert len(trained) == total - after + again


def test_a_run_stopped_while_retraining_goes_on_to_the_same_result(promptgraft, common, tmp_path, monkeypatch):
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    assert promptgraft(*common, "--out", straight)[0] == 0
    monkeypatch.setenv("PROMPTGRAFT_CACHE", str(tmp_path / "other"))
    with monkeypatch.context() as patch:

        def stop(*_):
            raise KeyboardInterrupt

        patch.setattr(run, "_retrain", stop)
        assert promptgraft(*common, "--out", resumed)[0] == 130
    assert promptgraft(*common, "--out", resumed)[0] == 0
    assert timeless(result_of(straight)) == timeless(result_of(resumed))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_candidate_that_cannot_start_fails_alone(promptgraft, common, tmp_path, monkeypatch, value):
    def build(setting):
        return LearnedPrompt(torch.full((1, 3, setting.backbone.info.embed_dim), value))

    monkeypatch.setattr(methods, "spt", replace(methods.spt, build=build))
    out = tmp_path / "out"
    code, printed, error = promptgraft(*common, "--out", out)
    assert (code, error) == (0, "")
    rows = {(c["method"], c["layers"]): c for c in result_of(out)["candidates"]}
    assert rows["spt", "deep"]["status"] == "failed"
    assert rows["spt", "deep"]["reason"].startswith("spt: every setting of the linear grid diverged")
    assert "spt deep failed" in printed
    assert "spt deep" in (out / "report.html").read_text()
    assert {c["status"] for key, c in rows.items() if key[0] != "spt"} <= {"finished", "stopped early"}


def test_a_candidate_that_diverges_is_named_with_its_setting(promptgraft, common, tmp_path, monkeypatch):
    class Exploding(LearnedPrompt):
        def forward(self, tokens):
            return self.prompt * (float("nan") if self.training and torch.is_grad_enabled() else 1.0)

    def build(setting):
        return Exploding(torch.zeros(1, 3, setting.backbone.info.embed_dim))

    monkeypatch.setattr(methods, "spt", replace(methods.spt, build=build))
    out = tmp_path / "out"
    code, printed, error = promptgraft(*common, "--out", out)
    assert (code, error) == (0, "")
    failed = [c for c in result_of(out)["candidates"] if c["status"] == "failed"]
    assert len(failed) == 1
    assert "epoch 1 with lr=0.01" in failed[0]["reason"]
    assert "spt deep failed: the loss became nan" in printed
    assert failed[0]["val_accuracy"] is None


def test_no_linear_probe_no_result(promptgraft, common, tmp_path, monkeypatch):
    monkeypatch.setattr("promptgraft.tuning.head.LEARNING_RATES", (float("inf"),))
    monkeypatch.setattr("promptgraft.tuning.candidate.LEARNING_RATES", (float("inf"),))
    code, _, error = promptgraft(*common, "--out", tmp_path / "out")
    assert code == 2
    assert error.startswith("error: linear: every setting of the linear grid diverged")
    assert not (tmp_path / "out").exists()


def test_the_python_function_returns_the_outcome(photos, tiny_vit_folder, tmp_path, monkeypatch):
    from promptgraft.backbones.load import load_backbone
    from promptgraft.tuning.recipes import resolve_recipe

    monkeypatch.setenv("PROMPTGRAFT_CACHE", str(tmp_path / "cache"))
    said = []
    outcome = run.adapt(
        load_task(photos),
        load_backbone(f"dir:{tiny_vit_folder}"),
        PromptLibrary(tmp_path / "none"),
        tmp_path / "out",
        recipe=resolve_recipe("short", epochs=2),
        say=said.append,
    )
    assert outcome.folder == tmp_path / "out"
    assert json.loads(json.dumps(outcome.result)) == result_of(outcome.folder)
    assert outcome.adapted.score(load_task(photos).test) == outcome.result["test_accuracy"]["value"]
    assert said == ["library: empty, no prompt to transfer"]
