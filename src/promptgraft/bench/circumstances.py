"""Where and when something was timed: what a reader of the figures must know."""

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path


def circumstances() -> dict[str, str]:
    """The date, the machine with what else kept it busy, and the versions, each as words."""
    import torch

    threads, cores = torch.get_num_threads(), os.cpu_count()
    machine = f"{_processor()}, {cores} cores, {threads} thread{'s' * (threads != 1)}"
    if torch.cuda.is_available():
        machine += f", {torch.cuda.get_device_name()}"
    if hasattr(os, "getloadavg"):
        machine += f", load {os.getloadavg()[0]:.1f}"
    versions = ", ".join(f"{name} {version(name)}" for name in ("promptgraft", "torch", "transformers"))
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine,
        "versions": f"{versions}, Python {platform.python_version()}",
    }


def _processor() -> str:
    """The processor's name, the architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
