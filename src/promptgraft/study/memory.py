"""How much memory a piece of work took at its peak."""

from contextlib import suppress
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak_memory(device: str) -> None:
    """Start measuring anew. On a CPU only Linux can; elsewhere the peak is that of the whole process so far."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        _CLEAR.write_text("5")


def peak_memory(device: str) -> int | None:
    """Bytes at the peak since `reset_peak_memory`: of the GPU's memory, or resident in the process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    peak = _status("VmHWM")
    return _peak_of_process() if peak is None else peak


def held_memory(device: str) -> int | None:
    """Bytes that are held now: of the GPU's memory, or resident in the process; None where that cannot be told."""
    if device.startswith("cuda"):
        return torch.cuda.memory_allocated(device)
    return _status("VmRSS")


def _status(field: str) -> int | None:
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        return None


def _peak_of_process() -> int | None:
    try:
        import resource
        import sys
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
