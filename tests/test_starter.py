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
    assert modalities.count("text") >= 3
    assert not starter().damaged()


@pytest.mark.parametrize("name", NAMES)
def test_a_starter_prompt_is_whole_and_learned_something(name):
    prompt = starter()[name]
    card = prompt.card
    assert card.name == name
    assert prompt.head is not None
    assert card.training is not None
    assert card.training.scores["val"].low > 1 / len(card.task.classes)  # above chance, interval and all
    assert card.licence == "Apache-2.0"


@pytest.mark.parametrize("name", NAMES)
def test_the_card_names_a_command_that_parses(name):
    command = shlex.split(starter()[name].card.command)
    assert command[:2] == ["promptgraft", "tune"]
    result = CliRunner().invoke(app, [*command[1:], "--help"])
    assert result.exit_code == 0
