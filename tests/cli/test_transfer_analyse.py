"""`promptgraft transfer --analyse`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from promptgraft.library import PromptLibrary
from promptgraft.tuning.adapted import load_adapted


@pytest.fixture
def command(make_prompt: Callable[..., Any], image_folder: Path, tiny_vit_folder: Path, tmp_path: Path) -> Any:
    """`command(method, *prompts)`: an analysed transfer from a library of `a` and `b`."""
    library = PromptLibrary(tmp_path / "prompts")
    for seed, name in enumerate("ab"):
        library.add(make_prompt(dim=32, name=name, seed=seed), name)

    def make(method: str, *prompts: str) -> list[Any]:
        options = ["--backbone", f"dir:{tiny_vit_folder}", "--library", library.folder, "--epochs", 1, "--analyse"]
        return ["transfer", *prompts, image_folder, "--method", method, *options, "--out", tmp_path / "out"]

    return make


def test_it_writes_both_files_beside_the_model(promptgraft: Any, command: Any, tmp_path: Path) -> None:
    code, said, error = promptgraft(*command("hgprompt", "a", "b"))
    out = tmp_path / "out"
    assert (code, error) == (0, "")
    assert f"wrote {out} with analysis.json and analysis.html     next: " in said
    analysis = json.loads((out / "analysis.json").read_text())
    assert [each["name"] for each in analysis["maps"]] == ["a", "b", "hgprompt, start", "hgprompt, tuned"]
    assert sum(analysis["weights"]) == pytest.approx(1)
    assert analysis["command"] == load_adapted(out).prompt.card.command  # type: ignore[union-attr]
    assert "How much of each source" in (out / "analysis.html").read_text()


def test_a_method_of_one_source_is_refused_before_anything(promptgraft: Any, command: Any, tmp_path: Path) -> None:
    code, said, error = promptgraft(*command("initial", "nowhere"))
    assert (code, said) == (2, "")
    assert "compares several source prompts, and method 'initial' takes one. Choose one that takes several" in error
    assert not (tmp_path / "out").exists()
