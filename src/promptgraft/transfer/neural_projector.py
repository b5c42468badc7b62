"""Convert a prompt by a two-layer network that is trained to carry shared words from model to model.

The baseline of Wu, Wu & Mou, "Zero-Shot Continuous Prompt Transfer", ICLR 2024, appendix A.2, with its settings. The
paper keeps the epoch that does best on the target's labels; without labels, this keeps the one that carries words best
that it was not trained on.
"""

import torch
import torch.nn.functional as F
from torch import nn

from promptgraft.errors import InputError
from promptgraft.progress import progress_bar
from promptgraft.transfer.converter import PAPER, Converted, Converter, Passage

HIDDEN, LEARNING_RATE, BATCH = 768, 5e-3, 16
_HELD_OUT = 10
"""One anchor in so many is held out."""


def _convert(passage: Passage, *, epochs: int = 10, seed: int = 0) -> Converted:
    if epochs < 1:
        raise InputError(f"epochs must be 1 or more, got {epochs}.")
    source, target = (each.float().cpu() for each in passage.anchors.embeddings)
    if len(source) < 2:
        raise InputError("the models share 1 word: a projector needs one to learn from and one to be tested on.")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(source), generator=generator)
    held_out, used = order[: -(-len(order) // _HELD_OUT)], order[-(-len(order) // _HELD_OUT) :]
    first, second = (_linear(*shape, generator) for shape in ((source.shape[1], HIDDEN), (HIDDEN, target.shape[1])))
    network = nn.Sequential(first, nn.LeakyReLU(), second)
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    best, rows, kept = float("inf"), passage.prompts[0], 0
    with progress_bar("projector", epochs, "epoch") as bar:
        for epoch in range(1, epochs + 1):
            for batch in torch.split(used[torch.randperm(len(used), generator=generator)], BATCH):
                optimizer.zero_grad()
                loss = F.mse_loss(network(source[batch]), target[batch])
                torch.autograd.backward(loss)
                optimizer.step()
            with torch.no_grad():
                error = F.mse_loss(network(source[held_out]), target[held_out]).item()
                if error < best:
                    best, rows, kept = error, network(passage.prompts[0]), epoch
            bar.advance()
    baseline = F.mse_loss(target[used].mean(0).expand(len(held_out), -1), target[held_out]).item()
    diagnostics = {"held_out_r2": 1 - best / baseline, "epoch": kept, "anchors": len(source)}
    return Converted(rows, diagnostics)


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with torch's own start, from a generator of its own."""
    layer, bound = nn.Linear(inputs, outputs), inputs**-0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer


NEURAL_PROJECTOR = Converter(
    name="neural-projector",
    summary="a two-layer network, trained to carry shared words from model to model",
    paper=PAPER,
    run=_convert,
)
