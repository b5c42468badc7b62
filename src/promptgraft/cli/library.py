"""`promptgraft library`: list, show, add, import, export, push, pull, remove and verify prompts."""

import shlex
from collections.abc import Iterable
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promptgraft.cli.arguments import say_json
from promptgraft.errors import InputError
from promptgraft.readme import printable

if TYPE_CHECKING:
    from promptgraft.library import PromptLibrary
    from promptgraft.prompt import SoftPrompt

app = typer.Typer(
    no_args_is_help=True,
    help="List, show, add, share, remove and verify prompts. Your own library is the folder PROMPTGRAFT_LIBRARY, else "
    "~/.local/share/promptgraft/library.",
)

Library = Annotated[
    str | None, typer.Option("--library", metavar="DIR", help="A folder, 'user' or 'starter'.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def ls(
    modality: Annotated[str | None, typer.Option(help="Only prompts of 'vision' or 'text' tasks.")] = None,
    dim: Annotated[int | None, typer.Option(help="Only prompts of this width.")] = None,
    library: Library = None,
    as_json: Json = False,
) -> None:
    """List prompts: your own and the starter library, or those of --library.

    Example: promptgraft library ls --modality text --dim 384
    """
    from dataclasses import asdict

    rows = [(place, entry) for place in _libraries(library) for entry in place.find(modality=modality, dim=dim)]
    if as_json:
        say_json([asdict(entry) | {"library": str(place.folder)} for place, entry in rows], indent=2)
        return
    if not rows:
        raise InputError("no prompt fits. `promptgraft library ls` lists all, `promptgraft library add` adds one.")
    _table(
        ("name", "task", "backbone", "shape", "score", "head alone", "id"),
        [
            (e.name, e.task, e.backbone, f"{e.layers}x{e.length}x{e.dim}", _number(e.score), _number(e.head), e.id[:8])
            for _, e in rows
        ],
    )
    count = "1 prompt" if len(rows) == 1 else f"{len(rows)} prompts"
    typer.echo(f"{count}     next: promptgraft library show {rows[0][1].name}{_again(library)}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A name, an id (or its first 8 digits), or a prompt folder.")],
    library: Library = None,
    as_json: Json = False,
) -> None:
    """Show a prompt: what made it, what it reached, the mean norm of its rows in each layer, where it comes from.

    Example: promptgraft library show text/newsgroups
    """
    from promptgraft.exchange.hub import read_pulled
    from promptgraft.library import find_folder
    from promptgraft.prompt import SoftPrompt

    folder = find_folder(name, library)
    prompt, origin = SoftPrompt.load(folder), read_pulled(folder)
    card = prompt.card
    holders = (place.folder for place in _libraries(library) if folder.is_relative_to(place.folder))
    stored = next((folder.relative_to(holder).as_posix() for holder in holders), card.name)
    norms = prompt.tensor.norm(dim=-1).mean(dim=-1).tolist()
    if as_json:
        content = card.model_dump(mode="json") | {"id": prompt.id, "stored_as": stored, "norms": norms}
        content |= {} if origin is None else {"pulled": origin.model_dump()}
        say_json(content, indent=2)
        return
    said, task, training = card.prompt, card.task, card.training
    facts: list[tuple[str, Any]] = [
        ("name", stored),
        *([("name in its card", card.name)] if stored != card.name else []),
        ("id", prompt.id),
        ("task", f"{task.name} ({task.modality}, {len(task.classes)} classes, {task.n_train} training examples)"),
        ("backbone", f"{card.backbone.name} (weights {card.backbone.weights_sha256[:12]})"),
        ("prompt", f"{said.layers} x {said.length} x {said.dim}, {said.position}, pooled by {said.pool}"),
        ("started by", said.init),
        ("dead rows", ", ".join(map(str, said.dead_rows)) or "none"),
        ("head", "none" if prompt.head is None else " x ".join(map(str, prompt.head.weight.shape))),
        ("method", card.method),
    ]
    if training is not None:
        facts.append(("training", f"{training.epochs} epochs, seed {training.seed}, {training.seconds:.0f} s"))
        facts += [
            (f"{task.metric} ({split})", f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f}, n = {score.n})")
            for split, score in sorted(training.scores.items())
        ]
    facts.append(("row norms", " ".join(f"{norm:.3g}" for norm in norms) + "  (mean of each layer)"))
    facts += [("parent", _parent(parent, library)) for parent in card.parents]
    if origin is not None:
        facts.append(("pulled from", f"{origin.repo} {origin.folder} at {origin.commit} ({origin.hub})"))
    facts.append(("licence", card.licence))
    _table(None, facts)


@app.command()
def add(
    folder: Annotated[Path, typer.Argument(help="A prompt folder, or an adapted model that holds one.")],
    name: Annotated[str | None, typer.Option(help="Its name in the library; the card's name by default.")] = None,
    library: Library = None,
) -> None:
    """Put a prompt into your library, or into --library.

    The card keeps its name, and with it the id, which other prompts and measured transfers name it by.

    Example: promptgraft library add birds --name vision/birds
    """
    place, prompt = writeable(library), _load(folder)
    stored = place.add(prompt, name)
    typer.echo(f"wrote {place.folder / stored}     next: promptgraft library show {stored}{_again(library)}")


@app.command("import")
def import_prompts(
    files: Annotated[
        list[Path], typer.Argument(help="Files or folders of another project, such as roberta-base/*.pt.")
    ],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="Whose: 'thunlp', <model>/<task>.pt of thunlp/Prompt-Transferability; 'peft' or 'adapterhub', a "
            "folder; 'array', a .npy, .pt or .safetensors file.",
        ),
    ] = "thunlp",
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="What the prompts were trained with: packs/, hf/ or dir:.", show_default=False
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="NAME", help="What for.", show_default=False)] = None,
    task_id: Annotated[
        int | None, typer.Option(help="Which task's, of a PEFT folder of several.", show_default=False)
    ] = None,
    library: Library = None,
) -> None:
    """Put prompts that other projects publish into your library, or into --library: all of them, or none.

    Example: promptgraft library import roberta-base/*.pt --library prompts
    """
    from promptgraft.exchange import IMPORTERS
    from promptgraft.progress import progress_bar

    read, place = IMPORTERS[format_], writeable(library)
    given = {"backbone": backbone, "task": task, "task_id": task_id}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if useless := [name for name in options if name not in signature(read).parameters]:
        option = useless[0].replace("_", "-")
        raise InputError(f"--{option} does not apply to format {format_!r}, which says it itself. Leave it out.")
    if backbone is not None:
        from promptgraft.backbones.load import load_backbone

        options["backbone"] = load_backbone(backbone)
    with progress_bar("reading", len(files), "prompt") as bar:
        prompts = []
        for file in files:
            prompts.append(read(file, **options))
            bar.advance()
    held = {entry.id for entry in place.find()}
    new = [prompt for prompt in prompts if prompt.id not in held]
    for prompt in new:
        place.add(prompt)
    dead = sum(bool(prompt.card.prompt.dead_rows) for prompt in prompts)
    flagged = f", {dead} with rows that their model never read (see the cards)" if dead else ""
    typer.echo(
        f"read {len(prompts)} prompts, {len(new)} of them new{flagged}     "
        f"next: promptgraft library ls{_again(library)}"
    )


@app.command("export")
def export_prompt(
    name: Annotated[str, typer.Argument(help="A name, an id (or its first 8 digits), or a prompt folder.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write; new, or empty.")],
    format_: Annotated[
        str, typer.Option("--format", help="Whose: 'peft', what PeftModel.from_pretrained loads.")
    ] = "peft",
    library: Library = None,
) -> None:
    """Write a prompt in another project's format, where it computes the same there; else say why not.

    Example: promptgraft library export text/newsgroups --out newsgroups
    """
    from promptgraft.exchange import EXPORTERS
    from promptgraft.files import check_output_folder
    from promptgraft.library import find_prompt

    write = EXPORTERS[format_]
    check_output_folder(out)
    write(find_prompt(name, library), out)
    typer.echo(f"wrote {shlex.quote(str(out))}     next: read {shlex.quote(str(out / 'README.md'))}")


@app.command()
def push(
    repo: Annotated[
        str, typer.Option("--repo", metavar="OWNER/NAME", help="The repository; made where there is none.")
    ],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="One prompt goes to the root; several, or without a name all of the library, to a folder each.",
        ),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository that others cannot see.")] = False,
    dataset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What the hub calls the data; repeat it for several.", show_default=False),
    ] = None,
    library: Library = None,
) -> None:
    """Share prompts through a model hub, in one commit, with a model card that people can filter by.

    Example: promptgraft library push vision/birds --repo owner/birds-prompt
    """
    from promptgraft.exchange.hub import push as push_prompts
    from promptgraft.library import find_prompt, open_library

    if names and len(names) == 1:
        pushed = push_prompts(find_prompt(names[0], library), repo, private=private, datasets=dataset or ())
    else:
        place = open_library(library or "user")
        chosen = [place.resolve(name) for name in names or place.names()]
        prompts = {name: place[name] for name in chosen}
        pushed = push_prompts(prompts, repo, private=private, datasets=dataset or ())
    typer.echo(f"pushed to {pushed.url}     next: promptgraft library pull {repo}@{pushed.commit}")


@app.command()
def pull(
    source: Annotated[
        str,
        typer.Argument(metavar="OWNER/NAME[@REVISION]", help="A repository; of it a branch, a tag or a commit."),
    ],
    subfolder: Annotated[
        str | None, typer.Option(metavar="DIR", help="Only the prompt in there; '.' is the root.", show_default=False)
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Its name in the library; its folder's or card's by default.", show_default=False),
    ] = None,
    library: Library = None,
) -> None:
    """Put the prompts of a hub's repository into your library, or into --library: all of them, or none.

    Example: promptgraft library pull owner/birds-prompt --name vision/birds
    """
    from promptgraft.exchange.hub import pull as pull_prompts

    place = writeable(library)
    origins = pull_prompts(source, place, subfolder=subfolder, name=name)
    first, origin = next(iter(origins.items()))
    count = f"{place.folder / first}" if len(origins) == 1 else f"{len(origins)} prompts to {place.folder}"
    typer.echo(
        f"wrote {count} from {origin.repo}@{origin.commit}     next: promptgraft library show {first}{_again(library)}"
    )


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="The prompt's name.")],
    library: Library = None,
) -> None:
    """Remove a prompt from your library, or from --library.

    Example: promptgraft library remove vision/birds
    """
    place = writeable(library)
    place.remove(name)
    typer.echo(f"removed {place.folder / name}     next: promptgraft library ls{_again(library)}")


@app.command()
def manifest(library: Library = None) -> None:
    """Write SHA256SUMS, which lists every file of your library, or of --library; to be signed if you like.

    Example: promptgraft library manifest --library prompts
    """
    from promptgraft.exchange.sums import NAMESPACE, SUMS_FILE, write_sums

    place = writeable(library)
    count, path = write_sums(place), place.folder / SUMS_FILE
    typer.echo(
        f"listed {count} files in {path}     next: ssh-keygen -Y sign -n {NAMESPACE} -f KEY {shlex.quote(str(path))}"
    )


@app.command()
def verify(
    signers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Who may sign SHA256SUMS, as ssh-keygen reads it.", show_default=False),
    ] = None,
    library: Library = None,
) -> None:
    """Check every prompt, its parents, its backbone's weights and SHA256SUMS; exits with 1 if one is damaged.

    Example: promptgraft library verify --library prompts
    """
    from promptgraft.doctor.lineage import check_lineage

    if signers is not None and library is None:
        raise InputError("--signers is for one library. Name it: --library DIR.")
    found = check_lineage(_libraries(library), signers)
    if found.wrong:
        _table(("damaged", "why"), found.wrong)
    if found.absent:
        _table(("prompt", "parent that is in no library here"), found.absent)
    if found.weights or found.unseen:
        others = f", not here to check: {', '.join(found.unseen)}" if found.unseen else ""
        typer.echo(printable(f"weights as the cards say: {', '.join(found.weights) or 'none'}{others}"))
    if found.listed:
        typer.echo(f"{found.listed} files are as SHA256SUMS lists them")
    for who in found.signed:
        typer.echo(printable(f"SHA256SUMS is signed by {who}"))
    for path in found.unchecked:
        typer.echo(
            f"{path} is not checked     next: promptgraft library verify --signers FILE --library {path.parent}"
        )
    typer.echo(f"{found.whole} prompts are whole, {len(found.wrong)} damaged")
    if found.wrong:
        raise typer.Exit(1)


@app.command()
def index(library: Library = None) -> None:
    """Sketch every prompt, so that `rank --shortlist` need not read them all; what is sketched already stays.

    `rank --shortlist` does it, too, for new prompts. This checks all that is there against its hashes besides.

    Example: promptgraft library index --library prompts
    """
    import time

    from promptgraft.transferability.sketch_index import index_of

    place = writeable(library)
    if place.read_only or not place.folder.is_dir():
        raise InputError(
            f"there is no library at {place.folder} that an index can be written to. Name another folder."
        )
    start = time.perf_counter()
    sketches, change = index_of(place, verify=True)
    seconds = time.perf_counter() - start
    typer.echo(
        f"indexed {len(sketches)} prompts ({change.added} new, {change.gone} dropped) in {seconds:.1f} s     "
        f"next: promptgraft rank DATA --library {shlex.quote(str(place.folder))} --shortlist 200"
    )


def _libraries(spec: str | None) -> "list[PromptLibrary]":
    from promptgraft.library import open_library, starter, user_library

    return [open_library(spec)] if spec is not None else [user_library(), starter()]


def writeable(spec: str | None) -> "PromptLibrary":
    """The library to write to: your own by default."""
    from promptgraft.library import PromptLibrary, starter, user_library

    if spec in (None, "user"):
        return user_library()
    return starter() if spec == "starter" else PromptLibrary(spec or "")


def _again(library: str | None) -> str:
    return "" if library is None else f" --library {shlex.quote(library)}"


def _load(folder: Path) -> "SoftPrompt":
    from promptgraft.prompt import SoftPrompt

    inner = folder / "prompt"  # where an adapted model keeps its prompt
    return SoftPrompt.load(inner if inner.is_dir() else folder)


def _parent(identity: str, library: str | None) -> str:
    for place in _libraries(library):
        if identity in place:
            return f"{place.resolve(identity)} ({identity[:12]})"
    return f"{identity[:12]} (not in a library here)"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(header: tuple[str, ...] | None, rows: Iterable[Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=header is not None, pad_edge=False, padding=(0, 2, 0, 0))
    for column, title in enumerate(header or ("", "")):
        table.add_column(title, no_wrap=header is not None and column == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = Console(highlight=False)
    console.width = console.width if console.is_terminal else max(100, console.measure(table).maximum)
    console.print(table)
