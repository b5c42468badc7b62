"""What a user waits for before anything happens: the command and the import, against importing torch."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

from promptgraft.bench.base import Row, Size, compare

RUNS = {
    "import": ("import promptgraft", "import promptgraft"),
    "help": ("promptgraft --help", "from promptgraft.cli import main; main(['--help'])"),
}


def start_up(size: Size) -> list[Row]:
    """Whole processes: `import promptgraft` and `promptgraft --help`, which load torch only when it is needed."""
    rounds = 5 if size != "smoke" else 1

    def row(name: str, said: str, code: str) -> Row:
        timed = compare(
            f"start-up-{name}",
            "import torch",
            _process(code),
            _process("import torch"),
            error=0.0,
            rounds=rounds,
            operations=0,
            note=f"{said}, a whole process; nothing is compared but time",
            exact=False,
        )
        return replace(timed, memory=None, baseline_memory=None)

    return [row(name, *run) for name, run in RUNS.items()]


def _process(code: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
