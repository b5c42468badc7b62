"""Peak memory."""

import sys
from pathlib import Path

import pytest
import torch

from promptgraft.study import memory
from promptgraft.study.memory import peak_memory, reset_peak_memory

MIB = 1 << 20


def use(mebibytes: int) -> None:
    bytearray(mebibytes * MIB)[::4096] = b"\1" * (mebibytes * 256)  # every page is touched, then given back


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is that of the whole process")
def test_the_peak_is_that_since_the_reset() -> None:
    reset_peak_memory("cpu")
    low = peak_memory("cpu")
    use(200)
    high = peak_memory("cpu")
    reset_peak_memory("cpu")
    after = peak_memory("cpu")
    assert low is not None
    assert high is not None
    assert after is not None
    assert 190 * MIB < high - low < 300 * MIB
    assert high - after > 150 * MIB
    assert after > 10 * MIB  # bytes, not kilobytes


def test_elsewhere_the_peak_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "none" / "either")
    reset_peak_memory("cpu")
    peak = peak_memory("cpu")
    assert peak is not None
    assert 10 * MIB < peak < 100_000 * MIB


def test_on_a_gpu_it_is_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    reset: list[str] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7 * MIB)
    reset_peak_memory("cuda:0")
    assert peak_memory("cuda:0") == 7 * MIB
    assert reset == ["cuda:0"]
