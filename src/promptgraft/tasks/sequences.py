"""Inputs that are made when asked for."""

import operator
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptgraft.tasks.pixels import read_image, rgb


class LazySequence(Sequence[Any]):
    """A sequence whose items are made by `item(i)`, 0 <= i < len, each time they are asked for."""

    @abstractmethod
    def item(self, index: int) -> Any:
        """Make one item."""

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.item(i) for i in range(*index.indices(len(self)))]
        position = operator.index(index)
        if position < 0:
            position += len(self)
        if not 0 <= position < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} items")
        return self.item(position)


class Subset(LazySequence):
    """Some items of another sequence, in the order of `indices`."""

    def __init__(self, items: Sequence[Any], indices: NDArray[np.int64]) -> None:
        self._items, self._indices = items, indices

    def __len__(self) -> int:
        return len(self._indices)

    def item(self, index: int) -> Any:
        """The item that stands at `indices[index]` of the other sequence."""
        return self._items[int(self._indices[index])]


class Mapped(LazySequence):
    """Items of another sequence, passed through a function."""

    def __init__(self, function: Callable[[Any], Any], items: Sequence[Any]) -> None:
        self._function, self._items = function, items

    def __len__(self) -> int:
        return len(self._items)

    def item(self, index: int) -> Any:
        """The function's value for one item."""
        return self._function(self._items[index])


class ImageFiles(LazySequence):
    """Image files, decoded to RGB one at a time."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def item(self, index: int) -> Image.Image:
        """Decode one file."""
        return read_image(self._paths[index], str(self._paths[index]))


class ArrayImages(LazySequence):
    """An array of images (N, H, W) or (N, H, W, 1 | 3 | 4) uint8, turned into RGB images one at a time."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels = pixels[..., 0] if pixels.ndim == 4 and pixels.shape[-1] == 1 else pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def item(self, index: int) -> Image.Image:
        """Make one image."""
        return rgb(Image.fromarray(np.ascontiguousarray(self._pixels[index])))
