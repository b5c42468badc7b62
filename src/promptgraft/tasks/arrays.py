"""Tasks from values in memory: arrays of images, lists of images, texts or pairs of texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptgraft.card import Modality
from promptgraft.errors import InputError
from promptgraft.tasks.base import Task
from promptgraft.tasks.contents import content_hash, number
from promptgraft.tasks.labelled import Labelled, assemble, class_order
from promptgraft.tasks.pixels import rgb
from promptgraft.tasks.sequences import ArrayImages, Mapped


def task_from_arrays(
    X: Any,
    y: Any,
    *,
    name: str = "arrays",
    classes: Sequence[str] | None = None,
    groups: Any = None,
    n_train: int | None = None,
    n_val: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
) -> Task:
    """Make a task from inputs and labels in memory.

    Args:
        X: images (N, H, W[, 1 | 3 | 4]) or (N, 1 | 3 | 4, H, W), numpy or torch, uint8 or float in [0, 1]; or a
            sequence of N PIL images, strings, or pairs of strings.
        y: (N,) labels: strings, or whole numbers.
        name: the task's name.
        classes: names of the classes; `y` then holds indices into it. None names them by their labels.
        groups: (N,) equal values for examples that must stay on one side.
        n_train: sizes of the splits; see `labelled.assemble`.
        n_val: as above.
        n_test: as above.
        seed: of the division.

    Raises:
        InputError: shapes, types or values that do not fit, or what `labelled.assemble` raises.
    """
    modality, inputs, hashes = as_inputs(X)
    labels = [str(label) for label in _flat(y, "labels")]
    if len(labels) != len(inputs):
        raise InputError(f"there are {len(inputs)} inputs and {len(labels)} labels. Pass one label for each input.")
    names = tuple(classes) if classes is not None else class_order(labels)
    keys = [str(i) for i in range(len(names))] if classes is not None else list(names)
    index = {key: i for i, key in enumerate(keys)}
    if unknown := sorted(set(labels) - set(index)):
        raise InputError(
            f"label {unknown[0]} is not an index into the {len(names)} classes. Pass labels 0 to {len(names) - 1}."
        )
    data = Labelled(
        modality=modality,
        inputs=inputs,
        labels=np.array([index[label] for label in labels], dtype=np.int64),
        classes=names,
        names=[str(i) for i in range(len(labels))],
        hashes=hashes,
        groups=None if groups is None else number(_flat(groups, "groups").tolist()),
    )
    if data.groups is not None and len(data.groups) != len(labels):
        raise InputError(
            f"there are {len(inputs)} inputs and {len(data.groups)} groups. Pass one group for each input."
        )
    return assemble(data, name, n_train=n_train, n_val=n_val, n_test=n_test, seed=seed)


def as_inputs(X: Any) -> tuple[Modality, Sequence[Any], list[str]]:
    """Inputs in memory as (modality, inputs as in `Split`, content hashes).

    Args:
        X: as in `task_from_arrays`.

    Raises:
        InputError: shapes, types or values that do not fit.
    """
    if hasattr(X, "detach"):  # a torch tensor
        X = X.detach().cpu().numpy()
    if isinstance(X, np.ndarray) and X.dtype.kind in "buif":
        pixels = _pixels(X)
        return "vision", ArrayImages(pixels), [content_hash(image) for image in pixels]
    items = list(X)
    if not items:
        raise InputError("there are no inputs. Pass at least two examples of each class.")
    if all(isinstance(item, Image.Image) for item in items):
        return "vision", Mapped(rgb, items), [content_hash(item) for item in items]
    if all(isinstance(item, np.ndarray) for item in items):
        images = [_pixels(item[None])[0] for item in items]
        return "vision", Mapped(_image, images), [content_hash(image) for image in images]
    if all(isinstance(item, str) for item in items):
        return _texts([str(item) for item in items])
    if all(
        isinstance(item, tuple | list) and len(item) == 2 and all(isinstance(part, str) for part in item)
        for item in items
    ):
        return _texts([(str(first), str(second)) for first, second in items])
    kinds = ", ".join(sorted({type(item).__name__ for item in items})[:5])
    raise InputError(
        f"inputs of type {kinds} are not understood. Pass images, strings, or pairs of strings, all of one kind."
    )


def _texts(items: list[Any]) -> tuple[Modality, Sequence[Any], list[str]]:
    for position, item in enumerate(items):
        if not all(part.strip() for part in ([item] if isinstance(item, str) else item)):
            raise InputError(f"the text at index {position} is empty. Remove it.")
    return "text", items, [content_hash(item) for item in items]


def _image(pixels: NDArray[np.uint8]) -> Any:
    return ArrayImages(pixels[None])[0]


def _pixels(X: NDArray[Any]) -> NDArray[np.uint8]:
    """Images as (N, H, W[, channels]) uint8."""
    if X.ndim == 4 and X.shape[-1] not in (1, 3, 4) and X.shape[1] in (1, 3, 4):
        X = np.moveaxis(X, 1, -1)
    if X.ndim not in (3, 4) or (X.ndim == 4 and X.shape[-1] not in (1, 3, 4)) or 0 in X.shape:
        raise InputError(f"images of shape {X.shape} are not understood. Pass (N, H, W) or (N, H, W, 1 | 3 | 4).")
    if X.dtype == np.uint8:
        return X
    top = 1 if X.dtype.kind in "fb" else 255
    low, high = X.min(), X.max()
    if not (low >= 0 and high <= top):  # also where a value is not a number
        raise InputError(
            f"images of type {X.dtype} range from {low} to {high}. "
            "Pass uint8, or floats in [0, 1] before normalisation."
        )
    return np.rint(X * (255 / top)).astype(np.uint8)


def _flat(values: Any, what: str) -> NDArray[Any]:
    array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.ndim != 1 or array.dtype.kind not in "buiUOS":
        raise InputError(
            f"{what} of shape {array.shape} and type {array.dtype} are not understood. "
            "Pass one whole number or string each."
        )
    return array
