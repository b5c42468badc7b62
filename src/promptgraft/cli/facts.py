"""`promptgraft facts`: what prompts make a language model tell, and what they tell another one."""

import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptgraft.cli.arguments import Device, Dtype, Json, say_json

if TYPE_CHECKING:
    from promptgraft.card import PromptCard


def facts(
    data: Annotated[
        str,
        typer.Argument(
            metavar="SET", help="facts/countries, facts/wordnet, or a folder in the layout of LAMA's T-REx."
        ),
    ],
    source: Annotated[
        list[str],
        typer.Option(
            "--source", metavar="MODEL", help="Where prompts are tuned: packs/NAME, hf/REPOSITORY, dir:FOLDER."
        ),
    ],
    target: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="MODEL", help="Where they are tested; the sources if none is named."),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Carry by 'relative' what all sources have in common, too.")
    ] = False,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Of 'relative', 'copy', 'discretization', 'neural-projector', which carry prompts, and 'random', "
            "'manual', 'majority', 'tuned', which are what to compare with; all by default.",
            show_default=False,
        ),
    ] = None,
    prompt_length: Annotated[int, typer.Option(help="Rows of a prompt.")] = 5,
    epochs: Annotated[int, typer.Option(help="Passes over the training facts.")] = 10,
    lr: Annotated[float, typer.Option(help="Learning rate of the prompts.")] = 3e-3,
    limit: Annotated[
        int | None, typer.Option(help="Facts of a relation in each split; all by default.", show_default=False)
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="Shared words that count for a row of 'relative'; 8192 by default.", show_default=False),
    ] = None,
    ridge: Annotated[
        float | None,
        typer.Option(help="For fewer shared words than dimensions, such as 0.1.", show_default=False),
    ] = None,
    normalise: Annotated[bool, typer.Option(help="Spread the values of 'relative' as the target's words are.")] = True,
    keep_spread: Annotated[
        bool,
        typer.Option(
            "--keep-spread", help="Spread them against the target's words as they were against the source's."
        ),
    ] = False,
    dev: Annotated[
        bool, typer.Option("--dev", help="Ask for the dev facts, to choose settings by, not the test's.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the division of a built-in set, and of the tuning.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A library for all prompts; new, or empty.", show_default=False),
    ] = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: Json = False,
) -> None:
    """Tune prompts to tell facts, carry them to other models without labels; a stopped run goes on.

    Example: promptgraft facts facts/countries --source packs/bert-tiny-mlm
    """
    from rich.console import Console

    from promptgraft.cli.run import command_line
    from promptgraft.errors import InputError
    from promptgraft.files import atomic_folder, cache_root, check_output_folder, content_key
    from promptgraft.library import PromptLibrary
    from promptgraft.probing.candidates import load_prober
    from promptgraft.probing.comparison import METHODS, Way, compare_facts
    from promptgraft.probing.tuning import FactRecipe
    from promptgraft.readme import printable
    from promptgraft.report.facts_table import facts_table
    from promptgraft.tasks.facts import load_facts

    if out is not None:
        check_output_folder(out)
    known = load_facts(data, seed=seed, limit=limit)
    loaded = {
        name: load_prober(name, device=device, dtype=dtype) for name in dict.fromkeys([*source, *(target or [])])
    }
    checkpoints = cache_root() / "runs" / f"facts-{content_key(command_line())}"
    given: dict[str, Any] = {"top_k": top_k, "ridge": ridge, "normalise": normalise, "keep_spread": keep_spread}
    options = {key: value for key, value in given.items() if value is not None}
    names = METHODS if methods is None else [name.strip() for name in methods.split(",")]
    ways: list[str | Way] = [Way("relative", options) if name == "relative" else name for name in names]
    sources = [loaded[name] for name in dict.fromkeys(source)]
    if together and len(sources) < 2:
        raise InputError("--together needs two sources or more, got one. Name another --source, or leave it out.")
    found = compare_facts(
        known,
        [*sources, sources] if together else sources,
        [loaded[name] for name in dict.fromkeys(target or source)],
        methods=ways,
        recipe=FactRecipe(prompt_length=prompt_length, epochs=epochs, lr=lr),
        split="dev" if dev else "test",
        seed=seed,
        checkpoints=checkpoints,
        command=command_line(),
    )
    if out is not None:
        with atomic_folder(out) as folder:
            library = PromptLibrary(folder)
            for prompt in found.prompts:
                library.add(prompt, _name(prompt.card))
    shutil.rmtree(checkpoints, ignore_errors=True)
    if as_json:
        document = {
            "facts": found.facts.name,
            "split": "dev" if dev else "test",
            "fingerprint": found.facts.fingerprint,
            "notes": list(found.facts.notes),
            "relations": len(found.facts.relations),
            "candidates": len(found.candidates.words),
            "rows": [row.flat() for row in found.rows],
        }
        say_json(document, indent=2)
        return
    typer.echo(printable(found.facts.describe()))
    typer.echo(f"{len(found.candidates.words)} words to choose from")
    Console().print(facts_table([row.flat() for row in found.rows]), soft_wrap=True)
    for note in dict.fromkeys(f"{row.method}: {row.note}" for row in found.rows if row.note):
        typer.echo(printable(note))
    if out is not None:
        following = f"promptgraft library ls --library {shlex.quote(str(out))}"
        typer.echo(f"wrote {len(found.prompts)} prompts to {out}     next: {following}")


def _name(card: "PromptCard") -> str:
    """Where a prompt stands in the library: its model, how it came there, and its relation."""
    way = "-from-".join([card.method, *card.prompt.init_args.get("sources", ())])
    parts = (card.backbone.name, way, card.task.name.removeprefix("facts/"))
    return "/".join(re.sub("[^A-Za-z0-9]+", "-", part)[-60:].strip("-") or "x" for part in parts)
