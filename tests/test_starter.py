"""The prompts that come with the package."""

import shlex

import pytest
from typer.testing import CliRunner

from promptgraft.cli import app
from promptgraft.library import starter

NAMES = starter().names()


def test_there_are_prompts_of_both_modalities():
    modalities = [entry.modality for entry in starter().find()]
    assert modalities.count("vision") >= 3
    assert modalities.count("text") >= 16
    assert sum(starter()[name].card.task.pair for name in NAMES) >= 5
    assert not starter().damaged()


@pytest.mark.parametrize("name", NAMES)
def test_a_starter_prompt_is_whole_and_learned_something(name):
    prompt = starter()[name]
    card = prompt.card
    assert card.name == name
    assert prompt.head is not None
    assert card.training is not None
    scores = card.training.scores
    assert scores["val"].low > 1 / len(card.task.classes)  # above chance, interval and all
    if "val_majority" in scores:
        assert scores["val"].low > scores["val_majority"].value
    assert card.licence == "Apache-2.0"


@pytest.mark.parametrize("name", NAMES)
def test_the_card_names_a_command_that_parses(name):
    command = shlex.split(starter()[name].card.command)
    assert command[:2] == ["promptgraft", "tune"] or command[:3] == ["promptgraft", "study", "run"]
    result = CliRunner().invoke(app, [*command[1:], "--help"])
    assert result.exit_code == 0


def test_what_was_measured_is_of_prompts_that_are_there():
    transfers = [found for found in starter().measured() if found.source in NAMES]
    of_the_study = {name for name in NAMES if starter()[name].card.command == "promptgraft study run cross-modality"}
    assert {found.source for found in transfers} == of_the_study
    assert len(of_the_study) == 13
    assert {found.method for found in transfers} == {"frozen", "projection"}
    assert len({found.target for found in transfers}) >= 6
    assert {found.source_id for found in transfers} <= {entry.id for entry in starter().find()}
