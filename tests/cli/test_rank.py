"""`promptgraft rank` and `study evidence`: the table, and how far to trust it."""

import json
import math
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import promptgraft as pg
from promptgraft.cli.rank import _tables
from promptgraft.library import PromptLibrary
from promptgraft.measured import MEASURED_FILE, Transfer
from promptgraft.transferability.base import ESTIMATORS


@pytest.fixture
def library(make_prompt: Any, tmp_path: Path) -> PromptLibrary:
    library = PromptLibrary(tmp_path / "prompts")
    for seed, name in enumerate(["text/amazon-sentences", "text/newsgroups", "vision/land-zones"]):
        library.add(make_prompt(dim=32, seed=seed, name=name))
    return library


@pytest.fixture
def arguments(image_folder: Path, library: PromptLibrary, tiny_vit_folder: Path) -> list[Any]:
    return ["rank", image_folder, "--library", library.folder, "--backbone", f"dir:{tiny_vit_folder}"]


def measure(library: PromptLibrary, **fields: Any) -> None:
    """Two targets; gap ranks all right on the first and a third right on the second, norm all wrong and all right."""
    reached = {"one": [0.9, 0.8, 0.7], "two": [0.5, 0.6, 0.7]}
    scores = {"gap": {"one": [3, 2, 1], "two": [1, 3, 2]}, "norm": {"one": [1, 2, 3], "two": [1, 2, 3]}}
    plain: dict[str, Any] = {"study": "s", "modality": "vision", "backbone": "vit", "method": "projection"}
    library.add_measured(
        Transfer(
            **plain | {"source_id": entry.id} | fields,
            target=target,
            source=entry.name,
            accuracy=accuracies[place],
            baseline=None,
            seeds=1,
            scores={name: own[target][place] for name, own in scores.items()},
        )
        for target, accuracies in reached.items()
        for place, entry in enumerate(library.find())
    )


def test_each_estimator_says_what_it_rests_on(promptgraft: Any, library: PromptLibrary, arguments: list[Any]) -> None:
    weights = pg.load_backbone(arguments[-1]).info.weights_sha256
    measure(library, weights_sha256=weights)
    code, out, error = promptgraft(*arguments)
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[6] == "leave-one-out: no measured transfer in this library"
    assert lines[7].startswith("gap: Kendall 67 (")
    assert lines[7].endswith(") on 2 measured targets of this library; beats norm on 1 of 2 (p 0.5)")
    assert lines[8].startswith("norm: Kendall 0 (")
    assert lines[8].endswith(") on 2 measured targets of this library")
    assert lines[9] == "volume: no measured transfer in this library"
    assert lines[10].startswith("seconds: leave-one-out ")
    assert lines[11].startswith("next: promptgraft transfer ")
    rows = json.loads(promptgraft(*arguments, "--json")[1])
    found = {row["estimator"]: row["evidence"] for row in rows}
    assert len(rows) == 12
    assert found["volume"] is None
    assert (found["gap"]["targets"], found["gap"]["beats_norm"], found["gap"]["compared"]) == (2, 1, 2)
    assert found["norm"]["kendall"] == pytest.approx(0)
    assert {"prompt", "estimator", "score", "rank", "seconds", "evidence"} == set(rows[0])


def test_evidence_of_another_backbone_is_named_so(
    promptgraft: Any, library: PromptLibrary, arguments: list[Any]
) -> None:
    measure(library, weights_sha256="f" * 64, backbone="deit\x1b[31m")
    out = promptgraft(*arguments)[1]
    assert "on 2 measured targets of another backbone, deit?[31m; beats norm on 1 of 2 (p 0.5)\n" in out


def test_transfers_of_prompts_that_are_not_there_do_not_count(
    promptgraft: Any, library: PromptLibrary, arguments: list[Any]
) -> None:
    measure(library, weights_sha256=pg.load_backbone(arguments[-1]).info.weights_sha256)
    library.remove("text/newsgroups")
    out = promptgraft(*arguments)[1]
    assert "gap: Kendall 100 (100 to 100) on 2 measured targets of this library; beats norm on 1 of 2 (p 0.5)" in out
    library.remove("vision/land-zones")
    assert "no measured transfer in this library: a rank is a guess\n" in promptgraft(*arguments)[1]


def test_a_damaged_file_is_a_warning(promptgraft: Any, library: PromptLibrary, arguments: list[Any]) -> None:
    (library.folder / MEASURED_FILE).write_text("{}\n")
    code, out, error = promptgraft(*arguments)
    assert code == 0
    assert "no measured transfer in this library: a rank is a guess\n" in out
    assert error.startswith("warning: measured transfers are left out: ")
    assert error.count("\n") == 1


PROMPTS = ["text/amazon-sentences", *(f"vision/{number}" for number in range(15)), "text/unknown"]


def ranked(names: list[str]) -> pd.DataFrame:
    """Each estimator ranks the prompts as they stand, and has no score for the last one."""
    scores = [*(-1.2345e-5 * place for place in range(1, 17)), math.nan]
    rows = [
        {"prompt": prompt, "estimator": name, "score": score, "rank": place, "seconds": 0.0}
        for name in names
        for place, (prompt, score) in enumerate(zip(PROMPTS, scores, strict=True), 1)
    ]
    table = pd.DataFrame(rows)
    table.attrs["evidence"] = dict.fromkeys(names)
    return table


def laid_out(names: list[str]) -> list[list[str]]:
    tables = [part.plain.splitlines() for part in _tables(ranked(names))]
    for lines in tables:
        assert max(map(len, lines)) <= 100
        assert [line.split()[0] for line in lines[-17:]] == PROMPTS  # uncut
    return tables


def test_a_few_estimators_show_their_scores() -> None:
    (lines,) = laid_out(["gap", "mean-cosine", "norm"])
    assert lines[0].split() == ["prompt", "gap", "mean-cosine", "norm"]
    assert lines[1].split() == ["text/amazon-sentences", *["-1.234e-05", "#1"] * 3]
    assert lines[-1].split() == ["text/unknown", "-", "-", "-"]


def test_eight_estimators_show_their_ranks() -> None:
    names = ["gap", "norm", "volume", "mean-cosine", "token-cosine", "overlap", "task-gap", "transferability"]
    (lines,) = laid_out(names)
    assert lines[0].split() == ["prompt", "gap", "norm", "volume", "mean-", "token-", "overlap", "task-", names[-1]]
    assert lines[1].split() == ["cosine", "cosine", "gap"]
    assert lines[2].split() == ["text/amazon-sentences", *"11111111"]
    assert lines[3].split() == ["vision/0", *"22222222"]
    ends = [lines[0].index(word) + len(word) for word in ("mean-", "token-", "task-")]
    assert [lines[1][end - 1] for end in ends] == ["e", "e", "p"]  # under the first halves
    assert len(lines) == 2 + 17


def test_more_estimators_than_fit_beside_one_another_take_a_further_table() -> None:
    tables = laid_out(list(ESTIMATORS))
    assert len(tables) == 2
    assert sum(len(lines[0].split()) - 1 for lines in tables) == len(ESTIMATORS)


@pytest.mark.parametrize(
    ("modality", "layers", "method"), [("vision", 1, "initial"), ("vision", 2, "initial"), ("text", 1, "projection")]
)
def test_the_next_command_names_a_method_that_fits(
    promptgraft: Any,
    make_prompt: Any,
    image_folder: Path,
    tiny_vit_folder: Path,
    tmp_path: Path,
    modality: str,
    layers: int,
    method: str,
) -> None:
    library = PromptLibrary(tmp_path / "prompts")
    library.add(make_prompt(layers, dim=32, modality=modality), "a-prompt")
    common = ["--library", library.folder, "--backbone", f"dir:{tiny_vit_folder}"]
    _, out, _ = promptgraft("rank", image_folder, *common, "--estimators", "norm")
    last = out.splitlines()[-1]
    assert last.startswith(f"next: promptgraft transfer a-prompt {image_folder} --method {method} ")
    words = shlex.split(last.partition("promptgraft ")[2].replace("DIR", str(tmp_path / "out")))
    assert promptgraft(*words, "--epochs", 1)[0] == 0


def test_no_next_command_where_no_method_fits(
    promptgraft: Any, make_prompt: Any, image_folder: Path, tiny_vit_folder: Path, tmp_path: Path
) -> None:
    library = PromptLibrary(tmp_path / "prompts")
    library.add(make_prompt(2, dim=32, modality="text"), "deep-text")
    arguments = ["--library", library.folder, "--backbone", f"dir:{tiny_vit_folder}", "--estimators", "norm"]
    _, out, _ = promptgraft("rank", image_folder, *arguments)
    assert out.splitlines()[-1].startswith(
        f"none of these can be grafted onto this backbone     next: promptgraft adapt {image_folder} --backbone "
    )
