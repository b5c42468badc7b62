import math
import re

import pytest
from PIL import Image
from reading import Reader
from sample_result import BIRDS, sample_result

from promptgraft.report import figures
from promptgraft.report.page import render_page, write_report
from promptgraft.report.svg import accuracy_axis
from promptgraft.report.thumbnail import thumbnail


def test_page_says_what_happened():
    words = Reader(render_page(sample_result())).words
    assert "spt deep beats the linear probe by 3.2 points" in words
    assert "85.7 %" in words  # test accuracy
    assert "126 test images, measured once" in words
    assert "18 of 126 test images are classified wrongly" in words
    assert "gap beats norm on 3 of 6 measured targets." in words
    assert "the loss is not finite at epoch 3; lower lr=0.5" in words
    assert "3 duplicates kept on one side" in words
    assert "promptgraft predict birds new/" in words
    assert 'pg.load_adapted("birds")' in words
    assert "a1b2" * 16 in words


@pytest.mark.parametrize(
    "classes", [("no", "yes"), BIRDS, tuple(f"class {index}" for index in range(100))], ids=["2", "9", "100"]
)
@pytest.mark.parametrize("modality", ["vision", "text"])
def test_page_is_whole_and_needs_no_network(classes, modality):
    page = render_page(sample_result(classes, modality=modality, per_class=5))
    reader = Reader(page)
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert "url(" not in page
    assert not [name for tag, name, _ in reader.attributes if name in ("href", "action", "srcset")]
    assert "link" not in reader.tags
    assert "{{" not in page
    assert "None" not in reader.words
    assert "nan" not in reader.words.split()


def test_names_from_data_cannot_become_markup():
    hostile = "<script>alert(1)</script>"
    result = sample_result((hostile, '" onload="alert(2)', "ok"))
    result["task"]["name"] = result["verdict"] = hostile
    result["candidates"][0]["source"] = result["ranking"][0]["prompt"] = hostile
    result["candidates"][7]["reason"] = hostile
    result["out"] = result["command"] = hostile
    result["recipe"] = {hostile: hostile}
    result["errors"][0] |= {"text": hostile, "thumbnail": "https://example.org/x.jpg", "name": hostile}
    reader = Reader(render_page(result))
    assert reader.tags.count("script") == 1
    assert not [name for _, name, _ in reader.attributes if name.startswith("on")]
    assert not [value for _, name, value in reader.attributes if name == "src"]
    assert hostile in reader.words


def test_missing_numbers_show_as_dashes():
    result = sample_result()
    for key in ("ranking", "errors", "candidates", "versions", "recipe"):
        result[key] = type(result[key])()
    result |= {"test_accuracy": None, "val_accuracy": None, "linear_probe": None, "ranking_evidence": None}
    result |= {"confusion": None, "seconds": math.nan, "budget_seconds": None, "verdict": None, "out": None}
    words = Reader(render_page(result)).words
    assert "Test accuracy –" in words
    assert "promptgraft predict FOLDER" in words
    assert "Learning curves" not in words


def test_without_an_epoch_there_is_no_curve():
    start = {"epoch": 0, "train_loss": None, "val_accuracy": 0.8, "val_loss": 0.5}
    candidates = [{**candidate, "history": [start]} for candidate in sample_result()["candidates"]]
    assert figures.learning_curves(candidates, 0.8) == ([], "")


def test_missing_values_break_a_curve_and_leave_the_rest():
    result = sample_result()
    history = result["candidates"][1]["history"]
    history[10]["val_accuracy"] = math.nan
    history[20]["val_accuracy"] = None
    _, figure = figures.learning_curves([result["candidates"][1]], None)
    assert figure.count("<polyline") == 3
    assert "nan" not in figure
    result["candidates"][0]["val_accuracy"] = {"value": math.nan, "low": None, "high": math.nan, "n": 0}
    result["candidates"][0]["seconds"] = math.nan
    result["ranking"][0]["score"] = math.nan
    assert "nan" not in Reader(render_page(result)).words.split()


def test_folder_names_stay_usable_in_the_shell_and_in_python():
    result = sample_result()
    result["out"] = 'my "birds"'
    words = Reader(render_page(result)).words
    assert """predict 'my "birds"' new/""" in words
    assert r'pg.load_adapted("my \"birds\"")' in words


def test_nothing_wrong_and_nothing_finished():
    result = sample_result(("a", "b"))
    result["confusion"]["matrix"] = [[3, 0], [0, 4]]
    result["errors"] = []
    for candidate in result["candidates"]:
        candidate |= {"status": "failed", "val_accuracy": None, "winner": False, "history": []}
    words = Reader(render_page(result)).words
    assert "All 7 test images are classified correctly." in words
    assert "Wrongly classified" not in words


def test_a_ring_marks_the_epoch_that_was_kept():
    candidate = {**sample_result()["candidates"][0], "best_epoch": 7}
    _, figure = figures.learning_curves([candidate], None)
    ring = re.search(r'<circle r="8" class="kept" cx="([0-9.]+)%"', figure)
    assert float(ring[1]) == pytest.approx(100 * 6 / 49, abs=0.01)  # epochs 1 to 50
    assert "(kept 49)" in Reader(render_page(sample_result())).words


def test_curves_differ_by_more_than_colour():
    candidates = [{**sample_result()["candidates"][1], "winner": index == 0} for index in range(19)]
    curves, _ = figures.learning_curves(candidates, 0.8)
    assert len({curve.css for curve in curves}) == 19


def test_confusion_keeps_counts_where_they_fit_and_thins_labels_where_not():
    few = figures.confusion([[3, 1], [0, 4]], ["no", "yes"])
    assert [int(n) for n in re.findall(r'class="count[^"]*">(\d+)<', few)] == [3, 1, 4]
    many = figures.confusion([[int(r == c) for c in range(100)] for r in range(100)], [f"c{i}" for i in range(100)])
    assert many.count("<rect") == 101  # the ground and the diagonal
    assert "count" not in many
    assert many.count("<text") < 100
    assert "class 1: 0" not in many
    width = int(re.search(r'<svg width="(\d+)"', many)[1])
    assert width < 720


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [([0.771, 0.93], 0.75, 0.95), ([1.0], 0.995, 1.0), ([0.0, 1.0], 0.0, 1.0), ([], 0.0, 1.0)],
)
def test_axis_is_round_and_covers(values, low, high):
    axis = accuracy_axis(values)
    assert (axis.low, axis.high) == (pytest.approx(low), pytest.approx(high))
    assert axis.ticks[0] == pytest.approx(axis.low)
    assert axis.ticks[-1] == pytest.approx(axis.high)
    assert len(axis.ticks) <= 8


def test_write_report_takes_a_folder_or_a_file_and_embeds_pictures(tmp_path):
    result = sample_result()
    name = result["errors"][0]["name"]
    picture = Image.new("RGBA", (400, 200), "red")
    written = write_report(result, tmp_path, images={name: picture})
    assert written == tmp_path / "report.html"
    assert thumbnail(picture) in written.read_text()
    assert result["errors"][0]["thumbnail"] is None  # the caller's dict is left alone
    assert write_report(result, tmp_path / "other.html") == tmp_path / "other.html"
    assert "data:image" not in (tmp_path / "other.html").read_text()
