"""What `doctor data` finds."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from promptgraft.errors import InputError
from promptgraft.tasks.diagnosis import LONG, diagnose
from promptgraft.tasks.findings import Diagnosis, SplitSize, from_error
from promptgraft.tasks.load import load_task


def picture(path: Path, seed: int, size: tuple[int, int] = (20, 20), grey: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels[..., 0] if grey else pixels).save(path)


def photos(root: Path, classes: str = "ab", count: int = 5, start: int = 0) -> Path:
    for c, name in enumerate(classes):
        for i in range(count):
            picture(root / name / f"{i}.png", start + 100 * c + i)
    return root


def in_splits(root: Path) -> Path:
    for number, split in enumerate(("train", "val", "test")):
        photos(root / split, start=1000 * number)
    return root


def vtab(root: Path, counts: tuple[int, int, int] = (8, 4, 6), classes: int = 2) -> Path:
    seed = 0
    for split, count in zip(("train800", "val200", "test"), counts, strict=True):
        names = [f"images/{split}/{i:06d}.jpg" for i in range(count)]
        for name in names:
            picture(root / name, seed := seed + 1)
        (root / f"{split}.txt").write_text("".join(f"{name} {i % classes}\n" for i, name in enumerate(names)))
    return root


def table(root: Path, *rows: tuple[str, str]) -> Path:
    root.mkdir(exist_ok=True)
    path = root / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    return path


TEXTS = [(f"text {i}", "yn"[i % 2]) for i in range(20)]


def said(found: Diagnosis, severity: str | None = None) -> str:
    """All findings, a line each."""
    return "\n".join(
        f"{finding.severity}: {finding.what}. {finding.cure}"
        for finding in found.findings
        if severity in (None, finding.severity)
    )


def test_good_data_has_sizes_and_no_findings(tmp_path: Path) -> None:
    found = diagnose(in_splits(tmp_path / "photos"))
    assert (found.layout, found.modality, found.classes, found.findings) == ("class folders", "vision", 2, ())
    assert found.splits == tuple(SplitSize(split, 10, 2, 5, 5.0, 5) for split in ("train", "val", "test"))
    assert diagnose(photos(tmp_path / "flat")).splits == (SplitSize("all", 10, 2, 5, 5.0, 5),)
    found = diagnose(table(tmp_path, *TEXTS, ("more", "y")))
    assert (found.layout, found.modality, found.usable, found.findings) == ("texts", "text", True, ())
    assert found.splits == (SplitSize("all", 21, 2, 10, 10.5, 11),)


def test_missing_broken_and_strange_files(tmp_path: Path) -> None:
    root = photos(tmp_path)
    (root / "a/gone.png").symlink_to(tmp_path / "nowhere")
    (root / "a/broken.png").write_text("x")
    (root / "b/cut.jpg").write_bytes((root / "b/0.png").read_bytes()[:200])
    os.mkfifo(root / "b/pipe.png")
    found = diagnose(root)
    assert not found.usable
    errors = said(found, "error")
    assert "1 of 14 images missing: a/gone.png. " in errors
    assert "3 of 14 files unusable: a/broken.png is not an image that can be decoded" in errors
    assert "b/pipe.png is not an image" in errors
    assert "--skip-bad" in errors
    assert found.splits[0].examples == 10
    assert load_task(root, skip_bad=True).notes == ("4 unreadable files skipped",)


def test_duplicates_are_found_by_content(tmp_path: Path) -> None:
    root = in_splits(tmp_path / "photos")
    shutil.copy(root / "train/a/0.png", root / "test/a/copy.png")
    shutil.copy(root / "train/a/1.png", root / "train/a/again.png")
    shutil.copy(root / "train/a/2.png", root / "train/b/other.png")
    found = diagnose(root)
    assert found.usable
    assert said(found).splitlines() == [
        "warning: 1 of test equal to examples of train: test/a/copy.png. They flatter accuracy: remove them.",
        "warning: 1 content under more than one class, such as train/a/2.png, train/b/other.png. "
        "Correct the labels, or remove the copies.",
        "note: 2 repeated examples in one split: train/a/again.png, train/b/other.png. "
        "Copies stay on one side where data is divided.",
    ]


def test_odd_images_are_told(tmp_path: Path) -> None:
    root = photos(tmp_path)
    picture(root / "a/tiny.png", 900, (15, 40))
    picture(root / "a/huge.png", 901, (4097, 16))
    picture(root / "b/grey.png", 902, grey=True)
    picture(root / "b/grey.jpg", 903, grey=True)
    Image.open(root / "b/grey.jpg").convert("RGB").save(root / "b/tiled.jpg")
    Image.new("RGB", (20, 20), "red").save(root / "b/flat.png")
    found = diagnose(root)
    assert found.usable
    warnings, notes = said(found, "warning"), said(found, "note")
    assert warnings == (
        "warning: 1 image of one plain colour: b/flat.png. Look at them: a failed download or export often looks so."
    )
    assert "1 image with a side below 16 pixels: a/tiny.png" in notes
    assert "1 image with a side above 4096 pixels: a/huge.png" in notes
    assert "3 of 16 images without colour: b/grey.jpg, b/grey.png, b/tiled.jpg. See whether one class" in notes
    assert "3 sizes of images, 15x40 to 4097x16, most often 20x20 (14)" in notes


def test_classes_that_a_split_lacks(tmp_path: Path) -> None:
    root = in_splits(tmp_path / "photos")
    shutil.rmtree(root / "test/b")
    assert said(diagnose(root)) == (
        "note: 1 class (b) of train without an example in test. Accuracy on them is not measured there."
    )
    shutil.rmtree(root / "train/b")
    assert "error: class 'b' has images for val" in said(diagnose(root))
    task = vtab(tmp_path / "svhn", classes=2)
    (task / "test.txt").write_text((task / "test.txt").read_text().replace(" 1\n", " 2\n"))
    notes = said(diagnose(task), "note")
    assert "1 class (2) of test without a training example. The public splits are not stratified" in notes
    assert "1 class (1) of train without an example in test" in notes


def test_a_copy_of_vtab_is_compared_with_the_public_one(tmp_path: Path) -> None:
    found = diagnose(vtab(tmp_path / "svhn", (800, 200, 12), classes=10))
    assert said(found, "warning") == (
        "warning: the lists name 12 images for test, and those of svhn 26,032. "
        "Fetch another copy: results on this one cannot be compared."
    )
    assert found.usable
    found = diagnose(vtab(tmp_path / "svnh"))
    assert "'svnh' is not the folder name of a task of VTAB-1k. " in said(found, "note")
    assert "Did you mean 'svhn'?" in said(found, "note")
    (tmp_path / "svhn/test.txt").unlink()
    found = diagnose(tmp_path / "svhn")
    assert "lacks test.txt. Fetch the archive again: copies are often incomplete." in said(found, "error")
    assert found.splits == ()


def test_a_folder_of_tasks_is_told_task_by_task(tmp_path: Path) -> None:
    for name in ("kitti", "caltech101"):
        vtab(tmp_path / name)
    (tmp_path / "kitti/images/test/000002.jpg").unlink()
    found = diagnose(tmp_path)
    assert said(found).startswith("warning: 17 of the 19 tasks of VTAB-1k are missing: cifar, dtd, ")
    assert [Path(part.path).name for part in found.parts] == ["caltech101", "kitti"]
    assert [part.usable for part in found.parts] == [True, False]
    assert not found.usable


def test_texts(tmp_path: Path) -> None:
    rows = [*TEXTS, ("", "y"), ("x", ""), ("text 0", "y"), ("text 1", "y"), ("word " * (LONG + 1), "n")]
    found = diagnose(table(tmp_path, *rows))
    assert said(found).splitlines() == [
        "error: 1 line without a text: texts.jsonl:21. Fill them in or remove them, or leave them out with "
        "--skip-bad.",
        "error: 1 line without a label: texts.jsonl:22. Fill them in or remove them, or leave them out with "
        "--skip-bad.",
        "warning: 1 content under more than one class, such as texts.jsonl:2, texts.jsonl:24. "
        "Correct the labels, or remove the copies.",
        "note: 1 text of more than 400 words, the longest 401: texts.jsonl:25. "
        "Models of 512 tokens read only the beginning of them.",
        "note: 2 repeated examples in one split: texts.jsonl:23, texts.jsonl:24. "
        "Copies stay on one side where data is divided.",
    ]
    for split, shift in (("train", 0), ("test", 19)):
        lines = [f"{i + shift}\t{'yn'[i % 2]}" for i in range(20)]
        (tmp_path / f"{split}.tsv").write_text("text\tlabel\n" + "\n".join(lines))
    found = diagnose(tmp_path)
    assert [size.split for size in found.splits] == ["train", "test"]
    assert "1 of test equal to examples of train: test.tsv:2." in said(found, "warning")
    (tmp_path / "test.tsv").write_bytes(b"text\tlabel\n\xff\t1\n")
    assert "test.tsv, line 2: not UTF-8 text. Save the file as UTF-8." in said(diagnose(tmp_path), "error")


def write(name: str, content: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(content)


BROKEN: dict[str, list[Callable[[Path], object]]] = {
    "good": [in_splits],
    "one-class": [lambda root: photos(root, "a")],
    "single": [photos, lambda root: picture(root / "c/0.png", 1)],
    "loose": [photos, lambda root: picture(root / "loose.png", 1)],
    "empty-class": [photos, lambda root: (root / "c").mkdir()],
    "unknown-class": [in_splits, lambda root: (root / "test/b").rename(root / "test/c")],
    "bad-class": [photos, lambda root: (root / "c").mkdir(), write("c/x.png", "x")],
    "vtab": [vtab],
    "vtab-label": [vtab, write("val200.txt", "images/val200/000001.jpg cat\n")],
    "vtab-path": [vtab, write("val200.txt", "../../x.jpg 1\n")],
    "vtab-empty": [vtab, write("train800.txt", ""), write("test.txt", "")],
    "birds": [write("images.txt", "1 1\n"), write("image_class_labels.txt", "1 1\n")],
    "json": [write("train.json", "[" * 100_000), write("test.json", "{}")],
    "matlab": [write("imagelabels.mat", "MATLAB 5.0" + "\0" * 300)],
    "no-train": [write("test.csv", "text,label\na,b\n")],
    "nested": [write("train.jsonl", "[" * 100_000), write("test.jsonl", "{}")],
    "number": [write("train.csv", f"text,label\nx,{'9' * 5000}\ny,1\nz,1\n")],
    "surrogate": [write("train.jsonl", '{"text": "\\ud800", "label": "\\ud800"}\n' * 3), write("test.jsonl", "{}")],
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_error_stands_exactly_where_the_data_cannot_be_loaded(name: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    for step in BROKEN[name]:
        step(root)
    found = diagnose(root)
    json.dumps([finding.what for finding in found.findings], ensure_ascii=False).encode()
    try:
        load_task(root)
    except InputError:
        assert not found.usable
    else:
        assert found.usable


@pytest.mark.parametrize("name", ["nowhere", "notes.txt", "empty", "bytes.csv"])
def test_what_cannot_be_data_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError):
        diagnose(tmp_path / name)


def test_an_error_is_parted_into_what_and_cure() -> None:
    found = from_error(InputError("a.b has 3. x. Remove\x1b it."))
    assert (found.what, found.cure) == ("a.b has 3. x", "Remove? it.")
    assert from_error(InputError("short")).what == "short"
