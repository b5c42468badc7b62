"""Several sources together in a study's report: gains, weights and gradients."""

import re
from typing import Any

import pytest
from reading import Reader
from study_sample import sample_study

from promptgraft.report.study_heat import Heat, matrix
from promptgraft.report.study_page import render_study, write_study_report
from promptgraft.report.study_sources import source_panels
from promptgraft.report.study_tables import latex, markdown
from promptgraft.report.study_weights import OWN, mean_cosine, together_panels, weight_map
from promptgraft.study.comparisons import comparisons

HOSTILE = "</script><script>alert(1)</script>\"'`{{ 7 * 7 }}|&"
SOURCES = ["vision/a", "vision/b", "vision/c"]


def together_study(backbone: str = "vit", method: str = "hgprompt", source: str = "all") -> dict[str, Any]:
    """Three targets, each without the source of its own; accuracies rise from `linear` over `average` to `method`."""
    rows, trials, weights = [], [], []
    for number, target in enumerate("abc"):
        names = [name for name in SOURCES if not name.endswith(target)]
        for place, name in enumerate(("linear", "average", method)):
            key, value = f"{target}{name}", 0.5 + 0.1 * place + 0.01 * number
            row = {"backbone": backbone, "target": target, "method": name, "source": source if place else None}
            rows.append(row | {"together": place > 0, "n": 1, "mean": value, "rank": 3 - place, "trials": [key]})
            trials.append(row | {"key": key, "kind": "train", "state": "done", "seed": 0, "test_accuracy": value})
            if place:
                share = [0.5, 0.5] if place == 1 else [0.1, 0.6]
                cosines = [[1.0, -0.25], [-0.25, 1.0]] if place == 2 else None
                weighed = {"target": target, "method": name, "n": 1, "sources": names, "weights": share}
                weights.append(weighed | {"backbone": backbone, "cosines": cosines})
    empty: dict[str, Any] = {name: [] for name, value in sample_study().items() if isinstance(value, list)}
    known = {"rows": rows, "trials": trials, "weights": weights, "comparisons": comparisons(rows, trials)}
    return sample_study() | empty | known | {"counts": {}, "spec": {}, "baseline": "linear"}


def test_one_panel_has_gains_weights_and_gradients() -> None:
    (panel,) = together_panels(together_study()).values()
    told = [[cell.text for cell in line] for line in panel["gains"].lines]
    assert [line[:3] for line in told] == [
        ["average", "linear", "3 of 3"],
        ["hgprompt", "linear", "3 of 3"],
        ["hgprompt", "average", "3 of 3"],
    ]
    assert told[1][3].startswith("+39")
    assert [each["method"] for each in panel["maps"]] == ["average", "hgprompt"]
    assert [(each["target"], each["method"], each["mean"]) for each in panel["gradients"]] == [
        (target, "hgprompt", "−0.25") for target in "abc"
    ]


def test_a_map_has_a_row_for_each_source_and_an_empty_place_for_the_targets_own() -> None:
    figure = weight_map(SOURCES, {"a": [None, 0.1, 0.6], "b": [0.5, None, 0.5]}, "attempt")
    rows = re.findall(r'text-anchor="end">([^<]*)', figure)
    assert rows == [*SOURCES, OWN]
    assert figure.count('class="ground"') == 3  # two of their own, and none is mixed into b
    assert re.findall(r'class="count">([^<]*)', figure) == ["50", "10", "60", "50", "30"]
    assert f"<title>{OWN} on a: 30 %</title>" in figure
    assert 'aria-label="Weights of 3 sources on 2 targets by attempt."' in figure


def test_colour_is_the_value_and_its_sign() -> None:
    cells = {("r", "s"): Heat(1.0, "most"), ("r", "t"): Heat(-0.5, "against"), ("r", "u"): Heat(0.0, "none")}
    figure = matrix(["r"], list("stu"), cells, write="{:.1f}".format, label="a map")
    look = re.findall(r'class="(gain|loss)" fill-opacity="([^"]*)"', figure)
    assert look == [("gain", "0.55"), ("loss", "0.295"), ("gain", "0.04")]


def test_the_mean_cosine_is_over_pairs() -> None:
    assert mean_cosine([[1.0, 0.2, 0.4], [0.2, 1.0, None], [0.4, None, 1.0]]) == "0.30"
    assert mean_cosine([[1.0]]) == "–"


def test_sources_stand_in_one_order_on_all_targets() -> None:
    text = markdown(together_study())
    block = text.split("## Weights of the sources by hgprompt on vit\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("|")]
    assert lines[0] == ["Source", "a", "b", "c"]
    assert lines[2:] == [
        ["vision/a", "–", "10", "10"],
        ["vision/b", "10", "–", "**60**"],
        ["vision/c", "**60**", "**60**", "–"],
        [OWN, "30", "30", "30"],
    ]
    assert "## Methods of several sources on vit" in text
    assert "one that is best on the validation split" not in text
    assert "Every source by" not in text
    assert latex(together_study()).count(r"\begin{table}") == text.count("\n## ")


def test_the_page_shows_them_and_no_map_of_single_sources(tmp_path: Any) -> None:
    study = together_study()
    assert source_panels(study) == {}
    page = render_study(study)
    words = Reader(page).words  # type: ignore[no-untyped-call]
    assert "Several sources together" in words
    assert "Which source helps which target" not in words
    assert "Do the gradients of the sources agree?" in words
    assert "Several sources together" not in Reader(render_study(sample_study())).words  # type: ignore[no-untyped-call]
    names = {path.name for path in write_study_report(study, tmp_path) if path.parent.name == "figures"}
    weights = {f"weights-by-{method}-on-vit.svg" for method in ("average", "hgprompt")}
    assert names == weights | {f"gradients-on-{target}-by-hgprompt-on-vit.svg" for target in "abc"}


def test_single_sources_are_compared_with_them_as_with_a_method_without() -> None:
    study = together_study()
    for place, row in enumerate([row for row in study["rows"] if row["method"] == "linear"]):
        for name in ("x", "y"):
            own = {"method": "initial", "source": name, "together": False, "trials": [f"{place}{name}"]}
            study["rows"].append(row | own)
            trial = next(trial for trial in study["trials"] if trial["key"] == row["trials"][0])
            study["trials"].append(trial | {"key": f"{place}{name}", "method": "initial", "source": name})
    found = comparisons(study["rows"], study["trials"])
    (row,) = [row for row in found if (row["method"], row["against"]) == ("initial", "hgprompt")]
    assert (row["pairs"], row["sourced"], row["same_source"]) == (6, True, False)
    panels = source_panels(study | {"comparisons": found})["vit"]
    assert [panel["against"] for panel in panels] == ["linear", "average", "hgprompt"]
    assert all(len(panel["maps"]) == 1 for panel in panels)


@pytest.mark.parametrize("where", ["backbone", "method", "source"])
def test_hostile_names_stay_text(where: str) -> None:
    study = together_study(**{where: HOSTILE})
    if where == "source":
        for row in study["weights"]:
            row["sources"] = [HOSTILE + name for name in row["sources"]]
    reader = Reader(render_study(study))  # type: ignore[no-untyped-call]
    assert reader.tags.count("script") == Reader(render_study(together_study())).tags.count("script")  # type: ignore[no-untyped-call]
    text = markdown(study)
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) <= 1
