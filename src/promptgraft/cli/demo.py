"""`promptgraft demo`: `adapt` on a real task that no starter prompt was tuned on."""

from pathlib import Path
from typing import Annotated

import typer

DATA, SIZE = "builtin/mnist-5k", 70


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The output folder; new, or empty.")] = Path(
        "demo-report"
    ),
    budget: Annotated[str, typer.Option(help="Time for the whole run.")] = "3m",
) -> None:
    """Adapt a vision transformer to 200 handwritten digits, with the starter library's prompts among the candidates.

    Example: promptgraft demo --out demo-report
    """
    from promptgraft.cli.adapt import adapt

    adapt(DATA, out, budget=budget, image_size=SIZE, n_train=200, n_val=100, n_test=400)
    typer.echo(f"report        {(out / 'report.html').resolve()}")
