"""What the machine could do at best, its rate of operations and its bandwidth, and what a run needs of them."""

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

SIDE, COPIED, ROUNDS = 1536, 64 * 2**20, 7


@cache
def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Operations (a multiplication and an addition are two) a second of a square matrix product, the best of seven."""
    a = torch.rand(SIDE, SIDE, device=device).to(dtype)
    return 2 * SIDE**3 / _best(lambda: a @ a, device)


@cache
def bandwidth(device: str) -> float:
    """Bytes a second read from memory, by the sum of 256 MiB, the best of seven."""
    values = torch.ones(COPIED, device=device)
    return 4 * COPIED / _best(values.sum, device)


def operations(work: Callable[[], object]) -> int:
    """Operations of the matrix products and attentions in one run, forward and backward."""
    with FlopCounterMode(display=False, custom_mapping=_ON_CPU) as counter:
        work()
    return int(counter.get_total_flops())


def synchronize() -> None:
    """Wait until a GPU has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _best(work: Callable[[], object], device: str) -> float:
    work()
    seconds = []
    for _ in range(ROUNDS):
        synchronize()
        start = time.perf_counter()
        work()
        synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _forward(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(grad, query, key, value))  # type: ignore[no-untyped-call]


_ATEN = torch.ops.aten
_ON_CPU = {  # torch counts the kernels of GPUs only
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _forward,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
}
