"""`load_task` as the one way in."""

import numpy as np
import pytest

from promptgraft.errors import InputError
from promptgraft.tasks.arrays import task_from_arrays
from promptgraft.tasks.load import load_task


def test_unknown_names_and_paths(tmp_path):
    with pytest.raises(InputError, match=r"no built-in task named 'mnist5k'.* Did you mean 'mnist-5k'\?"):
        load_task("builtin/mnist5k")
    with pytest.raises(InputError, match="does not exist"):
        load_task(tmp_path / "nowhere")


def test_a_part_of_a_task():
    task = task_from_arrays([f"s{i}" for i in range(100)], np.arange(100) % 4)
    part = load_task(task, n_train=8, n_test=4, seed=1, name="small")
    assert (part.name, len(part.train), len(part.val), len(part.test)) == ("small", 8, 15, 4)
    assert np.bincount(part.train.labels).tolist() == [2, 2, 2, 2]
    assert set(part.train.inputs) <= set(task.train.inputs)
    assert part.fingerprint != task.fingerprint
    assert part.fingerprint == load_task(task, n_train=8, n_test=4, seed=1).fingerprint
    assert part.fingerprint != load_task(task, n_train=8, n_test=4, seed=2).fingerprint
    assert load_task(task).fingerprint == task.fingerprint
    with pytest.raises(InputError, match="train part: n_train=71"):
        load_task(task, n_train=71)


def test_digits_need_no_pack():
    task = load_task("builtin/digits", n_train=100, n_val=50)
    assert task.describe() == "digits: 1797 images, 10 classes (train 100, val 50, test 1647)"
    assert np.asarray(task.train.inputs[0]).max() > 200
