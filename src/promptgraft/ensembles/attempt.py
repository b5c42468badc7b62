"""ATTEMPT: each input mixes frozen sources and the target prompt by attention (Asai et al. 2022).

"ATTEMPT: Parameter-Efficient Multi-task Tuning via Attentional Mixtures of Soft Prompts", EMNLP 2022
(https://arxiv.org/abs/2205.11961), section 3.2.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from promptgraft.backbones.base import Backbone, Tokens
from promptgraft.ensembles.aligned import aligned_alike
from promptgraft.initialization.random import own_stream, random_prompt
from promptgraft.tasks.embedded import EmbeddedSplit
from promptgraft.transfer.sources import fits_shallow
from promptgraft.tuning.edit import Edit
from promptgraft.tuning.method import Method, Setting

BOTTLENECK = 100
"""r, the width between the two layers of the attention network G, as in the released code."""


class AttentionMixture(Edit):
    """P(x) = P_T + Σ_j a_j(x) P_j over the M sources and, as j = M + 1, the target prompt P_T once more, (B, 1, P, D).

    - x̂ = maximum over the tokens of x, p̂_j = maximum over the rows of P_j, per dimension;
    - G(x̂) = LayerNorm(W_up SiLU(W_down x̂)), W_down (r, D), W_up (D, r), no biases;
    - a(x) = softmax_j(p̂_j · G(x̂) / T), T = e D.

    As in the released code, the target prompt counts twice: by its weight, and added again. There the maximum is over
    padding, too, so that an answer depends on the batch; here it is not. T is fixed, as a learned one does not work in
    that code. P_T starts at VPT's random numbers, as images have no vocabulary to draw it from.

    Trained: P_T, W_down, W_up and the norm, P D + 2 r D + 2 D numbers.

    Args:
        sources: (M, P, D), frozen.
        start: of the target prompt, (1, P, D).
        seed: of the attention network's start.
    """

    sources: Tensor

    def __init__(self, sources: Tensor, start: Tensor, seed: int) -> None:
        super().__init__()
        width = sources.shape[2]
        generator = own_stream("attempt", seed)
        self.register_buffer("sources", sources.detach().clone())
        self.target = nn.Parameter(start.detach().clone())
        self.down = nn.Linear(width, BOTTLENECK, bias=False)
        self.up = nn.Linear(BOTTLENECK, width, bias=False)
        self.norm = nn.LayerNorm(width)
        for layer in (self.down, self.up):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)

    def attention(self, tokens: Tokens) -> Tensor:
        """Weights a(x) of the sources and, last, of the target prompt, (B, M + 1)."""
        values = tokens.values.to(self.target)
        if tokens.mask is not None:
            values = values.masked_fill(~tokens.mask.to(values.device)[..., None], -torch.inf)
        asked = self.norm(self.up(F.silu(self.down(values.amax(1)))))
        offered = torch.cat([self.sources, self.target]).amax(1)
        scores: Tensor = asked @ offered.T / (math.e * offered.shape[1])
        return scores.softmax(1)

    def forward(self, tokens: Tokens) -> Tensor:
        """A prompt for each input, (B, 1, P, D)."""
        prompts = torch.cat([self.sources, self.target])
        mixed = torch.einsum("bm,mpd->bpd", self.attention(tokens), prompts)
        return (self.target + mixed)[:, None]

    def source_weights(self, inputs: EmbeddedSplit) -> list[float]:
        """Mean attention to each of the M sources; what is missing to 1 is the target prompt's."""
        with torch.no_grad():
            attended = torch.cat([self.attention(tokens).double() for tokens in inputs.batches()])
        mean: list[float] = attended.mean(0)[:-1].tolist()
        return mean

    def features(self, backbone: Backbone, tokens: Tokens) -> Tensor:
        """Features (B, dim) of the backbone, which stays as it is, under each input's own prompt."""
        return backbone.run(tokens, self(tokens))


def _build(setting: Setting) -> AttentionMixture:
    sources = aligned_alike(setting, "attempt")
    start = random_prompt(setting.backbone.info, sources.shape[1], "shallow", setting.seed)
    dtype = torch.promote_types(setting.backbone.dtype, torch.float32)
    return AttentionMixture(sources, start, setting.seed).to(dtype)


def _rebuild(setting: Setting, state: Mapping[str, Tensor]) -> AttentionMixture:
    sources = torch.zeros_like(state["sources"])
    return AttentionMixture(sources, sources[:1], setting.seed)


attempt = Method(
    name="attempt",
    summary="each input mixes the frozen source prompts and a new one by a small attention network",
    paper="https://arxiv.org/abs/2205.11961",
    sources="several",
    start="sources and random",
    build=_build,
    edits=True,
    fits=fits_shallow("attempt"),
    rebuild=_rebuild,
)
