"""Tuning of factual prompts: side by side as alone, as the literal loop, to the bit, and what their cards say."""

from dataclasses import replace

import pytest
import torch

from probing.probers import FAMILIES, plain_model, plain_scores, prober, tiny_facts
from promptgraft.errors import InputError, TrainingError
from promptgraft.probing import tuning
from promptgraft.probing.candidates import shared_candidates
from promptgraft.probing.scoring import score_facts
from promptgraft.probing.tuning import FactRecipe, tune_facts
from promptgraft.prompt import SoftPrompt
from promptgraft.tasks.fact_files import SPLITS

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")
SHORT = FactRecipe(prompt_length=2, lr=0.05, epochs=2, batch_size=4, warmup=0.2)


def fit(family="bert", facts=None, recipe=SHORT, dtype="float64", **options):
    backbone = prober(family, dtype=dtype)
    facts, candidates = shared_candidates(facts or tiny_facts(), [backbone])
    return tune_facts(backbone, facts, candidates, recipe=recipe, **options)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_relations_are_tuned_together_as_alone(family):
    facts, candidates = shared_candidates(tiny_facts(3, (6, 2, 2)), [prober(family)])
    assert len({len(relation.train) for relation in facts.relations}) == 3  # steps of their own
    together = tune_facts(prober(family), facts, candidates, recipe=SHORT)
    for number, prompt in enumerate(together):
        [alone] = tune_facts(
            prober(family), replace(facts, relations=facts.relations[number : number + 1]), candidates, recipe=SHORT
        )
        torch.testing.assert_close(alone.tensor, prompt.tensor, rtol=0, atol=1e-6)
        assert alone.card.task == prompt.card.task
    assert (together[0].tensor - together[1].tensor).abs().max() > 0.1


def test_chunks_of_relations_give_the_same(monkeypatch):
    facts = tiny_facts(3, (6, 2, 2))
    whole = fit(facts=facts)
    monkeypatch.setattr(tuning, "CHUNK", 4)
    for prompt, again in zip(whole, fit(facts=facts), strict=True):
        torch.testing.assert_close(again.tensor, prompt.tensor, rtol=0, atol=1e-6)


def test_it_is_the_literal_loop():
    facts = tiny_facts(1, (10, 0, 2))
    backbone, recipe = prober("bert"), replace_recipe(epochs=3)
    facts, candidates = shared_candidates(facts, [backbone])
    [prompt] = tune_facts(backbone, facts, candidates, recipe=recipe, seed=4)
    tokens, words, [relation] = candidates.tokens(backbone), candidates.words, facts.relations

    model = plain_model("bert")
    table = model.get_input_embeddings().weight.detach()
    generator = tuning.own_stream("facts/R0", 4)
    rows = torch.randn(2, 32, generator=generator).double() * table.std(correction=0) + table.mean()
    rows.requires_grad_()
    optimizer = torch.optim.AdamW([rows], lr=1.0, weight_decay=0)
    for epoch in range(3):
        order = torch.randperm(10, generator=tuning.own_stream(f"R0/{epoch}", 4)).tolist()
        for step, batch in enumerate((order[:4], order[4:8], order[8:])):
            losses = []
            for i in batch:
                subject, value = relation.train[i]
                scores = plain_scores("bert", model, subject, rows, tokens)
                losses.append(-scores.log_softmax(0)[words.index(value)])
            optimizer.zero_grad()
            torch.stack(losses).mean().backward()
            done = 3 * epoch + step  # of 9 steps; 0.2 of them, 2, warm up
            optimizer.param_groups[0]["lr"] = 0.05 * ((done + 1) / 2 if done < 2 else (9 - done) / 7)
            optimizer.step()
    torch.testing.assert_close(prompt.tensor[0].double(), rows.detach(), rtol=0, atol=1e-5)


def replace_recipe(**changes):
    return SHORT.model_copy(update=changes)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_what_a_relation_says(family):
    backbone, facts = prober(family, dtype="float32"), tiny_facts(2, (8, 0, 6))
    told = [  # one object each, whatever the subject
        replace(
            each, **{split: tuple(f._replace(object=each.objects[0]) for f in each.split(split)) for split in SPLITS}
        )
        for each in facts.relations
    ]
    facts, candidates = shared_candidates(replace(facts, relations=tuple(told)), [backbone])
    prompts = tune_facts(backbone, facts, candidates, recipe=replace_recipe(epochs=30, lr=0.1, prompt_length=3))
    assert score_facts(backbone, facts, candidates, prompts).mean > 0.5  # of test facts, among some 70 words


def test_the_best_dev_epoch_is_kept():
    facts, candidates = shared_candidates(tiny_facts(2, (8, 6, 2)), [prober("bert")])
    recipe = replace_recipe(epochs=6, lr=0.2)
    prompts = tune_facts(prober("bert"), facts, candidates, recipe=recipe)
    kept = score_facts(prober("bert"), facts, candidates, prompts, split="dev").by_relation()
    for relation, prompt in zip(facts.relations, prompts, strict=True):
        assert prompt.card.training.scores["val"] == kept[relation.name]
        epoch = prompt.card.prompt.init_args["epoch"]
        assert 1 <= epoch <= 6


def test_it_repeats_and_resumes_to_the_bit(tmp_path, monkeypatch):
    whole, again = fit(dtype="float32"), fit(dtype="float32")
    assert all(torch.equal(a.tensor, b.tensor) for a, b in zip(whole, again, strict=True))
    assert not torch.equal(fit(dtype="float32", seed=1)[0].tensor, whole[0].tensor)
    path, first = tmp_path / "run.safetensors", tuning._Run._epoch

    def stop(run):
        if run.epoch == 1:
            raise KeyboardInterrupt
        return first(run)

    with monkeypatch.context() as patch:
        patch.setattr(tuning._Run, "_epoch", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(dtype="float32", checkpoint=path)
    resumed = fit(dtype="float32", checkpoint=path)
    assert all(torch.equal(a.tensor, b.tensor) for a, b in zip(whole, resumed, strict=True))
    with pytest.raises(InputError, match="belongs to another run"):
        fit(dtype="float32", checkpoint=path, seed=1)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="is damaged"):
        fit(dtype="float32", checkpoint=path)


def test_the_card_says_what_was_done(tmp_path):
    prompt = fit(command="a command")[0]
    card, facts = prompt.card, tiny_facts()
    assert (card.name, card.task.name, card.method, card.licence) == ("tiny/R0", "facts/R0", "optiprompt", "CC0-1.0")
    assert (card.prompt.position, card.prompt.pool) == ("before_answer", "answer")
    assert (card.task.n_train, card.task.metric) == (len(facts.relations[0].train), "P@1")
    assert card.task.fingerprint == facts.relations[0].fingerprint
    assert card.backbone == prober("bert").info
    assert card.training.recipe == SHORT.model_dump()
    assert set(card.training.scores) == {"val"}
    assert card.command == "a command"
    assert SoftPrompt.load(prompt.save(tmp_path / "p")) == prompt


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt_length": 0}, "prompt_length must be 1 or more, got 0"),
        ({"epochs": 0}, "epochs must be 1 or more, got 0"),
        ({"lr": 0.0}, "lr must be above 0 and warmup from 0 to 1, got 0.0"),
        ({"warmup": 2.0}, "got 0.05 and 2.0"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        fit(recipe=replace_recipe(**changes))


def test_divergence_is_named():
    with pytest.raises(TrainingError, match=r"in epoch \d with lr=1e\+300. Lower it"):
        fit(recipe=replace_recipe(lr=1e300, epochs=3, warmup=0.0))
