"""Division of labels: sizes, strata, units, seeds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptgraft.errors import InputError
from promptgraft.tasks.splits import LEFT_OUT, allot, class_quotas, divide, join_units, resolve_sizes


def sizes_of(sides, count=3):
    return [int((sides == side).sum()) for side in range(count)]


def test_undivided_data_is_shared_out_70_15_15():
    assert resolve_sizes(412, dict.fromkeys(("train", "val", "test"))) == {"train": 288, "val": 62, "test": 62}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"train": 800, "val": 200, "test": None}, (800, 200, 4000)),
        ({"train": 700, "val": None, "test": None}, (700, 150, 4150)),
        ({"train": 700, "val": None, "test": 100}, (700, 150, 100)),
        ({"train": None, "val": None, "test": 0}, (4118, 882, 0)),
        ({"train": None, "val": 150, "test": None}, (3994, 150, 856)),
    ],
)
def test_sizes_that_are_not_asked_for(asked, expected):
    assert tuple(resolve_sizes(5000, asked).values()) == expected


def test_more_than_available_names_what_is_available():
    with pytest.raises(InputError, match=r"n_train=90 \+ n_val=20 is more than the 100 examples available"):
        resolve_sizes(100, {"train": 90, "val": 20, "test": None})
    with pytest.raises(InputError, match="n_train=0"):
        resolve_sizes(100, {"train": 0, "val": None, "test": None})


def test_allot_keeps_total_room_and_one_each():
    shares = allot(10, np.array([97, 2, 1]), np.array([97, 2, 1]))
    assert shares.tolist() == [8, 1, 1]
    assert allot(4, np.array([3, 3]), np.array([1, 3])).tolist() == [1, 3]


def test_rare_classes_are_in_every_split():
    quotas = class_quotas(np.array([100, 3, 2]), [74, 16, 15])
    assert quotas[:3, 1].tolist() == [1, 1, 1]
    assert quotas[:3, 2].tolist() == [1, 1, 0]
    assert quotas.sum(axis=0).tolist() == [100, 3, 2]


def test_single_items_are_stratified_exactly():
    labels = np.repeat([0, 1], [60, 40])
    sides = divide(labels, np.arange(100), [50, 20, 30], [True] * 3, seed=0)
    assert [np.bincount(labels[sides == s]).tolist() for s in range(3)] == [[30, 20], [12, 8], [18, 12]]


def test_same_seed_same_division_other_seed_another():
    labels = np.repeat([0, 1], 50)
    first, again, other = (divide(labels, np.arange(100), [70, 15, 15], [False] * 3, seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_units_are_never_torn_and_exact_sizes_are_met(data):
    count = data.draw(st.integers(30, 150))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    labels = rng.integers(0, data.draw(st.integers(2, 5)), count)
    units = rng.integers(0, data.draw(st.integers(count // 3, 3 * count)), count)
    train, val = data.draw(st.integers(5, count // 3)), data.draw(st.integers(0, count // 6))
    sides = divide(labels, units, [train, val, count - train - val], [True, True, False], seed=1)
    assert sizes_of(sides)[:2] == [train, val]
    for unit in np.unique(units):
        assert len(set(sides[(units == unit) & (sides != LEFT_OUT)])) <= 1


def test_units_of_several_items_are_spread_as_asked():
    units = np.repeat(np.arange(300), 2)
    labels = np.tile([0, 1], 300)
    sides = divide(labels, units, [420, 90, 90], [False] * 3, seed=0)
    assert sizes_of(sides) == [420, 90, 90]


def test_a_size_that_units_make_impossible_is_refused():
    units = np.zeros(10, dtype=np.int64)
    with pytest.raises(InputError, match="stay on one side"):
        divide(np.tile([0, 1], 5), units, [5, 5, 0], [True, True, True], seed=0)


def test_contents_and_groups_join_into_units():
    contents, groups = np.array([0, 1, 2, 1, 3]), np.array([7, 7, 8, 8, 9])
    units = join_units(contents, groups)
    assert len({units[0], units[1], units[2], units[3]}) == 1  # through the content that items 1 and 3 share
    assert units[4] != units[0]
