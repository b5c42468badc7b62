"""Precision at 1, by hand."""

from dataclasses import replace

import pytest
import torch

from probing.probers import plain_model, plain_scores, prober, tiny_facts
from promptgraft.errors import CompatibilityError, InputError
from promptgraft.probing.candidates import Candidates, shared_candidates
from promptgraft.probing.scoring import FactScores, prompt_rows, score_facts, score_majority
from promptgraft.prompt import SoftPrompt
from promptgraft.tasks.facts import Fact, Facts, Relation

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")


def test_precision_at_1_by_hand():
    backbone, model = prober("roberta"), plain_model("roberta")
    facts, everything = shared_candidates(tiny_facts(2, (6, 3, 12)), [backbone])
    candidates = Candidates(everything.words[: len(facts.objects)])  # objects alone: some are right by chance
    prompts = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    scores = score_facts(backbone, facts, candidates, prompts)
    right, tokens = [], candidates.tokens(backbone)
    with torch.no_grad():
        for relation, prompt in zip(facts.relations, prompts, strict=True):
            told = [
                candidates.words[int(plain_scores("roberta", model, subject, prompt, tokens).argmax())]
                for subject, _ in relation.test
            ]
            right.append([word == value for word, (_, value) in zip(told, relation.test, strict=True)])
            assert scores.correct[relation.name].tolist() == right[-1]
    flat = [answer for each in right for answer in each]
    assert 0 < sum(flat) < len(flat)
    assert scores.overall.value == sum(flat) / len(flat)
    assert scores.overall.n == len(flat)
    assert scores.mean == pytest.approx(sum(sum(each) / len(each) for each in right) / 2)
    assert {name: score.n for name, score in scores.by_relation().items()} == {
        relation.name: len(relation.test) for relation in facts.relations
    }


def test_candidates_that_are_one_token_are_one_answer(monkeypatch):
    backbone = prober("bert")
    facts, candidates = shared_candidates(tiny_facts(), [backbone])
    words = (*(word.upper() for word in facts.objects), *facts.objects)
    same = candidates.tokens(backbone)[: len(facts.objects)].repeat(2)  # as to an uncased model
    monkeypatch.setattr(Candidates, "tokens", lambda self, model: same)
    prompts = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    twice = score_facts(backbone, facts, Candidates(words), prompts, split="train")
    monkeypatch.setattr(Candidates, "tokens", lambda self, model: same[: len(facts.objects)])
    once = score_facts(backbone, facts, Candidates(facts.objects), prompts, split="train")
    assert once.overall.value > 0
    assert twice.overall == once.overall


def test_micro_and_macro_averages_differ():
    import numpy as np

    scores = FactScores({"a": np.array([True]), "b": np.array([False] * 3)})
    assert (scores.overall.value, scores.mean) == (0.25, 0.5)


def test_what_does_not_fit_is_refused(make_prompt):
    backbone = prober("bert")
    facts, candidates = shared_candidates(tiny_facts(), [backbone])

    def of(relation, **options):
        made = make_prompt(dim=32, **options)
        task = made.card.task.model_copy(update={"name": f"facts/{relation}"})
        return SoftPrompt(made.tensor, made.card.model_copy(update={"task": task}))

    both = [of("R1", seed=1), of("R0")]
    assert torch.equal(prompt_rows(both, facts)[0], both[1].tensor[0])  # by name, in any order
    with pytest.raises(InputError, match="relation 'R1' has 0 prompts"):
        score_facts(backbone, facts, candidates, both[1:])
    with pytest.raises(InputError, match="relation 'R0' has 2 prompts"):
        score_facts(backbone, facts, candidates, [*both, of("R0", seed=2)])
    with pytest.raises(CompatibilityError, match="shallow and of one length"):
        score_facts(backbone, facts, candidates, [of("R1", length=5), both[1]])
    with pytest.raises(CompatibilityError, match=r"16 wide, backbone .* takes 32"):
        score_facts(backbone, facts, candidates, torch.zeros(2, 3, 16))
    empty, _ = shared_candidates(tiny_facts(2, (6, 0, 4)), [backbone])
    with pytest.raises(InputError, match="no facts to ask for"):
        score_facts(backbone, empty, candidates, None, split="dev")


def test_the_majority_says_the_usual_object_of_the_training_facts():
    facts = Facts(
        "some",
        (
            Relation(
                "a",
                "[X] [Y]",
                (Fact("p", "red"), Fact("q", "blue"), Fact("r", "red")),
                (Fact("s", "blue"),),
                (Fact("t", "red"), Fact("u", "blue")),
            ),
            Relation("b", "[X] [Y]", (Fact("p", "two"), Fact("q", "one")), (), (Fact("t", "one"),)),  # first by name
            Relation("c", "[X] [Y]", (Fact("p", "two"),), (), ()),
        ),
    )
    found = score_majority(facts)
    assert {name: answers.tolist() for name, answers in found.correct.items()} == {"a": [True, False], "b": [True]}
    assert score_majority(facts, split="dev").overall.value == 0
    with pytest.raises(InputError, match="no facts to ask for"):
        score_majority(replace(facts, relations=facts.relations[2:]))
