"""VTAB-1k text splits."""

import pytest
from PIL import Image

from promptgraft.errors import InputError
from promptgraft.tasks.load import load_task


@pytest.fixture
def vtab(tmp_path):
    root = tmp_path / "dsprites_loc"
    shade = 0
    for split, count in (("train800", 8), ("val200", 4), ("test", 6)):
        lines = []
        for i in range(count):
            name = f"images/{split}/{i:06d}.jpg"
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), shade := shade + 9).save(root / name)
            lines.append(f"{name} {i % 3}")
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return root


def test_splits_are_those_of_the_lists(vtab):
    task = load_task(vtab)
    assert task.describe() == "dsprites_loc: 18 images, 3 classes (train 8, val 4, test 6)"
    assert task.classes == ("0", "1", "2")
    assert task.train.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert task.val.names[0] == "images/val200/000000.jpg"
    assert task.test.inputs[0].mode == "RGB"


def test_parts_can_be_taken(vtab):
    task = load_task(vtab, n_train=3, n_test=3)
    assert [len(task.train), len(task.val), len(task.test)] == [3, 4, 3]


def test_a_class_without_training_examples_is_noted(vtab):
    (vtab / "train800.txt").write_text("images/train800/000000.jpg 0\nimages/train800/000001.jpg 1\n")
    assert load_task(vtab).notes == ("no training example of class 2",)


def test_a_missing_list_is_named(vtab):
    (vtab / "test.txt").unlink()
    (vtab / "val200.txt").unlink()
    with pytest.raises(InputError, match=r"lacks val200\.txt, test\.txt"):
        load_task(vtab)


def test_missing_images_are_counted_and_named(vtab):
    (vtab / "images/test/000002.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of 18 images .* images/test/000002\.jpg"):
        load_task(vtab)
    task = load_task(vtab, skip_bad=True)
    assert len(task.test) == 5
    assert task.notes == ("1 unreadable file skipped",)


@pytest.mark.parametrize(
    "path", ["../secret.jpg", "/etc/secret.jpg", "images/../../secret.jpg", "C:/x.jpg", "a\\..\\b.jpg"]
)
def test_a_path_out_of_the_folder_is_refused(vtab, path):
    (vtab / "val200.txt").write_text(f"{path} 0\n")
    with pytest.raises(InputError, match="leaves the data folder"):
        load_task(vtab)


@pytest.mark.parametrize(
    "line", ["images/val200/000000.jpg", "images/val200/000000.jpg cat", "images/val200/000000.jpg -1"]
)
def test_a_line_of_another_form_is_named(vtab, line):
    (vtab / "val200.txt").write_text(f"images/val200/000001.jpg 0\n{line}\n")
    with pytest.raises(InputError, match=r"val200\.txt, line 2"):
        load_task(vtab)
