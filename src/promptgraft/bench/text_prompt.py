"""A training step of a text prompt: promptgraft's run against the model's own encoder on concatenated rows."""

import torch
from torch import Tensor

from promptgraft.backbones.anatomy import FAMILIES
from promptgraft.backbones.base import Tokens
from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.bench.base import Row, Size, compare, relative_error


def text_prompt(size: Size) -> list[Row]:
    """P = 20 before 64 tokens, half of them padding in half of the sentences, BERT of 6 blocks (smoke: a toy).

    The baseline is what PEFT's prompt tuning runs: embedded rows and prompt concatenated, then the encoder as
    `transformers` has it, which computes every row of the last block.
    """
    dim, depth, heads, batch, T, P, rounds = (384, 6, 12, 16, 64, 20, 5) if size != "smoke" else (16, 2, 2, 2, 6, 3, 1)
    backbone = _random_bert(dim, depth, heads)
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(batch, T, dtype=torch.bool)
    mask[::2, T // 2 :] = False
    tokens = Tokens(torch.randn(batch, T, dim, generator=generator), mask)
    prompt = torch.randn(1, P, dim, generator=generator).requires_grad_()
    wanted = torch.randn(batch, dim, generator=generator)

    def ours() -> tuple[Tensor, Tensor]:
        features = backbone.run(tokens, prompt)
        return features.detach(), torch.autograd.grad((features * wanted).sum(), prompt)[0]

    def theirs() -> tuple[Tensor, Tensor]:
        rows = torch.cat([tokens.values[:, :1], prompt.expand(batch, -1, -1), tokens.values[:, 1:]], 1)
        seen = torch.cat([mask[:, :1], torch.ones(batch, P, dtype=torch.bool), mask[:, 1:]], 1)
        lift, encoder = (backbone.model.get_submodule(name) for name in ("embeddings.LayerNorm", "encoder"))
        features = encoder(lift(rows), attention_mask=seen[:, None, None]).last_hidden_state[:, 0]
        return features.detach(), torch.autograd.grad((features * wanted).sum(), prompt)[0]

    pairs = zip(ours(), theirs(), strict=True)
    row = compare(
        "text-prompt",
        "BertModel's encoder",
        ours,
        theirs,
        error=max(relative_error(mine, other) for mine, other in pairs),
        rounds=rounds,
        note=f"forward and backward, shallow, P = {P}, {T} tokens, batch {batch}, {dim}-d, {depth} blocks",
    )
    return [row]


def _random_bert(dim: int, depth: int, heads: int) -> TransformerBackbone:
    """A BERT of random weights that takes embedded tokens only, read at CLS."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=8, hidden_size=dim, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=4 * dim
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(config, add_pooling_layer=False)
    identity = {"name": "random", "source": "random", "family": "bert"}
    return TransformerBackbone(model, FAMILIES["bert"], lambda texts: {}, identity, pool="cls")
