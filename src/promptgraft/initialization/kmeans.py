"""K-means over a stream: seeded and settled on its first rows, one mini-batch step for every block after them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 8192
"""Rows that wait before they are clustered: 12 MiB per layer at width 384."""
STARTS, FEW = 4, 1024
"""Seedings of the first block, and the rows of it, at least 16 P, that they are seeded and compared on."""
ROUNDS, SETTLED = 100, 1e-3
"""Lloyd rounds: at most so many, or until one lowers the inertia by less than this share of it."""


class StreamingKMeans:
    """P centres of rows that are seen once (mini-batch k-means, Sculley 2010; seeds: k-means++, Arthur 2007).

    At most `block` rows are held, however many come, and where a stream is cut into pieces changes no bit. The first
    block is clustered by Lloyd's algorithm; a stream that is no longer than it gets exactly that. Then each centre is
    the running mean of the rows that were nearest to it when they came, so the order of rows matters: shuffle them.
    A centre that nothing has joined moves to the row that is farthest from its own; fewer distinct rows than centres
    leave equal centres.

    Args:
        count: P, no more than there will be rows.
        seed: of the seeding.
        block: rows to a step; at least P are taken.
    """

    seen = 0
    """Rows so far."""

    def __init__(self, count: int, seed: int = 0, block: int = BLOCK) -> None:
        self._count = count
        self._generator = torch.Generator().manual_seed(seed)
        self._block = max(block, count)
        self._waiting = self._shift = self._centres = self._joined = torch.empty(0)

    def add(self, rows: Tensor) -> None:
        """Take rows (n, D) into account, in their order."""
        if self.seen == 0:
            self._waiting = rows.new_empty(self._block, rows.shape[1])
        while len(rows):
            start = self.seen % self._block
            part, rows = rows[: self._block - start], rows[self._block - start :]
            self._waiting[start : start + len(part)] = part
            self.seen += len(part)
            if start + len(part) == self._block:
                self._cluster(self._waiting)

    def result(self) -> Tensor:
        """Centres (P, D) of all rows so far; call it once, at the end."""
        rest = self.seen % self._block
        if rest:
            self._cluster(self._waiting[:rest])
        return self._centres + self._shift

    def _cluster(self, rows: Tensor) -> None:
        if len(self._centres) == 0:
            self._shift = rows.mean(0)  # an offset that all rows share would drown their differences in rounding
            rows = rows - self._shift
            few = rows[torch.randperm(len(rows), generator=self._generator)[: max(FEW, 16 * self._count)]]
            starts = [_settle(few, _seeds(few, self._count, self._generator)) for _ in range(STARTS)]
            self._centres, self._joined, _ = _settle(rows, min(starts, key=lambda start: start[2])[0])
        else:
            rows = rows - self._shift
            self._centres, self._joined, _ = _step(rows, rows.square().sum(1), self._centres, self._joined)


def _seeds(rows: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Greedy k-means++: a row is drawn by its squared distance to the seeds so far, the best of a few draws."""
    draws, squares = 2 + int(math.log(count)), rows.square().sum(1)
    chosen = torch.randint(len(rows), (1,), generator=generator).to(rows.device)
    nearest = _squared_distances(rows, squares, rows[chosen])[:, 0]
    while len(chosen) < count:
        total = nearest.double().cumsum(0)
        at = torch.rand(draws, generator=generator, dtype=torch.float64).to(rows.device) * total[-1]
        candidates = torch.searchsorted(total, at, right=True).clamp(max=len(rows) - 1)
        distances = torch.minimum(_squared_distances(rows, squares, rows[candidates]), nearest[:, None])
        best = distances.sum(0).argmin()
        nearest = distances[:, best]
        chosen = torch.cat([chosen, candidates[best][None]])
    return rows[chosen]


def _settle(rows: Tensor, centres: Tensor) -> tuple[Tensor, Tensor, float]:
    """Lloyd's algorithm: centres (P, D), how many rows each is the mean of, and the inertia before the last round."""
    nothing = joined = centres.new_zeros(len(centres))
    squares = rows.square().sum(1)
    before, inertia = math.inf, math.inf
    for _ in range(ROUNDS):
        centres, joined, inertia = _step(rows, squares, centres, nothing)
        if inertia >= before * (1 - SETTLED):
            break
        before = inertia
    return centres, joined, inertia


def _step(rows: Tensor, squares: Tensor, centres: Tensor, joined: Tensor) -> tuple[Tensor, Tensor, float]:
    """Rows join their nearest centre, which becomes the mean of all that did.

    Returns:
        Centres (P, D), how many rows each is the mean of (P,), and the inertia of `rows` before the step.
    """
    distances, nearest = _squared_distances(rows, squares, centres).min(1)
    members = F.one_hot(nearest, len(centres)).to(rows.dtype)
    counts = members.sum(0)
    joined = joined + counts
    centres = centres + (members.T @ rows - counts[:, None] * centres) / joined.clamp(min=1)[:, None]
    empty = (joined == 0).nonzero()[: len(rows), 0]
    centres[empty] = rows[distances.topk(len(empty)).indices]
    return centres, joined, float(distances.sum())


def _squared_distances(rows: Tensor, squares: Tensor, centres: Tensor) -> Tensor:
    """Squared distances (n, P) of rows (n, D), whose squared norms (n,) are known, to centres."""
    distances = torch.addmm(centres.square().sum(1), rows, centres.T, alpha=-2)
    return distances.add_(squares[:, None]).clamp_(min=0)
