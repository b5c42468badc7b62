"""A library's lineage: every prompt against its hashes, its parents, the weights that it was tuned with, the list."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from promptgraft.backbones.packed import packed_shapes
from promptgraft.card import Pool, PromptCard
from promptgraft.errors import PromptFileError, PromptgraftError
from promptgraft.exchange.cards import UNKNOWN
from promptgraft.exchange.hub import read_pulled
from promptgraft.exchange.sums import SIGNATURE_FILE, SUMS_FILE, check_signature, check_sums
from promptgraft.library import PromptLibrary
from promptgraft.prompt import SoftPrompt


@dataclass(frozen=True)
class LineageCheck:
    """What holds and what does not.

    whole: how many prompts agree with their own hashes. wrong: what is damaged or altered, and why. absent: prompts
    and an id of a parent that none of the libraries has. weights: backbones whose weights are here and have the hash
    that the cards name; unseen: those whose weights are not here. listed: files as SHA256SUMS has them. signed: who
    signed it. unchecked: signatures that nobody was named for.
    """

    whole: int
    wrong: tuple[tuple[str, str], ...]
    absent: tuple[tuple[str, str], ...]
    weights: tuple[str, ...]
    unseen: tuple[str, ...]
    listed: int
    signed: tuple[str, ...]
    unchecked: tuple[Path, ...]


def check_lineage(libraries: Sequence[PromptLibrary], signers: Path | None = None) -> LineageCheck:
    """Check libraries together: a parent may lie in any of them. Nothing is fetched and nothing is written.

    Args:
        libraries: to check.
        signers: who may sign their lists; without it signatures are left unchecked.

    Raises:
        InputError: `signers` cannot be used.
    """
    wrong: list[tuple[str, str]] = []
    cards: dict[str, PromptCard] = {}
    parents: list[tuple[str, str]] = []
    listed, whole, signed, unchecked = 0, 0, [], []
    for library in libraries:
        wrong += library.damaged().items()
        for name in library.names():
            try:
                prompt = SoftPrompt.load(library.folder / name)
                read_pulled(library.folder / name)
            except PromptFileError as error:
                wrong.append((name, str(error)))
                continue
            whole += 1
            cards[prompt.id] = prompt.card
            parents += [(name, parent) for parent in prompt.card.parents]
        try:
            if sums := check_sums(library):
                listed += sums[0]
                wrong += sums[1].items()
            if signers is not None:
                signed.append(check_signature(library, signers))
            elif sums and (library.folder / SIGNATURE_FILE).exists():
                unchecked.append(library.folder / SIGNATURE_FILE)
        except PromptFileError as error:
            wrong.append((SUMS_FILE, str(error)))
    weights, unseen, altered = _weights(list(cards.values()))
    return LineageCheck(
        whole=whole,
        wrong=(*sorted(wrong), *altered),
        absent=tuple(dict.fromkeys((name, parent) for name, parent in parents if parent not in cards)),
        weights=tuple(weights),
        unseen=tuple(unseen),
        listed=listed,
        signed=tuple(signed),
        unchecked=tuple(unchecked),
    )


def _weights(cards: Sequence[PromptCard]) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Backbones by name: with the weights that the cards say; not here; other weights, or none that load, and why."""
    said: dict[tuple[str, Pool | None, str], set[str]] = {}
    unseen, altered = set(), []
    for card in cards:
        backbone, training = card.backbone, card.training
        if backbone.weights_sha256 == UNKNOWN or not _is_here(backbone.name):
            unseen.add(backbone.name)
            continue
        pool: Pool | None = "mask" if backbone.pool == "mask" else None  # with a language-modelling head
        dtype = "float64" if training is not None and training.dtype == "float64" else "float32"
        said.setdefault((backbone.name, pool, dtype), set()).add(backbone.weights_sha256)
    for (name, pool, dtype), hashes in said.items():
        from promptgraft.backbones.load import load_backbone

        try:
            found = load_backbone(name, pool=pool, dtype=dtype).info.weights_sha256
        except PromptgraftError as error:
            altered.append((name, str(error)))
            continue
        for other in sorted(hashes - {found}):
            reason = f"its weights here have sha256 {found[:12]}, cards say {other[:12]}. Get an unaltered copy."
            altered.append((name, reason))
    names = {name for name, _, _ in said} - {name for name, _ in altered}
    return sorted(names), sorted(unseen), altered


def _is_here(name: str) -> bool:
    """Whether a backbone loads without a network: a folder, or a pack that was loaded before."""
    if name.startswith("dir:"):
        return Path(name.removeprefix("dir:")).is_dir()
    return packed_shapes().get(name) is not None
