"""Dividing labelled items into train, val and test: stratified, seeded, groups kept together.

The same (labels, units, sizes, seed) give the same division on every machine.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from promptgraft.errors import InputError

SPLITS = ("train", "val", "test")
SHARES = {"train": 70, "val": 15, "test": 15}
"""How undivided data is shared out where no sizes are asked for, in percent."""
LEFT_OUT = -1

Ints = NDArray[np.int64]


def join_units(contents: Ints, groups: Ints | None = None) -> Ints:
    """Number the units that must stay on one side: items that share a content or a group, directly or through others.

    Args:
        contents: (N,) equal numbers for items of equal content.
        groups: (N,) equal numbers for items of one group, such as the questions about one passage.

    Returns:
        (N,) unit numbers.
    """
    if groups is None or len(contents) == 0:
        return contents
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # items are edges between their content and their group
    nodes = np.unique(groups, return_inverse=True)[1] + contents.max() + 1
    size = int(nodes.max()) + 1
    edges = coo_array((np.ones(len(nodes), np.int8), (contents, nodes)), shape=(size, size))
    units: Ints = connected_components(edges, directed=False)[1].astype(np.int64)[contents]
    return units


def resolve_sizes(total: int, asked: Mapping[str, int | None]) -> dict[str, int]:
    """How many of `total` items each split gets.

    A split with no size asked for takes its share (70 : 15 : 15) of what is left. Where a size for train is asked for,
    val is sized in proportion to train and test takes all that is left.

    Args:
        total: the number of items at hand.
        asked: size asked for, or None, for each split that these items are divided into.

    Raises:
        InputError: a negative size, no training examples, or more asked for than there is.
    """
    sizes = {split: size for split, size in asked.items() if size is not None}
    for split, size in sizes.items():
        if size < (split == "train"):
            raise InputError(f"n_{split}={size} is not possible. Ask for {int(split == 'train')} or more.")
    left = total - sum(sizes.values())
    if left < 0:
        wanted = " + ".join(f"n_{split}={size}" for split, size in sizes.items())
        raise InputError(f"{wanted} is more than the {total} examples available. Ask for fewer.")
    free = [split for split in asked if split not in sizes]
    if "train" in sizes and "val" in free:
        sizes["val"] = min(left, round(sizes["train"] * SHARES["val"] / SHARES["train"]))
        left -= sizes["val"]
        free.remove("val")
    if free:
        counts = np.array([SHARES[split] for split in free])
        shares = allot(left, counts, np.full(len(free), left))
        sizes.update(zip(free, map(int, shares), strict=True))
    return {split: sizes[split] for split in asked}


def allot(total: int, weights: Ints, room: Ints) -> Ints:
    """Share `total` out in proportion to `weights` (K,): at most `room` (K,) each, at least 1 where possible."""
    ideal = total * weights / max(int(weights.sum()), 1)
    least = np.minimum(room, 1) if total >= np.count_nonzero(room) else np.zeros_like(room)
    shares = np.clip(np.floor(ideal + 1e-9).astype(np.int64), least, room)
    while shares.sum() < total and (shares < room).any():
        shares[np.argmax(np.where(shares < room, ideal - shares, -np.inf))] += 1
    while shares.sum() > total:
        shares[np.argmax(np.where(shares > least, shares - ideal, -np.inf))] -= 1
    return shares


def class_quotas(counts: Ints, sizes: Sequence[int]) -> Ints:
    """Stratified sizes: how many items of each class every split gets.

    A class with as many items as there are splits gets at least one in each where the sizes allow it.

    Args:
        counts: (C,) items of each class.
        sizes: items of each split, S of them.

    Returns:
        (S + 1, C), the last row being what is left out; columns sum to `counts`.
    """
    left, rows = counts.copy(), []
    for position, size in enumerate(sizes):
        later = sum(1 for other in sizes[position + 1 :] if other > 0)
        room = np.minimum(left, np.maximum(counts > 0, left - later))
        if size > room.sum():
            room = left
        rows.append(allot(size, counts, room))
        left = left - rows[-1]
    return np.array([*rows, left], dtype=np.int64)


def divide(labels: Ints, units: Ints, sizes: Sequence[int], exact: Sequence[bool], seed: int) -> Ints:
    """Divide items into splits, stratified by label, each unit on one side.

    Args:
        labels: (N,) class indices.
        units: (N,) items with equal numbers stay on one side.
        sizes: items of each split, S of them.
        exact: for each split, whether its size must be met; items of a unit that would exceed it are then left out.
        seed: another seed, another division.

    Returns:
        (N,) split index in [0, S), or `LEFT_OUT`.

    Raises:
        InputError: an exact size cannot be met because units stay together.
    """
    if list(sizes) == [len(labels)]:
        return np.zeros(len(labels), dtype=np.int64)
    rng = np.random.default_rng(seed)
    items = rng.permutation(len(labels))
    members = _members(units, items)
    quotas = class_quotas(np.bincount(labels), sizes)
    need, left_out = quotas.copy(), len(sizes)
    sides = np.full(len(labels), left_out, dtype=np.int64)
    # a unit of several items goes where the largest share of its classes' quotas is still open
    for unit in members:
        if len(unit) > 1:
            classes = labels[unit]
            share = np.where(quotas > 0, need / np.maximum(quotas, 1), -1.0)[:, classes]
            side = int(np.argmax(share.sum(axis=1)))
            sides[unit] = side
            np.subtract.at(need[side], classes, 1)
    # single items then even out what those left uneven
    singles = np.array([unit[0] for unit in members if len(unit) == 1], dtype=np.int64)
    for label in np.unique(labels[singles]):
        chosen = singles[labels[singles] == label]
        open_seats = np.maximum(need[:, label], 0)
        sides[chosen] = np.repeat(np.arange(left_out + 1), allot(len(chosen), open_seats, open_seats))
    for side, met in enumerate(exact):
        if met:
            _fill(side, sides, labels, members, quotas, exact)
            _trim(side, sides, labels, items, quotas[side])
    sides[sides == left_out] = LEFT_OUT
    return sides


def _members(units: Ints, order: Ints) -> list[Ints]:
    """The items of each unit, units and items in the given order."""
    found: dict[int, list[int]] = {}
    for item, unit in zip(order.tolist(), units[order].tolist(), strict=True):
        found.setdefault(unit, []).append(item)
    return [np.array(unit, dtype=np.int64) for unit in found.values()]


def _fill(side: int, sides: Ints, labels: Ints, members: list[Ints], quotas: Ints, exact: Sequence[bool]) -> None:
    """Move whole units into a split that is short, from those whose size is free; units of classes that lack first."""
    free = [*(other for other, met in enumerate(exact) if not met), len(exact)]
    lack = quotas[side] - np.bincount(labels[sides == side], minlength=quotas.shape[1])
    short = int(lack.sum())
    for lacking_only in (True, False):
        for unit in members:
            if short <= 0:
                return
            if sides[unit[0]] in free and (not lacking_only or (lack[labels[unit]] > 0).any()):
                sides[unit] = side
                np.subtract.at(lack, labels[unit], 1)
                short -= len(unit)
    if short > 0:
        size = int(quotas[side].sum())
        raise InputError(
            f"{size} examples were asked for in one split, and {size - short} could be placed: duplicates and items "
            "of one group stay on one side. Ask for fewer."
        )


def _trim(side: int, sides: Ints, labels: Ints, order: Ints, quota: Ints) -> None:
    """Leave out the last items of a split that is over its size, from the classes that exceed their quota most."""
    inside = order[sides[order] == side]
    surplus = np.bincount(labels[inside], minlength=len(quota)) - quota
    for _ in range(len(inside) - int(quota.sum())):
        worst = int(np.argmax(surplus))
        last = inside[labels[inside] == worst][-1]
        sides[last], surplus[worst] = LEFT_OUT, surplus[worst] - 1
        inside = inside[inside != last]
