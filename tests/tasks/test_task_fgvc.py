"""FGVC in the layouts that its authors publish."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from promptgraft.errors import InputError
from promptgraft.tasks.fgvc import fgvc_layout, read_fgvc
from promptgraft.tasks.load import load_task

MALLARD, TEAL = "001.Mallard", "002.Teal"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = sum(map(ord, str(path))) * 7919
    Image.new("RGB", (9, 8), (shade % 251, shade % 241, shade % 239)).save(path)


def records(**fields: list[Any]) -> Any:
    """A struct array as MATLAB saves it."""
    table = np.empty((1, len(next(iter(fields.values())))), dtype=[(name, object) for name in fields])
    for name, values in fields.items():
        for i, value in enumerate(values):
            table[name][0, i] = value
    return table


def cells(*texts: str) -> Any:
    return np.array([[text] for text in texts], dtype=object)


def birds(root: Path) -> None:
    rows = [(f"{i + 1}", f"{name}/{i}.jpg", name, i % 3) for i, name in enumerate([MALLARD, TEAL] * 6)]
    for _, name, *_ in rows:
        picture(root / "images" / name)
    (root / "images.txt").write_text("".join(f"{i} {name}\n" for i, name, *_ in rows))
    (root / "image_class_labels.txt").write_text("".join(f"{i} {int(c[:3])}\n" for i, _, c, _ in rows))
    (root / "train_test_split.txt").write_text("".join(f"{i} {int(part > 0)}\n" for i, *_, part in rows))
    (root / "classes.txt").write_text(f"1 {MALLARD}\n2 {TEAL}\n")


def nabirds(root: Path) -> None:
    """Ids are UUIDs, classes the leaves of a tree; two of them have one name here."""
    rows = [(f"0000139e-{i:04}", f"{'0817' if i % 2 else '1011'}/{i:04}.jpg", i % 2, i % 3) for i in range(12)]
    for _, name, *_ in rows:
        picture(root / "images" / name)
    (root / "hierarchy.txt").write_text("817 0\n1011 0\n")
    (root / "images.txt").write_text("".join(f"{i} {name}\n" for i, name, *_ in rows))
    (root / "image_class_labels.txt").write_text("".join(f"{i} {817 if c else 1011}\n" for i, _, c, _ in rows))
    (root / "train_test_split.txt").write_text("".join(f"{i} {int(part > 0)}\n" for i, *_, part in rows))
    (root / "classes.txt").write_text("0 Birds\n817 Oak Titmouse\n1011 Oak Titmouse\n")


def flowers(root: Path) -> None:
    for i in range(1, 13):
        picture(root / "jpg" / f"image_{i:05}.jpg")
    savemat(root / "imagelabels.mat", {"labels": np.array([[1, 2, 10] * 4], np.uint8)})
    ids = np.arange(1, 13, dtype=np.uint16)[None]
    savemat(root / "setid.mat", {"trnid": ids[:, :6], "valid": ids[:, 6:9], "tstid": ids[:, 9:]})


def dogs(root: Path) -> None:
    names = [f"n0208{breed}-{name}/{i}.jpg" for i in range(6) for breed, name in ((5, "Chihuahua"), (6, "Spaniel"))]
    for name in names:
        picture(root / "Images" / name)
    labels = np.array([[1], [2]] * 6, np.uint8)
    savemat(root / "train_list.mat", {"file_list": cells(*names[:8]), "labels": labels[:8]})
    savemat(root / "test_list.mat", {"file_list": cells(*names[8:]), "labels": labels[8:]})


def cars(root: Path) -> None:
    names = [f"car_ims/{i:06}.jpg" for i in range(12)]
    for name in names:
        picture(root / name)
    annotations = records(
        relative_im_path=names, **{"class": [1 + i % 2 for i in range(12)]}, test=[int(i > 7) for i in range(12)]
    )
    savemat(root / "cars_annos.mat", {"annotations": annotations, "class_names": cells("Audi", "BMW").T})


def cars_devkit(root: Path) -> None:
    (root / "devkit").mkdir()
    savemat(root / "devkit/cars_meta.mat", {"class_names": cells("Audi", "BMW").T})
    for split, count, file in (
        ("train", 8, "devkit/cars_train_annos.mat"),
        ("test", 4, "cars_test_annos_withlabels.mat"),
    ):
        names = [f"{i:05}.jpg" for i in range(1, count + 1)]
        for name in names:
            picture(root / f"cars_{split}" / name)
        labels = [1 + i % 2 for i in range(count)]
        savemat(root / file, {"annotations": records(fname=names, **{"class": labels})})


def vpt_json(root: Path) -> None:
    """VPT's lists beside the published files of CUB."""
    birds(root)
    names = [f"{(MALLARD, TEAL)[i % 2]}/{i}.jpg" for i in range(12)]
    for split, part in (("train", names[:6]), ("val", names[6:8]), ("test", names[8:])):
        (root / f"{split}.json").write_text(json.dumps({name: int(name[:3]) for name in part}))


PUBLISHED: dict[str, tuple[Callable[[Path], None], tuple[str, ...], list[int]]] = {
    "cub": (birds, (MALLARD, TEAL), [8, 0, 4]),
    "nabirds": (nabirds, ("1011 Oak Titmouse", "817 Oak Titmouse"), [8, 0, 4]),
    "flowers": (flowers, ("1", "2", "10"), [6, 3, 3]),
    "dogs": (dogs, ("n02085-Chihuahua", "n02086-Spaniel"), [8, 0, 4]),
    "cars": (cars, ("Audi", "BMW"), [8, 0, 4]),
    "cars-devkit": (cars_devkit, ("Audi", "BMW"), [8, 0, 4]),
    "json": (vpt_json, ("1", "2"), [6, 2, 4]),
}


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Path]:
    def made(name: str) -> Path:
        root = tmp_path / name
        root.mkdir()
        PUBLISHED[name][0](root)
        return root

    return made


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_layout_is_known_and_read(name: str, make: Callable[[str], Path]) -> None:
    root = make(name)
    _, classes, sizes = PUBLISHED[name]
    assert fgvc_layout(root) == name.split("-")[0]
    data = read_fgvc(root)
    assert data.classes == classes
    assert data.given is not None
    assert [data.given.count(split) for split in ("train", "val", "test")] == sizes
    task = load_task(root)
    assert len(task.test) == sizes[2]
    assert sum(len(split) for split in (task.train, task.val, task.test)) == 12
    assert task.train.inputs[0].size == (9, 8)


def test_labels_are_those_of_the_lists(make: Callable[[str], Path]) -> None:
    for name in ("cub", "dogs", "json"):
        data = read_fgvc(make(name))
        folders = [name.split("/")[-2] for name in data.names]
        titles = {"1": MALLARD, "2": TEAL} if name == "json" else {title: title for title in data.classes}
        assert folders == [titles[data.classes[label]] for label in data.labels]
    data = read_fgvc(make("flowers"))
    assert [(name[-6:-4], data.classes[label]) for name, label in zip(data.names, data.labels, strict=True)][:4] == [
        ("01", "1"),
        ("02", "2"),
        ("03", "10"),
        ("04", "1"),
    ]
    for name in ("cars", "cars-devkit"):
        data = read_fgvc(make(name))
        odd = [int(file[-6:-4]) % 2 == (name == "cars-devkit") for file in data.names]
        assert [data.classes[label] for label in data.labels] == ["Audi" if first else "BMW" for first in odd]


def test_the_sizes_of_the_papers_can_be_asked_for(make: Callable[[str], Path]) -> None:
    task = load_task(make("cub"), n_train=6, n_val=2)
    assert [len(task.train), len(task.val), len(task.test)] == [6, 2, 4]


def test_missing_and_broken_images_are_named_or_skipped(make: Callable[[str], Path]) -> None:
    root = make("cub")
    (root / "images" / MALLARD / "4.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of 12 images listed .* images/001.Mallard/4.jpg"):
        load_task(root)
    (root / "images" / TEAL / "5.jpg").write_text("x")
    assert load_task(root, skip_bad=True).notes[0] == "2 unreadable files skipped"


HOSTILE = [
    ("cub", "images.txt", "1 ../secret.jpg\n", "'../secret.jpg' leaves the data folder"),
    ("cub", "images.txt", "1 /etc/secret.jpg\n", "leaves the data folder"),
    ("cub", "images.txt", "1 a.jpg\n1 b.jpg\n", "line 2: id '1' appears twice"),
    ("cub", "images.txt", "1\n", "line 1: id '1' has no value"),
    ("cub", "images.txt", "", "name no images"),
    ("cub", "images.txt", b"\xff\xfe\x00", "not UTF-8"),
    ("cub", "image_class_labels.txt", "1 1\n", r"image_class_labels\.txt has no line for image 2"),
    ("cub", "train_test_split.txt", "1 1\n", r"train_test_split\.txt has no line for image 2"),
    ("cub", "train_test_split.txt", "".join(f"{i} 2\n" for i in range(1, 13)), "expected 0 or 1, found '2'"),
    ("cub", "train_test_split.txt", None, r"train_test_split\.txt is missing"),
    ("flowers", "setid.mat", {"trnid": [1], "valid": [2], "tstid": [13]}, "no label for image 13"),
    ("flowers", "setid.mat", {"trnid": [1], "valid": [2]}, "cannot be read as a MATLAB file with trnid, valid, tstid"),
    ("flowers", "setid.mat", {"trnid": [1], "valid": [2], "tstid": [1.5]}, "something else than whole numbers"),
    ("flowers", "setid.mat", b"MATLAB 5.0 MAT-file" + bytes(200), "cannot be read as a MATLAB file"),
    ("flowers", "setid.mat", None, r"setid\.mat is missing"),
    ("dogs", "test_list.mat", {"file_list": cells("a/1.jpg", "b/2.jpg"), "labels": [1]}, "2 files and 1 labels"),
    ("dogs", "test_list.mat", {"file_list": cells("../1.jpg"), "labels": [1]}, "leaves the data folder"),
    ("dogs", "test_list.mat", {"file_list": [3, 4], "labels": [1, 2]}, "something else than texts"),
    ("cars", "cars_annos.mat", {"annotations": [1], "class_names": cells("Audi")}, "no annotations with relative_im"),
    ("cars-devkit", "cars_test_annos_withlabels.mat", None, "is missing, which holds the labels of test"),
    ("json", "val.json", "{", "is not JSON"),
    ("json", "val.json", "[" * 100_000, "is not JSON"),
    ("json", "val.json", "[1]", "not of the form"),
    ("json", "val.json", '{"a.jpg": {"b": 1}}', "not of the form"),
    ("json", "val.json", '{"a.jpg": true}', "not of the form"),
    ("json", "val.json", '{"../a.jpg": 1}', "leaves the data folder"),
    ("json", "val.json", '{"a\\u0000.jpg": 1}', "leaves the data folder"),
    ("json", "val.json", json.dumps({"x" * 5000: 1}), "1 of 11 images listed"),
    ("json", "val.json", '{"\\ud800.jpg": 1}', "is not JSON"),
]


@pytest.mark.parametrize(("name", "file", "content", "message"), HOSTILE)
def test_hostile_lists_are_refused(
    name: str, file: str, content: Any, message: str, make: Callable[[str], Path]
) -> None:
    path = make(name) / file
    path.unlink()
    if isinstance(content, dict):
        savemat(path, content)
    elif content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=message):
        load_task(path.parent)


def test_json_beside_folders_of_the_splits_is_passed_over(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in "ab":
            for i in range(3):
                picture(tmp_path / split / name / f"{i}{split}.png")
        (tmp_path / f"{split}.json").write_text("{}")
    assert fgvc_layout(tmp_path) is None
    assert load_task(tmp_path).classes == ("a", "b")
