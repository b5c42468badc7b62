"""What the machine could do, and what a run needs."""

import pytest
import torch
import torch.nn.functional as F

from promptgraft.bench import base, limits
from promptgraft.bench.base import compare


def test_operations_of_products_and_attention_forward_and_back():
    B, H, T, K, D = 2, 3, 5, 4, 8
    query = torch.randn(B, H, T, K, requires_grad=True)
    weight = torch.randn(K, D)

    def work():
        (F.scaled_dot_product_attention(query, query, query) @ weight).sum().backward()

    product, attention = 2 * B * H * T * K * D, 2 * 2 * B * H * T * T * K
    assert limits.operations(work) == 2 * product + 3.5 * attention  # back: one product, and five of attention for two


def test_the_floor_is_the_slower_one_of_computing_and_reading(monkeypatch):
    monkeypatch.setattr(limits, "matrix_rate", lambda device, dtype: 1e6 if dtype == torch.float32 else 2e6)
    monkeypatch.setattr(limits, "bandwidth", lambda device: 1e3)

    def floor(**needs):
        return compare("x", "y", lambda: None, lambda: None, error=0.0, rounds=1, **needs).floor

    assert floor(operations=2_000_000) == pytest.approx(2)
    assert floor(operations=2_000_000, dtype=torch.bfloat16) == pytest.approx(1)
    assert floor(operations=2_000_000, bytes_read=5000) == pytest.approx(5)
    assert floor(operations=0) is None


def test_rates_are_positive_and_measured_once(monkeypatch):
    monkeypatch.setattr(limits, "SIDE", 32)
    monkeypatch.setattr(limits, "COPIED", 1024)
    limits.matrix_rate.cache_clear()
    limits.bandwidth.cache_clear()
    try:
        assert limits.matrix_rate("cpu", torch.float32) > 0
        assert limits.bandwidth("cpu") > 0
        assert limits.bandwidth("cpu") == limits.bandwidth("cpu")
    finally:
        limits.matrix_rate.cache_clear()
        limits.bandwidth.cache_clear()


def test_memory_is_that_beyond_what_was_held(monkeypatch):
    held = bytearray(64 << 20)
    held[::4096] = b"\1" * (64 * 256)

    def use():
        more = bytearray(96 << 20)
        more[::4096] = b"\1" * (96 * 256)

    used = base._run(use, "cpu").memory
    if used is None:
        pytest.skip("this system does not tell")
    assert 90 << 20 < used < 150 << 20
