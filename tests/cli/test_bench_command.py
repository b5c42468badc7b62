import json

import pytest
from typer.testing import CliRunner

from promptgraft.bench.base import BENCHES
from promptgraft.cli import app
from promptgraft.errors import InputError


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["bench", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_table_is_plain_and_fits_100_columns() -> None:
    lines = run("--size", "smoke").splitlines()
    assert all(len(line) <= 100 and "…" not in line and "\x1b" not in line for line in lines)
    assert lines[0].split()[:2] == ["bench", "baseline"]
    assert [name for name in BENCHES if any(line.split()[0].startswith(name) for line in lines[1:])] == list(BENCHES)
    assert lines[-1].startswith("next: promptgraft")


def test_json_holds_the_rows_of_the_named_benches_once() -> None:
    rows = json.loads(run("modality-gap", "linear-grid", "modality-gap", "--size", "smoke", "--json"))
    assert [row["name"] for row in rows] == [
        "modality-gap",
        "modality-gap-cdist",
        "linear-grid",
        "linear-grid-own",
        "linear-grid-sklearn",
    ]
    assert all({"name", "ratio", "error", "seconds", "baseline", "date", "machine"} <= set(row) for row in rows)


def test_a_ratio_that_was_lost_fails_and_is_named(tmp_path) -> None:
    rows = json.loads(run("linear-grid", "--size", "smoke", "--json"))
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps([row | {"ratio": 0.01} for row in rows]))
    result = CliRunner().invoke(app, ["bench", "--size", "smoke", "--check", str(kept)])
    assert result.exit_code == 0
    assert f"{len(rows)} of {len(rows)} rows" in result.stderr
    assert "modality-gap" not in result.stdout  # what the file does not hold is not run
    lost = tmp_path / "lost.json"
    lost.write_text(json.dumps([*rows[:1], rows[1] | {"ratio": 1e6}, rows[0] | {"name": "linear-grid-gone"}]))
    result = CliRunner().invoke(app, ["bench", "linear-grid", "--size", "smoke", "--check", str(lost)])
    assert result.exit_code == 1
    assert "linear-grid-own: ratio " in result.stderr
    assert "linear-grid-gone: no such row" in result.stderr


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]", '[{"name": "x"}]'])
def test_a_file_that_bench_did_not_write_is_refused(text, tmp_path) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=r"x\.json"):
        run("--check", str(tmp_path / "x.json"))


def test_unknown_names_and_sizes_are_refused_before_anything_runs() -> None:
    with pytest.raises(InputError, match=r"no bench named 'deep-promt'. Did you mean 'deep-prompt'"):
        run("linear-grid", "deep-promt")
    with pytest.raises(InputError, match=r"'huge' is not known.*pocket, paper, smoke"):
        run("--size", "huge")
