"""The neurons that 13 prompts activate: one batch and no hooks against one forward with hooks per prompt."""

import torch
from torch import Tensor

from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.bench.base import Row, Size, compare, relative_error
from promptgraft.bench.training_step import random_vit


def neuron_overlap(size: Size) -> list[Row]:
    """13 prompts of 20 and of 100 rows, ViT-S of random weights (smoke: 3 of 4 rows, a toy of 4 blocks).

    The baseline is the published procedure (Su et al., NAACL 2022): the model's own blocks, each run in full.
    """
    dim, depth, heads = (384, 12, 6) if size != "smoke" else (16, 4, 2)
    M, lengths, rounds = (13, (20, 100), 5) if size != "smoke" else (3, (4,), 1)
    backbone = random_vit(dim, depth, heads)
    generator = torch.Generator().manual_seed(0)

    def row(length: int) -> Row:
        prompts = torch.randn(M, length, dim, generator=generator)
        return compare(
            f"neuron-overlap-{length}",
            "hooks, one by one",
            lambda: backbone.neuron_activations(prompts),
            lambda: _by_hooks(backbone, prompts),
            error=relative_error(backbone.neuron_activations(prompts), _by_hooks(backbone, prompts)),
            rounds=rounds,
            note=f"{M} prompts {length} x {dim}, {depth} blocks",
        )

    return [row(length) for length in lengths]


def _by_hooks(backbone: TransformerBackbone, prompts: Tensor) -> Tensor:
    """What the last three feed-forwards of a ViT receive at CLS, (M, neurons)."""
    model = backbone.model
    embeddings, layers = model.get_submodule("embeddings"), list(model.get_submodule("layers").children())
    cls = (embeddings.get_parameter("cls_token") + embeddings.get_parameter("position_embeddings")[:, :1])[0]
    seen: list[Tensor] = []
    handles = [
        layer.get_submodule("mlp.fc1").register_forward_hook(lambda *args: seen.append(args[2][0, 0]))
        for layer in layers[-3:]
    ]
    with torch.no_grad():
        for prompt in prompts:
            x = torch.cat([cls, prompt])[None]
            for layer in layers:
                x = layer(x)
    for handle in handles:
        handle.remove()
    return torch.stack(seen).view(len(prompts), -1)
