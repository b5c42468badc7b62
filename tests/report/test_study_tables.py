import re

import pytest
from study_sample import ESTIMATORS, METHODS, TARGETS, sample_study

from promptgraft.report.study_tables import latex, markdown

HOSTILE = "a|b & c_d $x$ \\input{/etc/passwd} %~^#[2]*<b>`\n\x1b[31m=1+1"


def hostile_study():
    study = sample_study(targets=("mnist-5k", HOSTILE))
    for name in ("rows", "averages", "agreement"):
        for entry in study[name]:
            entry |= {key: HOSTILE + entry[key] for key in ("method", "backbone") if entry.get(key)}
    return study | {"name": HOSTILE, "folder": "x --> <b>\n", "baseline": HOSTILE}


def cells(text):
    """The tables of a Markdown text as rows of cells."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_markdown_has_every_table():
    study = sample_study()
    text = markdown(study)
    assert text.startswith("<!-- promptgraft study report s -->\n")
    rows = cells(text)
    assert rows[0] == ["Target", *METHODS]
    by_target = {row[0]: row[1:] for row in rows[2 : 2 + len(TARGETS)]}
    assert list(by_target) == list(TARGETS)
    vpt = next(r for r in study["rows"] if (r["target"], r["method"]) == ("mnist-5k", "vpt deep"))
    assert f"{100 * vpt['mean']:.1f} ± {100 * vpt['sd']:.1f}" in by_target["mnist-5k"][3]
    for numbers in by_target.values():
        assert sum(cell.startswith("**") for cell in numbers) == 1
    assert ["Target", *(name.replace("_", r"\_") for name in ESTIMATORS)] in rows
    assert [row[0] for row in rows].count("Mean rank") == 1
    assert "None" not in text
    assert "the one that is best on the validation split" in text


def test_markdown_rows_keep_their_columns_whatever_the_names():
    text = markdown(hostile_study())
    heads = [row for row in cells(text) if row[0] in ("Target", "Method")]
    assert len(heads) == 3
    width = None
    for row in cells(text):
        width = len(row) if row in heads else width
        assert len(row) == width
    assert "<b>" not in text.split("\n", 1)[1]
    assert "\x1b" not in text
    assert text.count("-->") == 1  # the folder's name does not end the comment


def test_latex_is_booktabs_with_balanced_groups():
    text = latex(sample_study())
    assert text.startswith("% promptgraft study report s\n")
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 3
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 3
    assert text.count("{") == text.count("}")
    assert r"h\_score" in text
    assert "±" not in text
    assert re.search(r"\\textbf\{\d\d\.\d \$\\pm\$ \d\.\d\}", text)


@pytest.mark.parametrize("special", list("&%$#_{}~^\\"))
def test_latex_specials_are_escaped(special):
    name = f"a{special}b"
    study = sample_study(targets=("mnist-5k", name))
    line = next(line for line in latex(study).splitlines() if line.startswith("a") and "&" in line)
    first = re.split(r"(?<!\\)&", line)[0].strip()
    assert first in (f"a\\{special}b", *(f"a\\text{word}{{}}b" for word in ("backslash", "asciitilde", "asciicircum")))


def test_latex_names_cannot_run_commands_or_break_rows():
    text = latex(hostile_study())
    assert r"\input" not in text
    assert "\x1b" not in text
    for body in re.findall(r"\\begin\{tabular\}\{(\w+)\}\n(.*?)\\end\{tabular\}", text, re.S):
        for line in body[1].splitlines():
            if line.endswith(r" \\"):
                assert len(re.findall(r"(?<!\\)&", line)) == len(body[0]) - 1
    assert "[2]" not in text


def test_empty_study_has_no_tables():
    study = sample_study() | {name: [] for name in ("rows", "averages", "agreement")}
    assert cells(markdown(study)) == []
    assert "tabular" not in latex(study)
