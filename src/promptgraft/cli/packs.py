"""`promptgraft packs`: list, fetch and check the pinned archives."""

import textwrap
from dataclasses import asdict
from typing import Annotated

import typer

from promptgraft.cli.arguments import say_json
from promptgraft.errors import InputError, PackError

app = typer.Typer(no_args_is_help=True, help="Pretrained models and labelled data as pinned registry archives.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("ls")
def ls(as_json: JsonOption = False) -> None:
    """List all packs, which of them are in the cache, and the tasks that are built on them.

    Example: promptgraft packs ls
    """
    from rich.console import Console
    from rich.table import Table

    from promptgraft.packs.fetch import archive_path
    from promptgraft.packs.manifest import load_manifest
    from promptgraft.tasks.packed import BUILTIN

    packs = load_manifest()
    cached = {name: all(archive_path(a).is_file() for a in pack.archives) for name, pack in packs.items()}
    if as_json:
        rows = [{**asdict(pack), "bytes": pack.bytes, "cached": cached[name]} for name, pack in packs.items()]
        say_json(rows, indent=2)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("pack", "kind"):
        table.add_column(column, no_wrap=True)
    table.add_column("MB", justify="right", no_wrap=True)
    for column in ("licence", "cached", "what it is"):
        table.add_column(column, no_wrap=True)
    for name, pack in packs.items():
        size = f"{pack.bytes / 1e6:.1f}"
        here = "yes" if cached[name] else "-"
        table.add_row(name, pack.kind, size, pack.licence, here, pack.about)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 100
    console.print(table)
    tasks = textwrap.fill(", ".join(f"builtin/{name}" for name in BUILTIN), 100, break_on_hyphens=False)
    typer.echo(f"\nbuilt-in tasks, fetched when first used:\n{tasks}\n")
    typer.echo("next: promptgraft packs fetch NAME")


@app.command("fetch")
def fetch(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Packs to fetch.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All packs but the optional, large ones.")] = False,
) -> None:
    """Fetch packs into the cache, verified by sha256.

    Example: promptgraft packs fetch dinov2-small mnist-5k
    """
    from promptgraft.packs.fetch import fetch as fetch_pack
    from promptgraft.packs.manifest import find_pack, load_manifest

    if bool(names) == everything:
        raise InputError("name the packs to fetch, or say --all. `promptgraft packs ls` lists them.")
    packs = [find_pack(name) for name in names or []] or [p for p in load_manifest().values() if not p.optional]
    for pack in packs:
        for archive in fetch_pack(pack.name):
            typer.echo(f"{pack.name}: {archive}")
    if models := [pack.name for pack in packs if pack.kind == "model"]:
        typer.echo(f"next: promptgraft adapt DATA --backbone packs/{models[0]} --out DIR")


@app.command("verify")
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Default: all that are cached.")] = None,
) -> None:
    """Compare cached archives with their pinned sha256; fails where a named pack is missing or any is altered.

    Example: promptgraft packs verify
    """
    from promptgraft.packs.fetch import verify as verify_pack
    from promptgraft.packs.manifest import load_manifest

    bad = []
    for name in names or load_manifest():
        states = verify_pack(name)
        for path, state in states.items():
            if names or state != "missing":
                typer.echo(f"{state:<8} {name}: {path}")
        if "altered" in states.values() or (names and "missing" in states.values()):
            bad.append(name)
    if bad:
        raise PackError(f"not as pinned: {', '.join(bad)}. `promptgraft packs fetch {' '.join(bad)}` gets them again.")


@app.command("path")
def path(name: Annotated[str, typer.Argument(metavar="NAME", help="A pack.")]) -> None:
    """Print where a pack's archives lie in the cache, one a line; never fetches.

    Example: promptgraft packs path mnist-5k
    """
    from promptgraft.packs.fetch import verify as verify_pack

    states = verify_pack(name)
    if set(states.values()) != {"ok"}:
        raise PackError(f"pack {name!r} is not in the cache. `promptgraft packs fetch {name}` gets it.")
    for archive in states:
        typer.echo(str(archive))
