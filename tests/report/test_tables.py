import io

from rich.cells import cell_len
from rich.console import Console
from sample_result import sample_result

from promptgraft.report.tables import Column, candidates_table, table


def test_candidates_table_marks_the_winner_and_keeps_columns():
    lines = candidates_table(sample_result()["candidates"]).plain.splitlines()
    assert lines[0].split() == ["method", "source", "val", "accuracy", "parameters", "seconds"]
    assert lines[1].split() == ["*", "spt", "deep", "own", "tokens", "0.871", "+-", "0.059", "92", "k", "48"]
    assert [line[0] for line in lines].count("*") == 1
    end = lines[0].index("seconds") + len("seconds")
    assert all(line[end - 1].isdigit() for line in lines[1:])
    assert lines[-1].startswith("  attention")  # without an accuracy: last
    assert "stopped early" in lines[6]
    assert max(map(len, lines)) <= 100


def test_the_longer_arm_of_an_interval_is_shown():
    candidate = {"method": "linear", "val_accuracy": {"value": 1.0, "low": 0.7, "high": 1.0, "n": 9}}
    assert "1.000 +- 0.300" in candidates_table([candidate]).plain


def test_long_and_hostile_names_stay_in_line():
    rows = [
        {"name": "\x1b[31m" + "x" * 200 + "\n", "place": "日本語" * 30, "n": 3},
        {"name": "a", "place": None, "n": None},
    ]
    lines = table(rows, [Column("name", "name"), Column("place", "place"), Column("n", "n", right=True)]).plain.split(
        "\n"
    )
    assert len(lines) == 3
    assert all(cell_len(line) <= 100 for line in lines)
    assert "\x1b" not in lines[1]
    assert lines[1].count("…") == 2
    assert lines[2].split() == ["a", "-", "-"]


def test_a_pipe_gets_plain_uncropped_text():
    text = candidates_table(sample_result()["candidates"])
    stream = io.StringIO()
    Console(file=stream).print(text, soft_wrap=True)  # 80 columns wide, as in a pipe
    assert stream.getvalue() == text.plain + "\n"


def test_empty_table_is_its_heading():
    assert candidates_table([]).plain.split() == ["method", "source", "val", "accuracy", "parameters", "seconds"]
