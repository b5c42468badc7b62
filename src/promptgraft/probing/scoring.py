"""How often a language model tells the object of a fact: precision at 1 among the candidates."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.card import Score
from promptgraft.errors import CompatibilityError, InputError
from promptgraft.intervals import accuracy
from promptgraft.probing.candidates import Candidates
from promptgraft.probing.questions import Prober, Questions
from promptgraft.progress import progress_bar
from promptgraft.prompt import SoftPrompt
from promptgraft.tasks.fact_files import FactSplit
from promptgraft.tasks.facts import Facts

BATCH = 64
TASK = "facts/"
"""What the name of a relation's task begins with, in the card of its prompt."""
_EMPTY = "there are no facts to ask for. Take a split that has some."


@dataclass(frozen=True)
class FactScores:
    """Right and wrong answers to the facts of each relation, by its name: (N,) each."""

    correct: Mapping[str, NDArray[np.bool_]]

    @property
    def overall(self) -> Score:
        """Share of all facts that was told (micro average), with its 95 % interval."""
        return accuracy(np.concatenate(list(self.correct.values())))

    @property
    def mean(self) -> float:
        """Mean of the relations' shares (macro average)."""
        return float(np.mean([answers.mean() for answers in self.correct.values()]))

    def by_relation(self) -> dict[str, Score]:
        """Each relation's share, with its 95 % interval."""
        return {name: accuracy(answers) for name, answers in self.correct.items()}


def score_facts(
    backbone: TransformerBackbone,
    facts: Facts,
    candidates: Candidates,
    prompts: Sequence[SoftPrompt] | Tensor | None,
    *,
    split: FactSplit = "test",
) -> FactScores:
    """Precision at 1 of a model under one prompt for each relation.

    Args:
        backbone: from `load_prober`.
        facts: with `candidates` from `shared_candidates`.
        candidates: the words to choose from.
        prompts: one for each relation, by their tasks' names; or rows (R, m, D) in the relations' order; or None for
            the relations' templates.
        split: whose facts to ask.

    Raises:
        InputError: a relation has no prompt, or the split has no facts.
        CompatibilityError: a prompt is of another width than the backbone's words.
    """
    prober = Prober(backbone, candidates)
    rows = prompts if prompts is None or isinstance(prompts, Tensor) else prompt_rows(prompts, facts)
    if rows is not None:
        backbone.check(1, rows.shape[2])
    questions = prober.ask(facts, split, None if rows is None else rows.shape[1])
    correct, _ = answer(prober, questions, rows)
    parts = {
        relation.name: correct[questions.relation == number].numpy() for number, relation in enumerate(facts.relations)
    }
    return FactScores({name: answers for name, answers in parts.items() if len(answers)})


def score_majority(facts: Facts, *, split: FactSplit = "test") -> FactScores:
    """What is told by always saying the most frequent object of a relation's training facts, without any model.

    Raises:
        InputError: the split has no facts.
    """
    correct = {}
    for relation in facts.relations:
        counts = Counter(fact.object for fact in relation.train)
        usual = min(counts, key=lambda name: (-counts[name], name))
        correct[relation.name] = np.array([fact.object == usual for fact in relation.split(split)])
    asked = {name: answers for name, answers in correct.items() if len(answers)}
    if not asked:
        raise InputError(_EMPTY)
    return FactScores(asked)


def answer(prober: Prober, questions: Questions, prompts: Tensor | None) -> tuple[Tensor, Tensor]:
    """Which questions are answered by the right token, (N,) bool, and the loss of each, (N,) in nats.

    Raises:
        InputError: there are no questions.
    """
    if not len(questions):
        raise InputError(_EMPTY)
    order = torch.tensor([len(ids) for ids in questions.ids]).argsort(stable=True)  # little padding
    correct, losses = torch.zeros(len(order), dtype=torch.bool), torch.zeros(len(order), dtype=torch.float64)
    with torch.no_grad(), progress_bar("asking", len(order), "fact") as bar:
        for index in torch.split(order, BATCH):
            scores = prober.scores(questions, index, prompts).cpu()
            wanted = questions.label[index]
            # by token: to an uncased model two candidates may be the same
            correct[index] = prober.tokens[scores.argmax(1)] == prober.tokens[wanted]
            losses[index] = torch.nn.functional.cross_entropy(scores.double(), wanted, reduction="none")
            bar.advance(len(index))
    return correct, losses


def prompt_rows(prompts: Sequence[SoftPrompt], facts: Facts) -> Tensor:
    """The rows (R, m, D) of the relations' prompts, in the relations' order.

    Raises:
        InputError: a relation has no prompt, or two.
        CompatibilityError: they are not all shallow and of one shape.
    """
    named: dict[str, list[SoftPrompt]] = {}
    for prompt in prompts:
        named.setdefault(prompt.card.task.name, []).append(prompt)
    rows = []
    for relation in facts.relations:
        found = named.get(TASK + relation.name, [])
        if len(found) != 1:
            raise InputError(
                f"relation {relation.name!r} has {len(found)} prompts, of task {TASK + relation.name!r}. Give one."
            )
        rows.append(found[0].rows())
    if len({each.shape for each in rows}) > 1 or any(prompt.card.prompt.layers != 1 for prompt in prompts):
        raise CompatibilityError("the relations' prompts must be shallow and of one length and width.")
    return torch.stack(rows)
