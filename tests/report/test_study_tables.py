import re

import pytest
from study_sample import ESTIMATORS, METHODS, SOURCES, TARGETS, TRANSFER, sample_study

from promptgraft.report.study_page import render_study
from promptgraft.report.study_tables import latex, markdown

HOSTILE = "a|b & c_d $x$ \\input{/etc/passwd} %~^#[2]*<b>`\n\x1b[31m=1+1"


def hostile_study():
    study = sample_study(targets=("mnist-5k", HOSTILE))
    for name in ("rows", "averages", "agreement", "comparisons", "gains", "estimates", "estimators"):
        for entry in study[name]:
            entry |= {key: HOSTILE + entry[key] for key in ("method", "backbone", "against") if entry.get(key)}
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


def test_many_methods_stand_as_lines():
    study = sample_study(targets=("mnist-5k", "textures"))
    few = table(markdown(study), "baselines: accuracy on dinov2-small")
    extra = [row | {"method": f"{row['method']} again"} for row in study["rows"]]
    many = {**study, "rows": [*study["rows"], *extra]}
    heads, *lines = table(markdown(many), "baselines: accuracy on dinov2-small")
    assert heads == ["Method", "mnist-5k", "textures", "Mean", "Mean rank"]
    assert [line[0] for line in lines] == [*METHODS, *(f"{name} again" for name in METHODS)]
    assert [list(column) for column in zip(*lines[: len(METHODS)], strict=True)][1:] == [line[1:] for line in few[1:]]
    page = render_study(many)
    assert '<th scope="col">Method</th><th scope="col" class="number long">mnist-5k</th>' in page
    assert page.count('<th scope="row" class="long">vpt deep again</th>') == 1
    assert 'data-label="vpt deep on all targets" data-tells="Mean rank' in page


def test_markdown_rows_keep_their_columns_whatever_the_names():
    text = markdown(hostile_study())
    tables = [cells(block) for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == text.count("\n## ") == 14
    for rows in tables:
        assert {len(row) for row in rows} == {len(rows[0])}
    assert "<b>" not in text.split("\n", 1)[1]
    assert "\x1b" not in text
    assert text.count("-->") == 1  # the folder's name does not end the comment


def test_latex_is_booktabs_with_balanced_groups():
    text = latex(sample_study())
    assert text.startswith("% promptgraft study report s\n")
    tables = text.count(r"\begin{table}")
    assert tables == text.count(r"\end{table}") == markdown(sample_study()).count("\n## ")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == tables
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == tables
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


def table(text, title):
    """The rows of the table below a heading, without the rule."""
    found = cells(text.split(f"## {title}\n")[1].split("\n## ")[0])
    return [found[0], *found[2:]]


def test_sources_stand_in_tables_with_the_methods_that_take_none():
    study = sample_study()
    heads, *lines = table(markdown(study), "Every source by projection on dinov2-small")
    assert heads == ["Source", *TARGETS, "Mean"]
    assert [line[0] for line in lines] == [*SOURCES, *(name for name in METHODS if name not in TRANSFER)]
    (one,) = [
        r for r in study["rows"] if (r["method"], r["target"], r["source"]) == ("projection", "textures", SOURCES[0])
    ]
    assert lines[0][3].strip("*") == f"{100 * one['mean']:.1f}"
    assert all(sum(line[column].startswith("**") for line in lines) == 1 for column in range(1, 7))


def test_a_source_that_learned_nothing_is_said_to():
    known = {"method": "spt shallow", "backbone": "minilm", "train_n": 22000}
    known |= {
        name: {"val": 0.8, "test": share} for name, share in (("majority", 0.5), ("head", 0.7), ("prompt", 0.75))
    }
    ends = {"text/up": (0.05, 0.02, 0.08), "text/level": (0.01, -0.02, 0.04), "text/down": (-0.05, -0.08, -0.02)}
    rows = [
        known | {"source": source, "difference": value, "low": low, "high": high}
        for source, (value, low, high) in ends.items()
    ]
    rows.append({"source": "text/waits", "prompt": {"val": None, "test": None}, "low": None})
    text = markdown(sample_study() | {"tuned": rows})
    heads, *lines = table(text, "Source prompts that the study tuned")
    assert heads[:3] == ["Source", "Learned", "Train"]
    assert [line[1] for line in lines] == ["yes", "not for certain", "worse", "–"]
    assert lines[0][2:] == ["22,000", "80.0", "80.0", "80.0", "50.0", "70.0", "75.0", "+5.0 (+2.0 to +8.0)"]
    assert lines[3][2:] == ["–"] * 8
    assert "2 of 4 prompts are not above the head for certain" in text
    page = render_study(sample_study() | {"tuned": rows})
    assert "What the sources have learned" in page
    assert "What the sources have learned" not in render_study(sample_study())


def test_every_comparison_has_a_line():
    study = sample_study()
    heads, *lines = table(markdown(study), "Pairs of source and target on dinov2-small")
    assert heads == ["Method", "Against", "Above", "Pairs", "Share", "95 % interval", "Mean gain", "p"]
    assert {line[0] for line in lines} == set(TRANSFER)
    found = next(r for r in study["comparisons"] if (r["method"], r["against"]) == ("projection", "random-projection"))
    (line,) = [line for line in lines if line[:2] == ["projection", "random-projection"]]
    assert line[2:5] == [str(found["above"]), "30", f"{100 * found['share']:.0f}"]
    assert line[5] == f"{100 * found['low']:.0f} to {100 * found['high']:.0f}"
    assert ["projection", "initial, same source"] in [line[:2] for line in lines]


def test_gains_and_orders_have_tables():
    study = sample_study()
    text = markdown(study)
    assert text.count("## Gains by target on dinov2-small") == 5  # each method without sources but the baseline
    heads, *lines = table(text, "Gains by target on dinov2-small")
    assert heads == ["Target", "mlp over linear", "initial over mlp", "projection over mlp"]
    assert [line[0] for line in lines] == [*TARGETS, "Correlation"]
    heads, *lines = table(text, "Sources of textures by projection on dinov2-small")
    assert heads == ["Source", "Measured", *(name.replace("_", r"\_") for name in ESTIMATORS)]
    assert sorted(line[1] for line in lines)[::-1] == [line[1] for line in lines]
    assert sorted(line[2].strip("*") for line in lines) == list("123456")


def test_cost_stands_by_method_least_parameters_first():
    study = sample_study()
    heads, *lines = table(markdown(study), "baselines: cost")
    known = {row["method"]: row for row in study["cost"] if row["kind"] == "train"}
    parameters = [known[line[0]]["parameters"] for line in lines]
    assert (len(heads), len(lines), parameters) == (5, len(known), sorted(parameters))
    assert [float(line[3]) for line in lines] == [round(known[line[0]]["seconds_each"], 1) for line in lines]


def test_empty_study_has_no_tables():
    study = {name: [] if isinstance(value, list) else value for name, value in sample_study().items()}
    assert cells(markdown(study)) == []
    assert "tabular" not in latex(study)
