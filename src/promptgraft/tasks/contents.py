"""Contents by their sha256: which items are the same, and the fingerprint of a task."""

import hashlib
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptgraft.files import canonical_json


def content_hash(item: Any) -> str:
    """sha256 (hex) of an input: a string, a pair of strings, a PIL image, an array or encoded bytes."""
    if isinstance(item, bytes):
        return hashlib.sha256(item).hexdigest()
    if isinstance(item, Image.Image):
        item = np.asarray(item)
    if isinstance(item, np.ndarray):
        header = canonical_json([str(item.dtype), list(item.shape)])
        return hashlib.sha256(header.encode() + np.ascontiguousarray(item).tobytes()).hexdigest()
    return hashlib.sha256(canonical_json(item).encode("utf-8", "surrogatepass")).hexdigest()


def number(values: Iterable[Hashable]) -> NDArray[np.int64]:
    """Number values in the order of their first appearance, equal ones alike: (N,) int64."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)


def fingerprint(items: Iterable[tuple[str, str, str]]) -> str:
    """sha256 (hex) over (content hash, class, split) of all items, in order: what is cached is read by position."""
    return hashlib.sha256(canonical_json(list(items)).encode("utf-8", "surrogatepass")).hexdigest()
