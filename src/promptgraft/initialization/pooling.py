"""Mean and max pooling over a stream of rows."""

import math
from typing import Literal

import torch
from torch import Tensor


class StreamingPool:
    """P pooled rows of a stream whose length is known: row k pools the k-th window of floor(total / P) rows.

    Windows do not overlap; the rows after the last one, fewer than P, are left out. It holds P rows.

    Args:
        kind: `mean` or `max`.
        count: P.
        total: rows that will come, at least P.
    """

    def __init__(self, kind: Literal["mean", "max"], count: int, total: int) -> None:
        self._kind, self._count, self._window = kind, count, total // count
        self._seen = 0
        self._pooled = torch.empty(0)

    def add(self, rows: Tensor) -> None:
        """Take rows (n, D) into account, in their order."""
        if self._seen == 0:
            start = 0.0 if self._kind == "mean" else -math.inf
            self._pooled = torch.full((self._count, rows.shape[1]), start, dtype=torch.float64, device=rows.device)
        while len(rows) and self._seen < self._count * self._window:
            window, inside = divmod(self._seen, self._window)
            part, rows = rows[: self._window - inside], rows[self._window - inside :]
            if self._kind == "mean":
                self._pooled[window] += part.sum(0, dtype=torch.float64) / self._window
            else:
                self._pooled[window] = torch.maximum(self._pooled[window], part.amax(0).double())
            self._seen += len(part)

    def result(self) -> Tensor:
        """The pooled rows (P, D), float32."""
        return self._pooled.float()
