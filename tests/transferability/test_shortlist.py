"""The shortlist: who is on it, what is said about who is not, and `rank` with one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from promptgraft.backbones.base import Tokens
from promptgraft.errors import InputError
from promptgraft.library import PromptLibrary
from promptgraft.prompt import SoftPrompt
from promptgraft.tasks.base import Split, Task
from promptgraft.transferability import rank
from promptgraft.transferability.base import ESTIMATORS, Estimator, Evidence
from promptgraft.transferability.shortlist import Shortlist, make_shortlist
from promptgraft.transferability.sketch_index import FOLDER, Segment

ABLE = {"gap", "gap-rbf", "gap-linear", "mean-cosine", "token-cosine", "norm", "volume"}


class FakeBackbone:
    """Embeds an input, a small array (T, D), as itself."""

    device, dtype, prefix_length = torch.device("cpu"), torch.float32, 0

    def embed(self, inputs: Any) -> Tokens:
        return Tokens(torch.stack([torch.as_tensor(value) for value in inputs]), None)


BACKBONE: Any = FakeBackbone()


@pytest.fixture
def task() -> Task:
    images = list(np.random.default_rng(0).normal(0.2, 1, (30, 5, 16)).astype("f4"))
    train = Split(images, np.zeros(30, np.int64), [str(index) for index in range(30)])
    empty = Split([], np.zeros(0, np.int64), [])
    return Task("shapes", "vision", ("a", "b"), train, empty, empty, seed=0, fingerprint="0" * 64)


@pytest.fixture
def library(make_prompt: Any, tmp_path: Path) -> PromptLibrary:
    """40 prompts of width 16 and ever larger rows, one wider; training sizes repeat."""
    library = PromptLibrary(tmp_path / "library")
    for seed in range(40):
        prompt = make_prompt(seed=seed, length=4 + seed % 2)
        card = prompt.card.model_copy(
            update={"task": prompt.card.task.model_copy(update={"n_train": 10 * (seed % 4)}), "training": None}
        )
        library.add(type(prompt)(prompt.tensor * (0.2 + 0.1 * seed), card), f"p/{seed:02}")
    library.add(make_prompt(dim=20, seed=50), "wide")
    return library


def sketched(values: list[float], names: list[str] | None = None, width: int = 1) -> Segment:
    count = len(values)
    names = [f"{place:02}" for place in range(count)] if names is None else names
    sketches = {"norm": np.array(values, np.float64)}
    return Segment(width, names, np.zeros((count, 3), np.int64), sketches, np.ones(count, bool))


def target() -> Evidence:
    return Evidence([], [], lambda: np.empty((0, 1), "f4"), lambda: np.empty((0, 1), "f4"), lambda rows: rows[0])


def test_the_best_over_all_segments_and_equal_ones_by_name() -> None:
    parts = [sketched([1, 5, 3], ["c", "b", "z"]), sketched([3, np.nan, 3, 7], ["y", "n", "x", "gone"])]
    parts[1].live[3] = False
    found = make_shortlist(parts, ESTIMATORS["norm"], target(), 3)
    assert (found.names, found.scores.tolist(), sorted(found.others)) == (["b", "x", "y"], [5, 3, 3], [1, 3])
    found = make_shortlist(parts, ESTIMATORS["norm"], target(), 99)
    assert (found.names, len(found.others)) == (["b", "x", "y", "z", "c"], 0)
    assert found.misses(found.scores) == 0


def test_which_estimators_can_make_one_and_what_the_others_say() -> None:
    assert {name for name in ESTIMATORS if ESTIMATORS[name].by_sketch} == ABLE
    for name in ESTIMATORS:
        if name not in ABLE:
            with pytest.raises(InputError, match=f"{name} cannot make a shortlist.*Name one of .*gap.* first"):
                make_shortlist([sketched([1])], ESTIMATORS[name], target(), 5)


def test_refuses() -> None:
    with pytest.raises(InputError, match="room for 0"):
        make_shortlist([sketched([1])], ESTIMATORS["norm"], target(), 0)
    for parts in ([], [sketched([np.nan])]):
        with pytest.raises(InputError, match="no prompt of the library has a score: norm applies to every prompt"):
            make_shortlist(parts, ESTIMATORS["norm"], target(), 5)


@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_expected_misses_are_those_that_happen(noise: float) -> None:
    rng = np.random.default_rng(0)
    happened, expected = [], []
    for _ in range(300):
        exact = rng.normal(0, 1, 2000)
        near = exact + rng.normal(0.3, noise, 2000)
        order = np.argsort(-near)
        first, others = order[:25], order[25:]
        found = Shortlist([], near[first], near[others])
        happened.append(len(set(np.argsort(-exact)[:10]) & set(others)))
        expected.append(found.misses(exact[first]))
    assert 0.5 * np.mean(happened) - 0.02 < np.mean(expected) < 2 * np.mean(happened) + 0.02


def test_equal_scores_are_no_misses() -> None:
    scores = np.array([9.0] + [5.0] * 11)
    assert Shortlist([], scores, np.full(1000, 5.0)).misses(scores) == 0
    assert Shortlist([], scores, np.array([5.0, 6.0, 4.0])).misses(scores) == 1


@pytest.mark.parametrize("name", ["gap", "gap-rbf", "gap-linear", "norm", "volume"])
def test_rank_gives_the_scores_and_the_order_of_the_whole(name: str, library: PromptLibrary, task: Task) -> None:
    whole = rank(library, BACKBONE, task, [name])
    few = rank(library, BACKBONE, task, [name], shortlist=25)
    assert len(few) == 25
    scores = whole.set_index("prompt")["score"]
    np.testing.assert_allclose(few["score"], scores[few["prompt"]], rtol=1e-6)
    np.testing.assert_allclose(few["score"][:10], whole["score"][:10], rtol=1e-6)
    assert list(few["rank"][:10]) == list(whole["rank"][:10])
    assert few.attrs["shortlist"]["prompts"] == 40 + (name in ("norm", "volume"))


def test_prompts_in_memory_give_what_a_library_gives(library: PromptLibrary, task: Task) -> None:
    names = library.names()
    here = rank([library[name] for name in names], BACKBONE, task, ["gap", "norm"], shortlist=7)
    there = rank(library, BACKBONE, task, ["gap", "norm"], shortlist=7)
    np.testing.assert_array_equal(here["score"], there["score"])
    assert here.attrs["shortlist"] == there.attrs["shortlist"]


def test_others_score_what_the_first_one_chose_and_that_is_said(library: PromptLibrary, task: Task) -> None:
    table = rank(library, BACKBONE, task, ["norm", "gap"], shortlist=5)
    chosen = [set(table["prompt"][table["estimator"] == name]) for name in ("norm", "gap")]
    assert chosen == [{f"p/{number}" for number in range(35, 40)}] * 2
    [note] = table.attrs["notes"]
    assert note.startswith("norm chose 5 of 41 prompts by their sketches; of its 10 best fewer than 0.01 are missed.")
    assert note.endswith("Ranks by gap are among these 5.")


def test_only_the_shortlist_is_read_and_the_inputs_are_embedded_once(
    library: PromptLibrary, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    rank(library, BACKBONE, task, ["gap"], shortlist=5)
    read: list[str] = []
    embedded: list[int] = []
    load, embed = PromptLibrary.__getitem__, FakeBackbone.embed

    def noted(self: PromptLibrary, name: str) -> SoftPrompt:
        read.append(name)
        return load(self, name)

    def counted(self: FakeBackbone, inputs: Any) -> Tokens:
        embedded.append(len(inputs))
        return embed(self, inputs)

    monkeypatch.setattr(PromptLibrary, "__getitem__", noted)
    monkeypatch.setattr(FakeBackbone, "embed", counted)
    for listing in ("find", "names"):
        monkeypatch.setattr(PromptLibrary, listing, None)
    monkeypatch.setattr("promptgraft.transferability.sketch_index.read_first_layer", None)
    table = rank(library, BACKBONE, task, ["gap", "gap-linear"], shortlist=5)
    assert sorted(read) == sorted(set(table["prompt"]))
    assert len(read) == 5
    assert len(embedded) == 1


def test_a_new_prompt_is_found_without_being_asked_for(library: PromptLibrary, task: Task, make_prompt: Any) -> None:
    rank(library, BACKBONE, task, ["norm"], shortlist=3)
    prompt = make_prompt(seed=60)
    library.add(type(prompt)(prompt.tensor * 100, prompt.card), "large")
    library.remove("p/39")
    table = rank(library, BACKBONE, task, ["norm"], shortlist=3)
    assert list(table["prompt"]) == ["large", "p/38", "p/37"]


def test_an_estimator_that_reads_all_is_refused_before_anything_is_embedded(
    library: PromptLibrary, task: Task
) -> None:
    class Never(FakeBackbone):
        def embed(self, inputs: Any) -> Tokens:
            raise AssertionError

    with pytest.raises(InputError, match="h-score cannot make a shortlist"):
        rank(library, Never(), task, ["h-score", "gap"], shortlist=5)  # type: ignore[arg-type]


def test_a_wrong_sketch_shows_in_the_expected_misses(
    library: PromptLibrary, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = rank(library, BACKBONE, task, ["gap"], shortlist=20).attrs["shortlist"]["misses"]
    rng, exact = np.random.default_rng(0), ESTIMATORS["gap"]

    def noisy(evidence: Evidence) -> Any:
        score = exact.by_sketch(evidence)  # type: ignore[misc]
        return lambda sketches: score(sketches) + rng.normal(0, 3, len(sketches["norm"]))

    wrong: Estimator = replace(exact, by_sketch=noisy)
    monkeypatch.setattr("promptgraft.transferability.mmd.GAP", wrong)
    table = rank(library, BACKBONE, task, ["gap"], shortlist=20)
    assert table.attrs["shortlist"]["misses"] > 0.2 + 10 * right
    assert "(a longer shortlist misses fewer)" in table.attrs["notes"][0]


class TestCommands:
    @pytest.fixture
    def arguments(self, image_folder: Path, make_prompt: Any, tiny_vit_folder: Path, tmp_path: Path) -> list[Any]:
        library = PromptLibrary(tmp_path / "prompts")
        for seed in range(6):
            library.add(make_prompt(dim=32, seed=seed), f"text/{seed}")
        return ["rank", image_folder, "--library", library.folder, "--backbone", f"dir:{tiny_vit_folder}"]

    def test_rank(self, promptgraft: Any, arguments: list[Any]) -> None:
        code, out, error = promptgraft(*arguments, "--shortlist", 4)
        assert (code, error) == (0, "")
        assert "gap chose 4 of 6 prompts by their sketches; of its 10 best " in out
        assert sum(line.split()[:1] == [f"text/{seed}"] for line in out.splitlines() for seed in range(6)) == 4
        rows = json.loads(promptgraft(*arguments, "--shortlist", 4, "--json")[1])
        assert len(rows) == 12
        everything = json.loads(promptgraft(*arguments, "--estimators", "gap", "--json")[1])
        whole = {row["prompt"]: row["score"] for row in everything}
        assert all(row["score"] == pytest.approx(whole[row["prompt"]], rel=1e-4) for row in rows[:4])

    def test_rank_says_which_estimator_can_not(self, promptgraft: Any, arguments: list[Any]) -> None:
        code, _, error = promptgraft(*arguments, "--shortlist", 4, "--estimators", "h-score,gap")
        assert code == 2
        assert "h-score cannot make a shortlist: it has to read every prompt. Name one of gap, " in error

    def test_index(self, promptgraft: Any, arguments: list[Any]) -> None:
        folder = arguments[3]
        code, out, error = promptgraft("library", "index", "--library", folder)
        assert (code, error) == (0, "")
        assert out.startswith("indexed 6 prompts (6 new, 0 dropped) in ")
        assert f"next: promptgraft rank DATA --library {folder} --shortlist 200" in out
        [path] = (folder / FOLDER).iterdir()
        path.write_bytes(path.read_bytes()[:-2] + b"xx")
        assert promptgraft("library", "index", "--library", folder)[1].startswith("indexed 6 prompts (6 new")
        assert promptgraft("library", "index", "--library", folder)[1].startswith("indexed 6 prompts (0 new")
        promptgraft("library", "remove", "text/3", "--library", folder)
        assert promptgraft("library", "index", "--library", folder)[1].startswith(
            "indexed 5 prompts (0 new, 1 dropped)"
        )

    def test_index_of_nothing(self, promptgraft: Any, tmp_path: Path) -> None:
        for name in (tmp_path / "nowhere", "starter"):
            code, _, error = promptgraft("library", "index", "--library", name)
            assert code == 2
            assert "that an index can be written to" in error
        assert not (tmp_path / "nowhere").exists()
