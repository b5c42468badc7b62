import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from promptgraft.errors import InputError
from promptgraft.report.study_tables import markdown
from promptgraft.study.document import read_spec
from promptgraft.study.folder import open_started
from promptgraft.study.ready import DEFAULT_SIZE, init_study, ready_studies
from promptgraft.study.summary import summarize

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
        from promptgraft.tasks.facts import FACTS
        from promptgraft.tasks.packed import BUILTIN

        for backbone in spec.backbones:
            find_pack(backbone.name.removeprefix("packs/"))
        assert all(
            target.task.removeprefix("builtin/") in BUILTIN or target.task.removeprefix("facts/") in FACTS
            for target in spec.targets
        )


def test_the_study_in_the_readme_is_the_ready_one_and_is_done(tmp_path):
    folder = Path(__file__).parents[2] / "studies" / "baselines"
    assert read_spec(folder / "study.yaml") == read_spec(init_study("baselines", "pocket", tmp_path / "s"))
    shutil.copytree(folder, tmp_path / "copy")
    summary = summarize(open_started(tmp_path / "copy"))
    assert summary["counts"] == {"train": {"done": 60}}
    grid = markdown(summary).splitlines()
    table = grid[grid.index(next(line for line in grid if line.startswith("| Target"))) :]
    assert all(line in (folder.parents[1] / "README.md").read_text(encoding="utf-8") for line in table[:9])


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
