"""Procedural dSprites."""

import numpy as np

from promptgraft.tasks.load import load_task
from promptgraft.tasks.procedural import FACTORS, draw, sample_factors


def sprite(shape=0, scale=5, orientation=0, x=16, y=16):
    return draw(np.array([[shape, scale, orientation, x, y]]))[0]


def test_factors_are_different_and_follow_from_the_seed():
    factors = sample_factors(2000, seed=3)
    assert len(np.unique(factors, axis=0)) == 2000
    assert (factors.max(axis=0) == np.array(FACTORS) - 1).all()
    assert (factors == sample_factors(2000, seed=3)).all()
    assert (factors != sample_factors(2000, seed=4)).any()


def test_images_are_binary_and_never_cut():
    images = draw(sample_factors(600, seed=0))
    assert set(np.unique(images)) == {0, 255}
    assert not images[:, [0, -1]].any()
    assert not images[:, :, [0, -1]].any()


def test_each_factor_does_what_its_name_says():
    columns = [np.nonzero(sprite(x=x))[1].mean() for x in range(32)]
    rows = [np.nonzero(sprite(y=y))[0].mean() for y in range(32)]
    areas = [sprite(scale=scale).astype(bool).sum() for scale in range(6)]
    assert (np.diff(columns) > 0).all()
    assert (np.diff(rows) > 0).all()
    assert (np.diff(areas) > 0).all()
    assert (sprite(orientation=0) == sprite(orientation=39)).all()  # 0 and 2 pi, as published
    assert (sprite(orientation=0) != sprite(orientation=5)).any()
    assert len({sprite(shape=shape).tobytes() for shape in range(3)}) == 3
    assert (sprite(shape=0, x=0, y=0) != 0).sum() == 20 * 20  # the square of scale 1 is 20 pixels wide


def test_tasks_have_16_classes_and_location_is_where_the_shape_is():
    task = load_task("builtin/dsprites-loc", n_train=160, n_val=32, n_test=32)
    assert len(task.classes) == 16
    centres = np.array([np.nonzero(np.asarray(image)[..., 0])[1].mean() for image in task.train.inputs])
    assert np.corrcoef(centres, task.train.labels)[0, 1] > 0.98
    assert len(load_task("builtin/dsprites-ori", n_train=160, n_val=32, n_test=32).classes) == 16
