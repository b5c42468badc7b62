"""One training step of a prompt: promptgraft's run of the backbone against the literal concatenation.

The baseline is Visual Prompt Tuning as published (Jia et al., ECCV 2022, eqs. 4-8): prompt rows are ordinary rows of
every block, with queries and a feed-forward of their own, and a deep prompt replaces them before the next block. It
runs the same layers and the same attention kernel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from promptgraft.backbones.anatomy import FAMILIES
from promptgraft.backbones.base import Tokens
from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.bench.base import Row, Size, compare, relative_error

Run = Callable[[Tokens, Tensor], Tensor]
Step = Callable[[], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Model:
    """A ViT of random weights and how it runs: dim, depth, heads, examples in a batch, rounds of timing."""

    dim: int
    depth: int
    heads: int
    batch: int
    rounds: int
    device: str = "cpu"
    dtype: torch.dtype = torch.float32


def model_of(size: Size) -> Model:
    """pocket: ViT-S, batches of 8. paper: ViT-B, on a GPU in bfloat16 by 64, else by 8. smoke: a toy."""
    if size == "smoke":
        return Model(16, 2, 2, 2, 1)
    if size == "pocket":
        return Model(384, 12, 6, 8, 3)
    if torch.cuda.is_available():
        return Model(768, 12, 12, 64, 9, "cuda", torch.bfloat16)
    return Model(768, 12, 12, 8, 3)


def training_step(name: str, model: Model, *, layers: str, length: int, tokens: int) -> Row:
    """Time forward and backward to the prompt, on a ViT of random weights.

    The error is the larger one of the features' and the prompt gradient's, in float32 on two examples.

    Args:
        name: of the row.
        model: of which a step is timed.
        layers: "shallow" or "deep".
        length: P, rows of the prompt.
        tokens: T, tokens of an input, CLS included.
    """
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(model.batch, tokens, model.dim, generator=generator)
    rows = torch.randn(model.depth if layers == "deep" else 1, length, model.dim, generator=generator)
    downstream = torch.randn(model.batch, model.dim, generator=generator)

    def runs(dtype: torch.dtype, batch: int) -> tuple[Step, Step]:
        backbone = random_vit(model.dim, model.depth, model.heads, model.device, dtype)
        embedded = Tokens(values[:batch].to(model.device))
        prompt = rows.to(model.device).requires_grad_()
        wanted = downstream[:batch].to(model.device)

        def step(run: Run) -> tuple[Tensor, Tensor]:
            features = run(embedded, prompt)
            return features.detach(), torch.autograd.grad((features * wanted).sum(), prompt)[0]

        return lambda: step(backbone.run), lambda: step(lambda *of: _concatenation(backbone, *of))

    exact = [step() for step in runs(torch.float32, 2)]
    ours, theirs = runs(model.dtype, model.batch)
    kind = str(model.dtype).removeprefix("torch.")
    return compare(
        name,
        "concatenation",
        ours,
        theirs,
        error=max(relative_error(mine, other) for mine, other in zip(*exact, strict=True)),
        rounds=model.rounds,
        note=(
            f"a step, {layers}, P = {length}, {tokens} tokens, {model.batch} a batch, "
            f"{model.dim}-d, {model.depth} blocks, {kind} on {model.device}"
        ),
        device=model.device,
        dtype=model.dtype,
    )


def _concatenation(backbone: TransformerBackbone, tokens: Tokens, prompt: Tensor) -> Tensor:
    """Features at CLS (B, D) of a ViT, the prompt (L, P, D) standing after CLS as P ordinary rows."""
    x, length = tokens.values, prompt.shape[1]
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=backbone.dtype == torch.bfloat16):
        for i, block in enumerate(backbone.anatomy.blocks):
            if i < len(prompt):
                rest = x[:, 1 if i == 0 else 1 + length :]
                x = torch.cat([x[:, :1], prompt[i].expand(len(x), -1, -1), rest], 1)
            hidden = block.enter(x)
            query, key, value = (
                project(hidden).view(*x.shape[:2], block.heads, -1).transpose(1, 2)
                for project in (block.query, block.key, block.value)
            )
            context = F.scaled_dot_product_attention(query, key, value, scale=block.scale)
            x = block.leave(x, context.transpose(1, 2).flatten(2))
        return backbone.anatomy.norm(x)[:, 0].float()


def random_vit(
    dim: int, depth: int, heads: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> TransformerBackbone:
    """A ViT of random weights that takes prepared images only."""
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(hidden_size=dim, num_hidden_layers=depth, num_attention_heads=heads, intermediate_size=4 * dim)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ViTModel(config, add_pooling_layer=False)
    identity = {"name": "random", "source": "random", "family": "vit"}

    def prepare(images: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(images))

    return TransformerBackbone(model, FAMILIES["vit"], prepare, identity, device=device, dtype=dtype)
