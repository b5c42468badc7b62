"""The page of a transfer from several prompts: maps of examples, weights, gradients."""

import json
import re
from typing import Any

import pytest
from reading import Reader

from promptgraft.report.source_page import cloud, render_sources, source_files


def sample(method: str = "hgprompt", classes: int = 3) -> dict[str, Any]:
    """An analysis as `SourceWatch` makes it."""
    names = ["vision/a", "vision/b"]
    labels = [i % classes for i in range(12)]
    points = [[i / 11, 1 - i / 11] for i in range(12)]
    return {
        "format_version": 1,
        "promptgraft": "0",
        "adapted": {
            "task": {
                "name": "birds",
                "modality": "vision",
                "fingerprint": "f" * 64,
                "classes": [f"class {i}" for i in range(classes)],
            },
            "backbone": {"name": "packs/vit", "weights_sha256": "0" * 64},
            "method": method,
            "layers": "shallow",
            "training": {"seed": 0, "recipe": {"lr": 0.1}, "device": "cpu", "dtype": "float32"},
            "versions": {"torch": "2"},
        },
        "sources": names,
        "weights": [0.25, 0.75],
        "cosines": [[1.0, -0.125], [-0.125, 1.0]],
        "split": "validation",
        "labels": labels,
        "maps": [
            {"name": name, "neighbours": 0.5, "points": points}
            for name in [*names, f"{method}, start", f"{method}, tuned"]
        ],
        "command": "promptgraft transfer vision/a vision/b birds --analyse --out x",
        "created": "2026-01-01T00:00:00+00:00",
    }


def test_page_says_what_was_measured() -> None:
    page = render_sources(sample())
    reader = Reader(page)  # type: ignore[no-untyped-call]
    assert "12 validation images" in reader.words
    assert "hgprompt, tuned 50.0 %" in reader.words
    assert "Mean of the pairs: −0.13." in reader.words or "Mean of the pairs: −0.12." in reader.words
    assert page.count("<circle") == 4 * 12
    assert len(re.findall('<svg[^>]*role="img" aria-label="', page)) == 4 + 2
    assert "promptgraft transfer vision/a vision/b birds --analyse --out x" in reader.words
    assert "None" not in reader.words
    assert "https://" not in page
    assert not [name for _, name, _ in reader.attributes if name in ("href", "action", "src", "srcset")]


@pytest.mark.parametrize("missing", ["weights", "cosines"])
def test_what_a_method_does_not_have_is_left_out(missing: str) -> None:
    titles = {"weights": "How much of each source", "cosines": "Do the gradients of the sources agree?"}
    words = Reader(render_sources(sample() | {missing: None})).words  # type: ignore[no-untyped-call]
    assert [title in words for title in titles.values()] == [name != missing for name in titles]


def test_points_stand_in_the_square_with_a_hue_for_each_class() -> None:
    figure = cloud([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]], [0, 1, 39], [f"c{i}" for i in range(40)], "a map")
    places = [tuple(map(float, place)) for place in re.findall(r'cx="([^"]*)" cy="([^"]*)"', figure)]
    assert places == [(8, 232), (232, 8), (120, 120)]  # y upwards
    hues = re.findall(r"--hue: ([0-9.]+)", figure)
    assert len(set(hues)) == 3
    assert all(0 <= float(hue) < 360 for hue in hues)
    assert re.findall("<title>([^<]*)", figure) == ["c0", "c1", "c39"]


def test_names_from_data_cannot_become_markup() -> None:
    hostile = '<script>alert(1)</script>" onload="alert(2)'
    analysis = sample()
    analysis["adapted"]["task"]["name"] = analysis["command"] = analysis["maps"][0]["name"] = hostile
    analysis["adapted"]["task"]["classes"] = analysis["sources"] = [hostile, "b", "c"]
    analysis["sources"] = [hostile, "b"]
    reader = Reader(render_sources(analysis))  # type: ignore[no-untyped-call]
    assert reader.tags.count("script") == 1
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]


def test_both_files_hold_the_same() -> None:
    files = source_files(sample())
    assert list(files) == ["analysis.json", "analysis.html"]
    assert json.loads(files["analysis.json"]) == sample()
    assert files["analysis.html"] == render_sources(sample())
