from importlib.resources import files

import pytest

from promptgraft.errors import InputError
from promptgraft.study.document import read_spec
from promptgraft.study.ready import DEFAULT_SIZE, init_study, ready_studies

EVERY = [(name, size) for name, sizes in ready_studies().items() for size in sizes]


def folder_text(name, size):
    return (files("promptgraft.study") / "ready" / name / f"{size}.yaml").read_text()


def test_sizes_go_from_the_smallest():
    assert ready_studies()["baselines"] == ("smoke", "pocket", "paper")
    assert all(DEFAULT_SIZE in sizes for sizes in ready_studies().values())


def test_every_file_is_found():
    here = [
        (folder.name, file.name)
        for folder in (files("promptgraft.study") / "ready").iterdir()
        for file in folder.iterdir()
    ]
    assert sorted(here) == sorted((name, f"{size}.yaml") for name, size in EVERY)


@pytest.mark.parametrize(("name", "size"), EVERY)
def test_every_ready_study_reads_and_says_what_it_is(name, size, tmp_path):
    path = init_study(name, size, tmp_path / "s")
    assert path == tmp_path / "s" / "study.yaml"
    assert path.read_text() == folder_text(name, size)
    spec = read_spec(path)
    assert spec.study.startswith(name)
    comment = path.read_text().split("study:")[0]
    assert comment.count("\n# ") >= 1
    assert "Costs" in comment
    if size != "paper":  # packs only: no hub, no files
        from promptgraft.packs.manifest import find_pack
        from promptgraft.tasks.packed import BUILTIN

        for backbone in spec.backbones:
            find_pack(backbone.name.removeprefix("packs/"))
        assert all(target.task.removeprefix("builtin/") in BUILTIN for target in spec.targets)


def test_the_pocket_baselines_are_those_of_the_benchmark(tmp_path):
    import importlib.util
    from pathlib import Path

    source = Path(__file__).parents[2] / "benchmarks" / "baselines.py"
    if not source.exists():
        pytest.skip("the benchmark has gone")
    module_spec = importlib.util.spec_from_file_location("baselines", source)
    baselines = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(baselines)
    spec = read_spec(init_study("baselines", "pocket", tmp_path / "s"))
    (backbone,) = spec.backbones
    assert {
        t.shown: {"n_train": t.n_train, "n_val": t.n_val, "n_test": t.n_test} for t in spec.targets
    } == baselines.TASKS
    assert tuple((m.method, m.layers) for m in spec.methods) == baselines.METHODS
    assert [m.shown for m in spec.methods] == ["linear", "vpt shallow", "vpt deep", "spt deep"]
    assert spec.seeds == baselines.SEEDS
    assert {t.split_seed for t in spec.targets} == {None}
    assert spec.threads == 1
    assert {
        "backbone": backbone.name,
        "image_size": backbone.image_size,
        "dtype": backbone.dtype,
        "prompt_length": {m.prompt_length for m in spec.methods}.pop(),
        "recipe": spec.recipe.name,
    } == baselines.SETTINGS


def test_the_paper_size_searches_36_settings(tmp_path):
    search = read_spec(init_study("baselines", "paper", tmp_path / "s")).search
    assert [len(values) for values in search.over.values()] == [9, 4]
    assert search.over["lr"] == tuple(rate / 4 for rate in (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10))


def test_unknown_names_and_taken_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"named 'baseline'\. Did you mean 'baselines'\?"):
        init_study("baseline", "pocket", tmp_path / "s")
    with pytest.raises(InputError, match=r"no size 'smok'\. Did you mean 'smoke'\? Known: smoke, pocket, paper"):
        init_study("baselines", "smok", tmp_path / "s")
    with pytest.raises(InputError, match="no ready study"):
        init_study("../ready/baselines", "pocket", tmp_path / "s")
    assert not (tmp_path / "s").exists()
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "mine").touch()
    with pytest.raises(InputError, match="is not empty"):
        init_study("baselines", "pocket", tmp_path / "s")
