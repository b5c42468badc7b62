"""Prompts that are read by label words: nothing but the prompt is learned."""

import pytest
import torch

from promptgraft.backbones.load import load_backbone
from promptgraft.errors import CompatibilityError, InputError
from promptgraft.prompt import SoftPrompt
from promptgraft.tuning.adapted import load_adapted
from promptgraft.tuning.candidate import Candidate
from promptgraft.tuning.tune import transfer, tune
from tuning.samples import CLASSES, FAST, make_task, save_backbone

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")

WORDS = ("w7", "w30", "w6")
RECIPE = FAST.model_copy(update={"verbalizer": WORDS, "epochs": 4})


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    return save_backbone("bert", tmp_path_factory.mktemp("bert"), masked=True)


@pytest.fixture
def backbone(name):
    return load_backbone(name, pool="mask", max_length=16)


def test_only_the_prompt_is_learned_and_the_classifier_loads_to_the_same_bits(backbone, tmp_path):
    task = make_task("text")
    adapted = tune(backbone, task, layers="shallow", prompt_length=4, recipe=RECIPE, epochs=30)
    weight, bias = backbone.score_words(WORDS)
    head = adapted.prompt.head
    assert torch.equal(head.weight, weight)
    assert torch.equal(head.bias, bias)
    assert adapted.score(task.train) > 0.6  # of three classes
    features = torch.cat([backbone.run(backbone.embed([text]), adapted.prompt.tensor) for text in task.test.inputs])
    ours = (features @ weight.T + bias).softmax(1)
    torch.testing.assert_close(torch.from_numpy(adapted.predict_proba(task.test.inputs)).float(), ours)

    loaded = load_adapted(adapted.save(tmp_path / "adapted"))
    assert loaded.info == adapted.info
    assert loaded.info.backbone.pool == loaded.prompt.card.prompt.pool == "mask"
    assert loaded.info.training.recipe["verbalizer"] == list(WORDS)
    assert (loaded.predict_proba(task.test.inputs) == adapted.predict_proba(task.test.inputs)).all()


def test_it_resumes_to_the_same_bits(backbone, tmp_path):
    task, path = make_task("text"), tmp_path / "run"
    options = {"layers": "shallow", "prompt_length": 4, "recipe": RECIPE}
    whole = tune(backbone, task, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Candidate, "advance", lambda self, **options: self.trainer.run(2))
        tune(backbone, task, **options, checkpoint=path)
    resumed = tune(backbone, task, **options, checkpoint=path)
    assert resumed.info.training.epochs == RECIPE.epochs
    assert torch.equal(resumed.prompt.tensor, whole.prompt.tensor)


def test_a_frozen_prompt_under_label_words_is_not_trained_at_all(backbone):
    source = tune(backbone, make_task("text"), layers="shallow", prompt_length=4, recipe=RECIPE)
    grafted = transfer(source.prompt, backbone, make_task("text"), method="frozen", recipe=RECIPE)
    assert grafted.info.training.epochs == 0
    inputs = make_task("text").test.inputs
    assert (grafted.predict_proba(inputs) == source.predict_proba(inputs)).all()


def test_what_does_not_fit_is_refused(name, backbone):
    task = make_task("text")
    with pytest.raises(InputError, match="the verbalizer has 2 words and the task 3 classes"):
        tune(backbone, task, layers="shallow", recipe=RECIPE.model_copy(update={"verbalizer": WORDS[:2]}))
    with pytest.raises(CompatibilityError, match=r"is deep, and backbone .* Choose a shallow prompt"):
        tune(backbone, task, layers="deep", recipe=RECIPE)
    with pytest.raises(CompatibilityError, match="there is no prompt"):
        tune(backbone, task, method="linear", recipe=RECIPE)
    with pytest.raises(CompatibilityError, match="pool 'cls', label words with 'mask'"):
        tune(load_backbone(name), task, layers="shallow", recipe=RECIPE)


def test_the_command_takes_words_in_the_order_of_the_classes(promptgraft, name, tmp_path):
    task, table = make_task("text"), tmp_path / "texts.csv"
    rows = [f"{text},{CLASSES[label]}" for text, label in zip(task.train.inputs, task.train.labels, strict=True)]
    table.write_text("\n".join(["text,label", *rows]) + "\n")
    arguments = ["tune", table, "--backbone", name, "--layers", "shallow", "--epochs", 1, "--verbalizer", "w7,w30,w6"]
    code, out, error = promptgraft(*arguments, "--out", tmp_path / "adapted")
    assert (code, error) == (0, "")
    assert "label words: high = w7, low = w30, mid = w6" in out
    prompt = SoftPrompt.load(tmp_path / "adapted" / "prompt")
    assert prompt.card.backbone.pool == "mask"
    assert prompt.card.training.recipe["verbalizer"] == list(WORDS)
    code, _, error = promptgraft(*arguments[:-1], "w7,w30", "--out", tmp_path / "other")
    assert code == 2
    assert "the verbalizer has 2 words and the task 3 classes" in error
    assert not (tmp_path / "other").exists()
