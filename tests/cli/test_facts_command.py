"""`promptgraft facts` from end to end, on tiny models."""

import json
from typing import Any

import pytest

from probing.probers import prober_folder, tiny_facts
from promptgraft.library import PromptLibrary
from promptgraft.probing import tuning
from promptgraft.tasks.fact_files import SPLITS


@pytest.fixture
def folder(tmp_path: Any) -> Any:
    made = tmp_path / "tiny"
    made.mkdir()
    facts = tiny_facts()
    templates = [json.dumps({"relation": each.name, "template": each.template}) for each in facts.relations]
    (made / "relations.jsonl").write_text("\n".join(templates))
    for split in SPLITS:
        lines = [
            json.dumps({"relation": each.name, "subject": fact.subject, "object": fact.object})
            for each in facts.relations
            for fact in each.split(split)
        ]
        (made / f"{split}.jsonl").write_text("\n".join(lines))
    return made


def test_a_table_and_a_library(promptgraft: Any, folder: Any, tmp_path: Any) -> None:
    bert, gpt = prober_folder("bert"), prober_folder("gpt2")
    arguments = ["facts", folder, "--source", bert, "--target", gpt, "--target", bert, "--epochs", 1]
    arguments += ["--prompt-length", 2, "--methods", "manual,tuned,relative,copy"]
    code, out, error = promptgraft(*arguments, "--out", tmp_path / "library")
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "tiny: 2 relations (train 13, dev 6, test 8)"
    assert lines[1].endswith("words to choose from")
    assert " ".join(lines[2].split()) == "target source method P@1 (95 %) mean of relations matching loss facts"
    assert [line.split()[-1] for line in lines[3:11]] == ["8"] * 8  # facts asked under each of four methods, twice
    assert sum(" relative " in line for line in lines) == 2
    library = PromptLibrary(tmp_path / "library")
    assert len(library) == 2 * 2 + 2 * 2 * 2
    assert lines[-1].startswith(f"wrote 12 prompts to {tmp_path / 'library'}     next: promptgraft library ls")
    assert {library[name].card.task.name for name in library} == {"facts/R0", "facts/R1"}


def test_json(promptgraft: Any, folder: Any) -> None:
    bert = prober_folder("bert")
    arguments = ["facts", folder, "--source", bert, "--epochs", 1, "--json", "--top-k", 40, "--no-normalise"]
    code, out, error = promptgraft(*arguments)
    assert (code, error) == (0, "")
    found = json.loads(out)
    assert [row["method"] for row in found["rows"]] == [
        *("random", "manual", "majority", "tuned"),
        *("relative", "copy", "discretization", "neural-projector"),
    ]
    rows = {row["method"]: row for row in found["rows"]}
    assert set(rows["relative"]) == {
        *("source", "target", "method", "accuracy", "low", "high", "n", "mean", "matching_loss", "relations", "note")
    }
    assert rows["relative"]["source"] == rows["relative"]["target"] == bert
    assert rows["relative"]["n"] == 8
    assert rows["relative"]["matching_loss"] < 1e-4  # not normalised: the source's own directions
    assert found["relations"] == 2
    assert found["split"] == "test"
    code, out, _ = promptgraft(*arguments, "--dev")
    assert {row["n"] for row in json.loads(out)["rows"]} == {6}
    assert json.loads(out)["split"] == "dev"


def test_sources_together(promptgraft: Any, folder: Any) -> None:
    bert, albert = prober_folder("bert"), prober_folder("albert")
    arguments = ["facts", folder, "--source", bert, "--source", albert, "--target", bert, "--epochs", 1, "--top-k", 40]
    code, out, error = promptgraft(*arguments, "--methods", "relative,copy", "--together", "--json")
    assert (code, error) == (0, "")
    rows = json.loads(out)["rows"]
    assert [(row["method"], row["source"]) for row in rows] == [
        *(("relative", bert), ("copy", bert), ("relative", albert), ("copy", albert)),
        ("relative", f"{bert} + {albert}"),
    ]
    assert rows[-1]["n"] == 8


def test_a_stopped_run_goes_on(promptgraft: Any, folder: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    arguments = ["facts", folder, "--source", prober_folder("bert"), "--epochs", 3, "--methods", "tuned", "--json"]
    epochs, first = [], tuning._Run._epoch

    def counted(run: Any) -> float:
        if len(epochs) == 2:
            epochs.append(-1)
            raise KeyboardInterrupt
        epochs.append(run.epoch)
        return first(run)

    monkeypatch.setattr("sys.argv", ["promptgraft", *map(str, arguments)])
    monkeypatch.setattr(tuning._Run, "_epoch", counted)
    code, _, error = promptgraft(*arguments)
    assert (code, error) == (130, "stopped; run the same command to go on\n")
    code, _, _ = promptgraft(*arguments)
    assert code == 0
    assert epochs == [0, 1, -1, 2]
    assert not list((tmp_path / "cache" / "runs").iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--methods", "relativ"], "no method named 'relativ'. Did you mean 'relative'"),
        (["--together"], "--together needs two sources or more, got one"),
        (["--together", "--source", "ALBERT", "--methods", "copy"], "only `relative` carries prompts of several"),
        (["--limit", 0], "limit must be 1 or more facts"),
        (["--epochs", 0], "epochs must be 1 or more"),
        (["--out", "."], "is not empty"),
    ],
)
def test_a_bad_argument_is_named(
    promptgraft: Any, folder: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, changes: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = [prober_folder("albert") if each == "ALBERT" else each for each in changes]
    code, _, error = promptgraft("facts", folder, "--source", prober_folder("bert"), *changes)
    assert code == 2
    assert message in error
