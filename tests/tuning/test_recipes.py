"""Recipes by name, and those that papers print."""

import itertools
import os
import re
from pathlib import Path

import pytest

from promptgraft.errors import InputError
from promptgraft.tuning.method import METHODS
from promptgraft.tuning.recipes import PAPER_SEEDS, RECIPES, Recipe, _paper, paper_grid, paper_recipe, resolve_recipe
from promptgraft.tuning.tune import transfer, tune
from tuning.samples import make_backbone, make_source, make_task

PAPER = Path(os.environ.get("PROMPTGRAFT_SHARED", "../shared"), "papers", "cross-modality-prompt-transfer.md")
TASKS = {  # folder of the archives: name in the paper
    "caltech101": "Caltech101",
    "cifar": "CIFAR100",
    "dtd": "DTD",
    "oxford_flowers102": "Flowers102",
    "oxford_iiit_pet": "Pets",
    "svhn": "SVHN",
    "sun397": "Sun397",
    "patch_camelyon": "Patch Camelyon",
    "eurosat": "EuroSat",
    "resisc45": "Resisc45",
    "diabetic_retinopathy": "Retinopathy",
    "clevr_count": "Clevr/count",
    "clevr_dist": "Clevr/dist",
    "dmlab": "DMLab",
    "kitti": "Kitti",
    "dsprites_loc": "dSprites/loc",
    "dsprites_ori": "dSprites/ori",
    "smallnorb_azi": "SmallNORB/azi",
    "smallnorb_ele": "SmallNORB/ele",
}
METHOD_NAMES = ["linear", "frozen", "random", "vpt", "projection", "random-projection", "attention"]


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_every_row_loads(method):
    assert list(_paper()[0]) == METHOD_NAMES
    assert method in METHODS
    table, tasks = _paper()[0][method], _paper()[1]
    assert set(tasks.values()) == set(TASKS)
    assert set(table.get("tasks", TASKS)) == set(TASKS)
    for folder, printed in TASKS.items():
        recipe = paper_recipe(method, folder)
        assert recipe == paper_recipe(method, printed)
        assert recipe == resolve_recipe("paper", method=method, task=folder)
        assert (recipe.epochs, recipe.head_rate, recipe.keep, recipe.head_start) == (100, recipe.lr, "last", "random")


@pytest.mark.skipif(not PAPER.exists(), reason="the paper is not at hand")
@pytest.mark.parametrize(
    ("method", "title"), [("linear", "Table 5: "), ("vpt", "Table 6: "), ("attention", "Table 8: ")]
)
def test_every_row_is_the_papers(method, title):
    appendix = PAPER.read_text(encoding="utf-8").split("APPENDIX")[-1]
    lines = [line.split("\t") for line in appendix.split(title + "Hyper-parameters")[1].splitlines()]
    start = next(number for number, cells in enumerate(lines) if cells[0] == "Task")
    columns = lines[start]
    for cells in lines[start + 1 : start + 20]:
        printed = dict(zip(columns, cells, strict=True))
        recipe = paper_recipe(method, printed["Task"])
        assert recipe.weight_decay == float(printed["Weight Decay"])
        still = printed["LR Warm-Up"] == printed["LR Decay"] == "-"
        assert (recipe.warmup, recipe.schedule) == ((0, "constant") if still else (10, printed["LR Decay"].lower()))
        if method == "attention":
            assert (recipe.lr, recipe.source_share * 100) == pytest.approx((float(printed["LR"]), int(printed["l_s"])))
        else:
            assert recipe.batch_size == int(printed["Batch Size"])
            assert recipe.lr == pytest.approx(float(printed["Base LR"]) * recipe.batch_size / 256)
            assert recipe.optimizer == printed["Optimizer"].lower()


SGD = {"optimizer": "sgd", "schedule": "cosine", "warmup": 10}
ADAM = {"optimizer": "adam", "batch_size": 64}
STILL, COSINE = {"schedule": "constant", "warmup": 0}, {"schedule": "cosine", "warmup": 10}


@pytest.mark.parametrize(
    ("method", "task", "expected"),
    [
        ("linear", "eurosat", SGD | {"lr": 10 * 2048 / 256, "weight_decay": 0.0001, "batch_size": 2048}),
        ("frozen", "cifar", SGD | {"lr": 0.1 * 8, "weight_decay": 0, "batch_size": 2048}),
        ("vpt", "caltech101", SGD | {"lr": 10 * 64 / 256, "weight_decay": 0.001, "batch_size": 64}),
        ("vpt", "kitti", SGD | {"lr": 250 * 64 / 256, "weight_decay": 0, "batch_size": 64}),
        ("projection", "svhn", ADAM | STILL | {"lr": 0.005, "weight_decay": 0.001}),
        ("attention", "cifar", ADAM | STILL | {"lr": 0.005, "weight_decay": 0.001, "source_share": 0.6}),
        ("attention", "svhn", ADAM | COSINE | {"lr": 0.01, "weight_decay": 0.001, "source_share": 0.6}),
        ("attention", "Retinopathy", ADAM | COSINE | {"lr": 1, "weight_decay": 0, "source_share": 0.2}),
        ("attention", "clevr_count", ADAM | COSINE | {"lr": 0.001, "weight_decay": 0, "source_share": 1}),
    ],
)
def test_rows_as_printed(method, task, expected):
    recipe = paper_recipe(method, task).model_dump()
    assert {field: recipe[field] for field in expected} == expected


def test_the_grids_and_the_seeds():
    assert PAPER_SEEDS == (42, 44, 100)
    assert paper_grid("vpt")["lr"] == pytest.approx([x / 4 for x in (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)])
    assert paper_grid("attention")["lr"] == (1, 0.5, 0.1, 0.05, 0.01, 0.005, 0.001, 0.0005)
    for method in ("vpt", "attention"):
        grid = paper_grid(method)
        assert grid["weight_decay"] == (0, 0.0001, 0.001, 0.01)
        for values in itertools.product(*grid.values()):
            resolve_recipe("paper", method=method, **dict(zip(grid, values, strict=True)))
        found = {(paper_recipe(method, task).lr, paper_recipe(method, task).weight_decay) for task in TASKS}
        outside = {(rate, decay) for rate, decay in found if rate not in grid["lr"]}
        assert outside == ({(125.0, 0.0), (62.5, 0.0)} if method == "vpt" else set())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paper_recipe("vtp", "cifar"), "no recipe of method 'vtp'. Did you mean 'vpt'? It has: linear, "),
        (lambda: paper_recipe("vpt", "cifra"), "no task 'cifra'. Did you mean 'cifar'? It has: caltech101, "),
        (lambda: paper_recipe("projection", "birds"), "no task 'birds'. It has: caltech101, "),
        (lambda: paper_grid("linear"), "no grid of method 'linear'. It has: vpt, attention."),
    ],
)
def test_unknown_names(call, message):
    with pytest.raises(InputError, match=re.escape(message)):
        call()


def test_paper_falls_back_to_what_is_next():
    assert resolve_recipe("paper") == resolve_recipe("paper", method="vpt", task="birds") == RECIPES["paper"]
    assert resolve_recipe("paper", method="spt", task="cifar") == RECIPES["paper"]
    anywhere = paper_recipe("projection", "cifar")
    assert resolve_recipe("paper", method="projection", task="birds") == anywhere
    assert resolve_recipe("paper", method="attention", task="birds") == anywhere  # what its search began with
    assert resolve_recipe("short", method="vpt", task="cifar") == RECIPES["short"]
    changed = resolve_recipe("paper", method="vpt", task="builtin cifar", epochs=3)
    assert changed == RECIPES["paper"].model_copy(update={"epochs": 3})
    own = Recipe(lr=1, epochs=1)
    assert resolve_recipe(own, method="vpt", task="cifar") == own


@pytest.mark.usefixtures("own_cache", "one_thread")
def test_tune_and_transfer_take_the_papers_recipe_of_their_task():
    options = {"recipe": "paper", "epochs": 1}
    tuned = tune(make_backbone(), make_task(name="dsprites-loc"), prompt_length=2, **options)
    grafted = transfer(make_source(), make_backbone(), make_task(name="svhn"), method="attention", **options)
    for adapted, task in ((tuned, "dsprites_loc"), (grafted, "svhn")):
        expected = paper_recipe(adapted.info.method, task).model_copy(update={"epochs": 1})
        assert adapted.info.training.recipe == expected.model_dump()


def test_the_head_has_the_prompts_rate_where_none_is_given():
    assert Recipe(lr=0.3, epochs=1).head_rate == 0.3
    assert Recipe(lr=0.3, head_lr=0.1, epochs=1).head_rate == 0.1
