"""Facts as a language model is asked for them.

With a prompt of m rows v: "[CLS] subject v1 ... vm [MASK] . [SEP]" (Zhong et al. 2021; eq. 1 of zero-shot continuous
prompt transfer, Wu et al. 2024, https://arxiv.org/abs/2310.01691). The rows are the word embeddings of m places in the
text, which have positions as words have. The answer is read at [MASK]; of a causal model, "subject v1 ... vm", at the
last row. Without a prompt, the relation's template stands there; a causal model sees it up to the object.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from promptgraft.backbones.base import Tokens
from promptgraft.backbones.masked import vocabulary_head
from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.errors import InputError
from promptgraft.probing.candidates import Candidates
from promptgraft.tasks.fact_files import OBJECT, SUBJECT, FactSplit
from promptgraft.tasks.facts import Facts
from promptgraft.transfer.anchors import word_embeddings

_BLANK = 0
"""The token in the places of the prompt; any will do, as its embedding is taken off again."""


@dataclass(frozen=True)
class Questions:
    """N facts of one split, relation after relation.

    ids: token ids, (T,) of each. start: (N,) where the prompt's first row stands. answer: (N,) where the answer is
    read. relation: (N,) numbers of relations. label: (N,) numbers of candidates.
    """

    ids: tuple[Tensor, ...]
    start: Tensor
    answer: Tensor
    relation: Tensor
    label: Tensor

    def __len__(self) -> int:
        return len(self.ids)


class Prober:
    """A frozen language model that chooses one of the candidates.

    Args:
        backbone: from `load_prober`.
        candidates: C words.

    Raises:
        CompatibilityError: it has no head that scores words.
        InputError: it has no tokenizer, or a candidate is not one of its tokens.
    """

    def __init__(self, backbone: TransformerBackbone, candidates: Candidates) -> None:
        weight, bias = vocabulary_head(backbone)
        tokenizer: Any = backbone.tokenizer
        if tokenizer is None or (backbone.pool == "mask" and tokenizer.mask_token_id is None):
            raise InputError(f"backbone {backbone.info.name} has no tokenizer with a mask token. Get a whole copy.")
        self.backbone, self.candidates, self._tokenizer = backbone, candidates, tokenizer
        self.tokens = candidates.tokens(backbone)
        chosen = self.tokens.to(weight.device)
        self._weight, self._bias = weight[chosen], bias[chosen]
        self.words = word_embeddings(backbone)

    def ask(self, facts: Facts, split: FactSplit, length: int | None) -> Questions:
        """The questions of a split.

        Args:
            facts: whose objects are candidates.
            split: `train`, `dev` or `test`.
            length: m, rows of the prompt; None to ask with the templates.

        Raises:
            InputError: an object is no candidate, or the prompt leaves no room for a subject.
        """
        left, right, relation, objects = [], [], [], []
        for number, each in enumerate(facts.relations):
            before, _, after = each.template.partition(OBJECT)
            for subject, value in each.split(split):
                left.append(subject if length is not None else before.replace(SUBJECT, subject).rstrip())
                right.append(" ." if length is not None else after.replace(SUBJECT, subject).rstrip())
                relation.append(number)
                objects.append(value)
        slots, tokenizer = length or 0, self._tokenizer
        special = tokenizer("", padding=False, truncation=False)["input_ids"]
        first = 0 if self.backbone.anatomy.position == "first" else 1
        lead, tail = list(special[:first]), list(special[first:])
        masked = self.backbone.pool == "mask"
        ends = (
            [[tokenizer.mask_token_id, *more, *tail] for more in self._encode(right)] if masked else [[]] * len(left)
        )
        limit = int(self.backbone.info.preprocessing["max_length"])
        ids, start, answer = [], [], []
        for words, end in zip(self._encode(left), ends, strict=True):
            room = limit - len(lead) - slots - len(end)
            if room < 1:
                raise InputError(
                    f"a prompt of {slots} rows leaves no room for a subject in the {limit} tokens of "
                    f"{self.backbone.info.name}. Take a shorter one."
                )
            text = [*lead, *words[:room]]
            if not masked and not text and not slots:
                text = [tokenizer.eos_token_id]  # a template that opens with its object: nothing stands before it
            start.append(len(text))
            answer.append(len(text) + slots - (not masked))
            ids.append(torch.tensor([*text, *[_BLANK] * slots, *end]))
        begun, read, of = (torch.tensor(each, dtype=torch.long) for each in (start, answer, relation))
        return Questions(tuple(ids), begun, read, of, self.candidates.numbers(objects))

    def scores(
        self, questions: Questions, index: Tensor, prompts: Tensor | None = None, which: Tensor | None = None
    ) -> Tensor:
        """Scores (B, C) of the candidates, differentiable in the prompts.

        Args:
            questions: from `ask`.
            index: (B,) which of them.
            prompts: (R, m, D); None for questions with templates.
            which: (B,) the prompt of each question; None takes its relation's.
        """
        chosen = [questions.ids[i] for i in index.tolist()]
        real = [torch.ones(len(ids), dtype=torch.long) for ids in chosen]
        padded, mask = (torch.nn.utils.rnn.pad_sequence(each, batch_first=True) for each in (chosen, real))
        tokens = self.backbone.embed({"input_ids": padded, "attention_mask": mask})
        values = tokens.values
        if prompts is not None:
            rows = prompts.to(values) - self.words[_BLANK]
            places = (questions.start[index][:, None] + torch.arange(rows.shape[1])).to(values.device)
            which = questions.relation[index] if which is None else which
            values = values.scatter_add(
                1, places[..., None].expand(-1, -1, values.shape[2]), rows[which.to(values.device)]
            )
        read = self.backbone.rows(Tokens(values, tokens.mask), at=questions.answer[index][:, None])[:, 0]
        return torch.addmm(self._bias, read, self._weight.T)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        options = {"add_special_tokens": False, "padding": False, "truncation": False}
        return list(self._tokenizer(list(texts), **options)["input_ids"]) if texts else []
