"""The five data sets of FGVC as their authors publish them, or by VPT's json lists beside the images.

CUB-200-2011 (Wah et al. 2011) and NABirds (Van Horn et al. 2015): text tables by image id. Oxford Flowers (Nilsback
and Zisserman 2008), Stanford Dogs (Khosla et al. 2011) and Stanford Cars (Krause et al. 2013): MATLAB files. VPT (Jia
et al. 2022): train.json, val.json and test.json, each {image: class}.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from promptgraft.errors import InputError
from promptgraft.files import read_file, read_json
from promptgraft.tasks.images import SPLIT_FOLDERS
from promptgraft.tasks.labelled import Labelled, class_order
from promptgraft.tasks.listing import LIST_LIMIT, Listing, inside, is_there, read_listed
from promptgraft.tasks.matlab import read_matlab
from promptgraft.tasks.splits import SPLITS

Row = tuple[Path, str, str]
"""A file, its class, its split."""
_AGAIN = "Fetch the archive again."


def fgvc_layout(root: Path) -> str | None:
    """Which layout a folder has: "json", "cub", "nabirds", "flowers", "dogs", "cars", or None.

    The json lists come first: they say which images VPT validates on, and lie beside the published files.
    """

    def has(*names: str) -> bool:
        return all((root / name).is_file() for name in names)

    # json files beside folders of the splits are about those
    folders = any(path.is_dir() and path.name.lower() in SPLIT_FOLDERS for path in root.iterdir())
    if has("train.json") and (has("val.json") or has("test.json")) and not folders:
        return "json"
    if has("images.txt", "image_class_labels.txt"):
        return "nabirds" if has("hierarchy.txt") else "cub"
    if has("imagelabels.mat"):
        return "flowers"
    if has("train_list.mat") or has("lists/train_list.mat"):
        return "dogs"
    return "cars" if has("cars_annos.mat") or has("devkit/cars_train_annos.mat") else None


def read_fgvc(root: Path, *, skip_bad: bool = False) -> Labelled:
    """Read a folder of one of the layouts of `fgvc_layout`.

    Args:
        root: the folder that holds the lists.
        skip_bad: leave out files that are missing or do not decode, and count them in the notes.

    Raises:
        InputError: as `list_fgvc`, a missing image, a file that is no image.
    """
    return read_listed(list_fgvc(root), skip_bad=skip_bad)


def list_fgvc(root: Path) -> Listing:
    """The files that the lists of a folder of one of the layouts of `fgvc_layout` name.

    Raises:
        InputError: a missing or malformed list, an image without a label or a split, a path that leaves the folder.
    """
    rows = _LAYOUTS[fgvc_layout(root) or "cub"](root)
    if not rows:
        raise InputError(f"the lists in {root} name no images. {_AGAIN}")
    classes = class_order([label for _, label, _ in rows])
    index = {name: number for number, name in enumerate(classes)}
    return Listing(
        root=root,
        files=[file for file, _, _ in rows],
        labels=np.array([index[label] for _, label, _ in rows], dtype=np.int64),
        classes=classes,
        given=[split for _, _, split in rows],
    )


def _json(root: Path) -> list[Row]:
    tables = {split: _json_table(path) for split in SPLITS if (path := root / f"{split}.json").is_file()}
    # paths are below the folder itself (flowers, cars), images/ (birds) or Images/ (dogs)
    first = next((name for table in tables.values() for name in table), "")
    folder = next((path for path in (root / "images", root / "Images") if is_there(path / first)), root)
    return [
        (inside(folder, name, f"{root / split}.json"), label, split)
        for split, table in tables.items()
        for name, label in table.items()
    ]


def _json_table(path: Path) -> dict[str, str]:
    try:
        table = read_json(_read(path))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}). {_AGAIN}") from error
    if not isinstance(table, dict) or not all(
        isinstance(label, int | str) and not isinstance(label, bool) for label in table.values()
    ):
        raise InputError(f"{path} is not of the form {{image: class}}. {_AGAIN}")
    return {name: str(label) for name, label in table.items()}


def _birds(root: Path) -> list[Row]:
    files, labels, trained = (
        _text_table(root / f"{name}.txt") for name in ("images", "image_class_labels", "train_test_split")
    )
    titles = _text_table(root / "classes.txt") if (root / "classes.txt").is_file() else {}
    titles = _distinct({label: titles.get(label, label) for label in labels.values()})
    rows = []
    for image, name in files.items():
        for table, what in ((labels, "image_class_labels.txt"), (trained, "train_test_split.txt")):
            if image not in table:
                raise InputError(f"{root / what} has no line for image {image} ({name[:80]}). {_AGAIN}")
        if trained[image] not in ("0", "1"):
            raise InputError(
                f"{root / 'train_test_split.txt'}, image {image}: expected 0 or 1, found {trained[image][:80]!r}. "
                f"{_AGAIN}"
            )
        file = inside(root / "images", name, f"{root / 'images.txt'}, image {image}")
        rows.append((file, titles[labels[image]], "train" if trained[image] == "1" else "test"))
    return rows


def _text_table(path: Path) -> dict[str, str]:
    """Lines "<id> <value>" of a text file."""
    try:
        lines = _read(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text. {_AGAIN}") from error
    table: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        key, *value = line.split(maxsplit=1)
        if not value or key in table:
            fault = "appears twice" if key in table else "has no value"
            raise InputError(f"{path}, line {number}: id {key[:80]!r} {fault}. {_AGAIN}")
        table[key] = value[0].strip()
    return table


def _flowers(root: Path) -> list[Row]:
    (found,) = _matlab(root / "imagelabels.mat", "labels")
    labels = _numbers(found, root / "imagelabels.mat")
    parts = _matlab(root / "setid.mat", "trnid", "valid", "tstid")
    rows = []
    for split, part in zip(SPLITS, parts, strict=True):
        for image in _numbers(part, root / "setid.mat"):
            if not 1 <= image <= len(labels):
                raise InputError(f"{root / 'imagelabels.mat'} has no label for image {image} of setid.mat. {_AGAIN}")
            rows.append((root / "jpg" / f"image_{image:05d}.jpg", str(labels[image - 1]), split))
    return rows


def _dogs(root: Path) -> list[Row]:
    rows: list[Row] = []
    folder = root / "Images" if (root / "Images").is_dir() else root / "images"
    for split in ("train", "test"):
        name = f"{split}_list.mat"
        path = root / name if (root / name).is_file() else root / "lists" / name
        files, labels = _matlab(path, "file_list", "labels")
        rows += _rows(folder, _texts(files, path), _numbers(labels, path), split, path)
    # a breed's name is that of its folder
    titles = _distinct({label: file.parent.name for file, label, _ in reversed(rows)})
    return [(file, titles[label], split) for file, label, split in rows]


def _cars(root: Path) -> list[Row]:
    if (path := root / "cars_annos.mat").is_file():
        (titles,) = _matlab(path, "class_names")
        files, labels, tested = _fields(path, "relative_im_path", "class", "test")
        pairs = _rows(root, _texts(files, path), _numbers(labels, path), "train", path)
        splits = ["test" if number else "train" for number in _numbers(tested, path)]
        rows = [(file, label, split) for (file, label, _), split in zip(pairs, splits, strict=True)]
    else:
        path = root / "devkit" / "cars_meta.mat"
        (titles,) = _matlab(path, "class_names")
        rows = []
        for split, name in (("train", "cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
            path = root / "devkit" / name if (root / "devkit" / name).is_file() else root / name
            if not path.is_file():
                raise InputError(f"{path} is missing, which holds the labels of {split}. Fetch it beside devkit/.")
            files, labels = _fields(path, "fname", "class")
            rows += _rows(root / f"cars_{split}", _texts(files, path), _numbers(labels, path), split, path)
    names = _distinct({str(number): name for number, name in enumerate(_texts(titles, path), start=1)})
    return [(file, names.get(label, label), split) for file, label, split in rows]


def _rows(folder: Path, files: Sequence[str], labels: Sequence[int], split: str, where: Path) -> list[Row]:
    if len(files) != len(labels):
        raise InputError(f"{where} has {len(files)} files and {len(labels)} labels. {_AGAIN}")
    return [(inside(folder, name, str(where)), str(label), split) for name, label in zip(files, labels, strict=True)]


def _distinct(titles: dict[str, str]) -> dict[str, str]:
    """Titles by label, the label before each where two labels have one title."""
    if len(set(titles.values())) == len(titles):
        return titles
    return {label: f"{label} {title}" for label, title in titles.items()}


def _read(path: Path) -> bytes:
    try:
        return read_file(path, LIST_LIMIT)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing. {_AGAIN}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}. {_AGAIN}") from error


def _matlab(path: Path, *keys: str) -> list[Any]:
    """Variables of a MATLAB file."""
    try:
        found = read_matlab(_read(path))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as a MATLAB file ({error}). {_AGAIN}") from error
    if not found.keys() >= set(keys):
        raise InputError(f"{path} cannot be read as a MATLAB file with {', '.join(keys)}. {_AGAIN}")
    return [found[key] for key in keys]


def _fields(path: Path, *names: str) -> list[Any]:
    """Fields of the struct array `annotations` of a MATLAB file."""
    (records,) = _matlab(path, "annotations")
    if not isinstance(records, dict) or not set(names) <= set(records):
        raise InputError(f"{path} has no annotations with {', '.join(names)}. {_AGAIN}")
    return [records[name] for name in names]


def _numbers(values: Any, path: Path) -> list[int]:
    items = values if isinstance(values, list) else [values]
    if not all(isinstance(item, int) or (isinstance(item, float) and item.is_integer()) for item in items):
        raise InputError(f"{path} holds something else than whole numbers. {_AGAIN}")
    return [int(item) for item in items]


def _texts(values: Any, path: Path) -> list[str]:
    items = values if isinstance(values, list) else [values]
    if not all(isinstance(item, str) for item in items):
        raise InputError(f"{path} holds something else than texts. {_AGAIN}")
    return items


_LAYOUTS: dict[str, Callable[[Path], list[Row]]] = {
    "json": _json,
    "cub": _birds,
    "nabirds": _birds,
    "flowers": _flowers,
    "dogs": _dogs,
    "cars": _cars,
}
