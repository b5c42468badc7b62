"""CSV, TSV and JSONL."""

import json

import pytest

from promptgraft.errors import InputError
from promptgraft.tasks.load import load_task


def table(rows, separator=",", header=("text", "label")):
    return "\n".join(separator.join(row) for row in [header, *rows]) + "\n"


ROWS = [(f"sentence {i}", "good" if i % 2 else "bad") for i in range(40)]


def items(task):
    return {
        item: task.classes[label]
        for split in (task.train, task.val, task.test)
        for item, label in zip(split.inputs, split.labels, strict=True)
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", table(ROWS)),
        ("x.CSV", table(ROWS)),
        ("x.csv", table(ROWS, ";")),
        ("x.csv", table(ROWS).replace("\n", "\r\n")),
        ("x.tsv", table(ROWS, "\t")),
        ("x.csv", "\ufeff" + table(ROWS, header=("Sentence", "CATEGORY"))),
        ("x.jsonl", "\n".join(json.dumps({"content": t, "target": y}) for t, y in ROWS)),
    ],
)
def test_every_format_reads_alike(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    task = load_task(tmp_path / name)
    assert items(task) == dict(ROWS)
    assert task.describe() == "x: 40 texts, 2 classes (train 28, val 6, test 6)"
    assert task.classes == ("bad", "good")


def test_pairs(tmp_path):
    rows = [(f"q{i}", f"p{i}", str(i % 2)) for i in range(20)]
    (tmp_path / "x.csv").write_text(table(rows, header=("question", "passage", "label")))
    task = load_task(tmp_path / "x.csv")
    assert ("q0", "p0") in items(task)
    assert task.classes == ("0", "1")


def test_numbers_are_ordered_as_numbers(tmp_path):
    (tmp_path / "x.csv").write_text(table([(f"s{i}", str(i % 11)) for i in range(66)]))
    assert load_task(tmp_path / "x.csv").classes[-2:] == ("9", "10")


def test_a_quoted_text_may_hold_separators_quotes_and_lines(tmp_path):
    (tmp_path / "x.csv").write_text(table([*ROWS, ('"a, ""b""\nc"', "good")]))
    assert 'a, "b"\nc' in items(load_task(tmp_path / "x.csv"))


def test_json_strings_may_hold_unicode_line_separators(tmp_path):
    rows = [json.dumps({"text": f"a\u2028b{i}", "label": i % 2}, ensure_ascii=False) for i in range(20)]
    (tmp_path / "x.jsonl").write_text("\n".join(rows), encoding="utf-8")
    assert len(items(load_task(tmp_path / "x.jsonl"))) == 20


def test_a_folder_of_split_files(tmp_path):
    for name, part in (("train.csv", ROWS[:20]), ("dev.csv", ROWS[20:30]), ("test.csv", ROWS[30:])):
        (tmp_path / name).write_text(table(part))
    task = load_task(tmp_path)
    assert [len(task.train), len(task.val), len(task.test)] == [20, 10, 10]
    assert task.val.names[0] == "dev.csv:2"
    (tmp_path / "valid.tsv").write_text(table(ROWS))
    with pytest.raises(InputError, match=r"both dev\.csv and valid\.tsv"):
        load_task(tmp_path)


def test_a_folder_without_train_is_refused(tmp_path):
    (tmp_path / "test.csv").write_text(table(ROWS))
    with pytest.raises(InputError, match="no train file"):
        load_task(tmp_path)


def test_equal_texts_stay_on_one_side(tmp_path):
    (tmp_path / "x.csv").write_text(table([*ROWS, ROWS[0], ROWS[0]]))
    task = load_task(tmp_path / "x.csv")
    assert task.notes == ("2 duplicates kept on one side",)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (("text", "sentiment"), "no label column among 'text', 'sentiment'"),
        (("words", "label"), "no text column among 'words', 'label'"),
        (("class", "category", "text"), "several columns that may be the label: 'class', 'category'"),
        (("question", "sentence", "label"), "several columns that may be the text: 'question', 'sentence'"),
    ],
)
def test_unclear_columns_are_listed(tmp_path, header, message):
    (tmp_path / "x.csv").write_text(table([("a",) * len(header)] * 4, header=header))
    with pytest.raises(InputError, match=message):
        load_task(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("row", "message"), [((" ", "good"), "line 42: the text is empty"), (("hello", ""), "line 42: the label is empty")]
)
def test_empty_values_are_named_or_skipped(tmp_path, row, message):
    (tmp_path / "x.csv").write_text(table([*ROWS, row]))
    with pytest.raises(InputError, match=message):
        load_task(tmp_path / "x.csv")
    assert load_task(tmp_path / "x.csv", skip_bad=True).notes == ("1 line without text or label skipped",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"text,label\na,b\n\xff\xfe,c\n", "line 3: not UTF-8"),
        ("x.csv", b"text,label\na,b,c\n", "line 2: 3 fields, and the header has 2"),
        ("x.csv", b'text,label\n"a,b\nc,d\n', "line 3: unexpected end of data"),
        ("x.csv", b"", "no rows"),
        ("x.csv", b"text,label\n", "no rows"),
        ("x.jsonl", b'{"text": "a", "label": 1}\n{oops\n', "line 2: not JSON"),
        ("x.jsonl", b"[1]\n", "line 1: list instead of an object"),
        ("x.jsonl", b'{"text": "a", "label": 1}\n{"text": "b"}\n', "line 2: the label is empty"),
        ("x.parquet", b"PAR1", "not one of .csv, .tsv, .jsonl"),
    ],
)
def test_broken_files_are_named_with_the_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_task(tmp_path / name)


def test_one_class_and_single_examples(tmp_path):
    (tmp_path / "one.csv").write_text(table([("a", "x"), ("b", "x")]))
    with pytest.raises(InputError, match="one class, 'x', with 2 examples"):
        load_task(tmp_path / "one.csv")
    (tmp_path / "many.csv").write_text(table([(f"s{i}", f"0.{i}") for i in range(10, 30)]))
    with pytest.raises(InputError, match="and 15 more have 1 example each"):
        load_task(tmp_path / "many.csv")
