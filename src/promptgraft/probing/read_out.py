"""A masked-language head for a frozen encoder that comes without one, trained on plain text.

BERT's head (Devlin et al. 2019, https://arxiv.org/abs/1810.04805, appendix A.1): dense, GELU, layer norm, and as
decoder the encoder's own word embedding with a bias. The encoder is frozen, so each text passes through it once; what
is trained, dense, norm and bias, then works on kept rows. All chosen tokens are masked, none is left or replaced at
random: the head alone learns, and it is read at masks alone.

The softmax over the vocabulary is sampled (Jean et al. 2015, https://arxiv.org/abs/1412.2007): the frequent tokens and
those of the batch are always there, and some of the rest stand for all of the rest.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.card import Section
from promptgraft.errors import InputError, TrainingError
from promptgraft.initialization.random import own_stream
from promptgraft.progress import progress_bar
from promptgraft.transfer.anchors import word_embeddings

ENCODED = 64
"""Texts of a forward pass."""
_UNSEEN = 0.1  # of a token that no text has, for its prior


class ReadOutRecipe(Section):
    """masks: tokens masked of each text, which has three times as many or is left out. max_length: tokens of a text.

    held_out: texts that nothing is trained on, one half to choose the epoch, the other to measure. frequent, drawn:
    tokens of a step's softmax, and how many of the rest stand for the rest.
    """

    masks: int = 8
    max_length: int = 48
    held_out: int = 600
    epochs: int = 6
    batch_size: int = 256
    lr: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.06
    frequent: int = 2048
    drawn: int = 1024


class Quality(Section):
    """Share of N held-out masked tokens that come first, or among the first five, and the mean loss in nats.

    The same for always saying the most frequent tokens, by which the loss is that of their frequencies.
    """

    n: int
    top1: float
    top5: float
    loss: float
    unigram_top1: float
    unigram_top5: float
    unigram_loss: float


@dataclass(frozen=True)
class ReadOut:
    """A head (`promptgraft.backbones.read_out.SHAPES`) with how well it does, and the epoch that was kept."""

    tensors: dict[str, Tensor]
    quality: Quality
    epoch: int
    trained_on: int


@dataclass(frozen=True)
class _Masked:
    """Rows (N, M, D) of an encoder at N texts' M masks, and the tokens (N, M) that stood there."""

    rows: Tensor
    tokens: Tensor

    def part(self, start: int, end: int | None) -> tuple[Tensor, Tensor]:
        """All masks of some texts: (n, D) float32, (n,)."""
        return self.rows[start:end].flatten(0, 1).float(), self.tokens[start:end].flatten()


class _Head(nn.Module):
    def __init__(self, words: Tensor, prior: Tensor, seed: int) -> None:
        super().__init__()
        width = words.shape[1]
        self.words = words
        self.dense, self.norm = nn.Linear(width, width), nn.LayerNorm(width, eps=1e-12)
        self.bias = nn.Parameter(prior.clone())
        with torch.no_grad():
            # from the encoder's own row: what is near a word there should be near its embedding
            self.dense.weight.copy_(torch.eye(width) + 0.02 * torch.randn(width, width, generator=_stream(seed)))
            self.dense.bias.zero_()

    def read(self, rows: Tensor) -> Tensor:
        read: Tensor = self.norm(F.gelu(self.dense(rows)))
        return read

    def scores(self, rows: Tensor) -> Tensor:
        return F.linear(self.read(rows), self.words, self.bias)


def train_read_out(
    backbone: TransformerBackbone, texts: Sequence[str], *, recipe: ReadOutRecipe | None = None, seed: int = 0
) -> ReadOut:
    """Train a masked-language head on a frozen encoder.

    Args:
        backbone: a text encoder, whose embeddings are as wide as its rows.
        texts: plain text, in an order that means nothing; the first `held_out` that are long enough are kept back.
        recipe: None for the one that the packs' heads were made with.
        seed: of the masks, the start and the order.

    Raises:
        InputError: too few texts are long enough, or the encoder's widths differ.
        TrainingError: the loss is not finite.
    """
    recipe, words = recipe or ReadOutRecipe(), word_embeddings(backbone).float()
    if words.shape[1] != backbone.info.dim:
        raise InputError(
            f"backbone {backbone.info.name} is {backbone.info.dim}-d and its words are {words.shape[1]}-d: a head "
            "that reads rows by the words' embeddings needs them to be equal."
        )
    masked = _masked(backbone, texts, recipe, seed)
    choose, measure = masked.part(0, recipe.held_out // 2), masked.part(recipe.held_out // 2, recipe.held_out)
    rows, tokens = masked.part(recipe.held_out, None)
    counts = torch.bincount(tokens, minlength=len(words)).float() + _UNSEEN
    prior = (counts / counts.sum()).log()
    head, best, kept = _Head(words, prior, seed), (math.inf, 0), dict[str, Tensor]()
    for epoch in _epochs(head, rows, tokens, counts, recipe, seed):
        loss = _quality(head, prior, *choose).loss
        if loss < best[0]:
            best, kept = (loss, epoch), {name: value.clone() for name, value in head.state_dict().items()}
    head.load_state_dict(kept)
    tensors = {"dense.weight": head.dense.weight, "dense.bias": head.dense.bias, "norm.weight": head.norm.weight}
    tensors |= {"norm.bias": head.norm.bias, "decoder.bias": head.bias}
    with torch.no_grad():  # as they are shipped
        for value in tensors.values():
            value.copy_(value.half())
    own = {name: value.detach().half() for name, value in tensors.items()}
    return ReadOut(own, _quality(head, prior, *measure), best[1], len(tokens))


def _masked(backbone: TransformerBackbone, texts: Sequence[str], recipe: ReadOutRecipe, seed: int) -> _Masked:
    """All texts through the encoder, with `masks` tokens of each masked."""
    tokenizer = backbone.tokenizer
    assert tokenizer is not None
    encoded = tokenizer(list(texts), truncation=True, max_length=recipe.max_length, padding=False)["input_ids"]
    ids = [torch.tensor(each) for each in encoded if len(each) - 2 >= 3 * recipe.masks]
    if len(ids) <= recipe.held_out:
        raise InputError(
            f"{len(ids)} of {len(texts)} texts have {3 * recipe.masks} tokens or more, and {recipe.held_out} are held "
            "out. Give more text."
        )
    stream = _stream(seed)
    at = [1 + torch.randperm(len(each) - 2, generator=stream)[: recipe.masks] for each in ids]
    rows = torch.empty(len(ids), recipe.masks, backbone.info.dim, dtype=torch.float16)
    order = torch.tensor([len(each) for each in ids]).argsort(stable=True)  # little padding
    with torch.no_grad(), progress_bar("reading", len(ids), "text") as bar:
        for index in torch.split(order, ENCODED):
            hidden = [ids[i].scatter(0, at[i], tokenizer.mask_token_id) for i in index.tolist()]
            real = [torch.ones_like(each) for each in hidden]
            padded, mask = (nn.utils.rnn.pad_sequence(each, batch_first=True) for each in (hidden, real))
            tokens = backbone.embed({"input_ids": padded, "attention_mask": mask})
            rows[index] = backbone.rows(tokens, at=torch.stack([at[i] for i in index.tolist()])).half().cpu()
            bar.advance(len(index))
    return _Masked(rows, torch.stack([each[places] for each, places in zip(ids, at, strict=True)]))


def _epochs(
    head: _Head, rows: Tensor, tokens: Tensor, counts: Tensor, recipe: ReadOutRecipe, seed: int
) -> Iterator[int]:
    """Train; yields the number of each epoch that is done."""
    order = counts.argsort(descending=True, stable=True)
    frequent, rest = order[: recipe.frequent], order[recipe.frequent :]
    drawn = min(recipe.drawn, len(rest))
    for_rest = torch.zeros(len(counts))
    for_rest[rest] = math.log(len(rest) / drawn) if drawn else 0.0
    optimizer = torch.optim.AdamW(head.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    stream, steps = _stream(seed), -(-len(rows) // recipe.batch_size)
    total, step = recipe.epochs * steps, 0
    with progress_bar("head", recipe.epochs, "epoch") as bar:
        for epoch in range(1, recipe.epochs + 1):
            for index in torch.split(torch.randperm(len(rows), generator=stream), recipe.batch_size):
                own, label = torch.unique(tokens[index], return_inverse=True)
                some = rest[torch.randint(len(rest), (drawn,), generator=stream)] if drawn else rest
                others = torch.cat([frequent, some])
                others = others[~torch.isin(others, own)]  # those of the batch stand for themselves alone
                pool = torch.cat([own, others])
                weight = torch.cat([torch.zeros(len(own)), for_rest[others]])
                scores = F.linear(head.read(rows[index]), head.words[pool], head.bias[pool] + weight)
                loss = F.cross_entropy(scores, label)
                if not bool(loss.isfinite()):
                    raise TrainingError(f"the loss is not finite in epoch {epoch} with lr={recipe.lr:g}. Lower it.")
                pace = min((step + 1) / (recipe.warmup * total + 1), (total - step) / total)
                for group in optimizer.param_groups:
                    group["lr"] = recipe.lr * pace
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                step += 1
            bar.advance()
            yield epoch


def _quality(head: _Head, prior: Tensor, rows: Tensor, tokens: Tensor) -> Quality:
    """On all of the vocabulary."""
    first, five, loss = 0, 0, 0.0
    with torch.no_grad():
        for some, wanted in zip(torch.split(rows, 4 * ENCODED), torch.split(tokens, 4 * ENCODED), strict=True):
            scores = head.scores(some)
            top = scores.topk(5, dim=1).indices == wanted[:, None]
            first, five = first + int(top[:, 0].sum()), five + int(top.any(1).sum())
            loss += F.cross_entropy(scores, wanted, reduction="sum").item()
    usual = prior.topk(5).indices
    return Quality(
        n=len(tokens),
        top1=first / len(tokens),
        top5=five / len(tokens),
        loss=loss / len(tokens),
        unigram_top1=(tokens == usual[0]).double().mean().item(),
        unigram_top5=torch.isin(tokens, usual).double().mean().item(),
        unigram_loss=-prior[tokens].double().mean().item(),
    )


def _stream(seed: int) -> torch.Generator:
    return own_stream("read-out", seed)
