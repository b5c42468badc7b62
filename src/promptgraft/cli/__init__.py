"""The command line: one file per command, each with its heavy imports inside, so that `--help` answers at once."""

import atexit
import gc
import os
import sys
import traceback
import warnings
from typing import Annotated

import typer

from promptgraft.cli import (
    adapt,
    bench,
    convert,
    demo,
    doctor,
    export,
    facts,
    library,
    packs,
    predict,
    rank,
    study,
    transfer,
    tune,
)
from promptgraft.errors import DocumentError, PromptgraftError
from promptgraft.readme import printable
from promptgraft.version import __version__

RESUMABLE = {"adapt", "demo", "facts", "study", "transfer", "tune"}
"""Commands that go on from where they were stopped."""

app = typer.Typer(no_args_is_help=True, add_completion=False)
for command in (demo.demo, adapt.adapt, predict.predict, rank.rank, transfer.transfer, convert.convert, tune.tune):
    app.command()(command)
app.command()(export.export)
app.command()(facts.facts)
app.command()(bench.bench)
app.add_typer(doctor.app, name="doctor")
app.add_typer(library.app, name="library")
app.add_typer(packs.app, name="packs")
app.add_typer(study.app, name="study")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"promptgraft {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Graft prompts that were trained elsewhere onto your frozen model, and know beforehand which one will take."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done. 1: a check did not hold, or a fault of promptgraft itself. 2: an argument or a file is not usable as
    given; the message on standard error names the cure. 130: stopped from the keyboard.

    Args:
        arguments: what stands after `promptgraft`; None takes it from the process.
    """
    if arguments is None:
        arguments = sys.argv[1:]
        _collect_less()
    warned: set[str] = set()

    def warn(message: Warning | str) -> None:
        line = f"warning: {printable(message)}"
        if line not in warned:
            warned.add(line)
            _say(line)

    warnings.showwarning = lambda message, *place: warn(message)
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has gone, as in `promptgraft packs ls | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's own flush at its end
        return 1


def _collect_less() -> None:
    """Let Python look for unreachable cycles less often, and not at the end.

    The libraries below make a million objects while they are imported, none of them garbage, and with Python's own
    threshold (700 new ones up to 3.13) a third of a short command's time is spent on looking through them.
    """
    gc.set_threshold(10_000)
    atexit.register(gc.freeze)


def _run(arguments: list[str]) -> int:
    try:
        typer.main.get_command(app)(arguments, prog_name="promptgraft")
    except SystemExit as end:
        code = int(end.code or 0)
        if code == 130:
            resumes = bool(RESUMABLE.intersection(arguments[:1]))
            _say("stopped; run the same command to go on" if resumes else "stopped")
        return code
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get("PROMPTGRAFT_TRACEBACK", "0") not in ("", "0"):
            traceback.print_exc()
        if isinstance(error, PromptgraftError):
            lines = error.mistakes if isinstance(error, DocumentError) else (error,)
            _say("error: " + "\n".join(map(printable, lines)))
            return 2
        _say(
            f"error: promptgraft itself failed ({type(error).__name__}: {printable(error)}). Please report it, with "
            "the traceback that the same command prints under PROMPTGRAFT_TRACEBACK=1."
        )
        return 1
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)
