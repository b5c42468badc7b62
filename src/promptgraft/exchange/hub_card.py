"""The README.md of a hub repository: front matter that people filter by, results, lineage, how to get the prompts.

Names in a card may be a stranger's. In the front matter they pass through a YAML writer, or are cut down to the
letters of a tag; in the text they pass through `escape`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from promptgraft.card import BackboneInfo, PromptCard
from promptgraft.exchange.cards import UNKNOWN
from promptgraft.readme import escape, printable, prompt_readme

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from promptgraft.prompt import SoftPrompt

_LICENCES = frozenset(
    re.findall(
        r"\S+",
        """
        apache-2.0 mit isc zlib ncsa unlicense wtfpl postgresql bsl-1.0 afl-3.0 ecl-2.0 artistic-2.0 bsd-2-clause
        bsd-3-clause bsd-3-clause-clear ms-pl mpl-2.0 epl-1.0 epl-2.0 eupl-1.1 eupl-1.2 osl-3.0 ofl-1.1 gpl-2.0 gpl-3.0
        agpl-3.0 lgpl-2.1 lgpl-3.0 cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0
        cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
        cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 odc-by pddl
        etalab-2.0 openrail unknown
        """,
    )
)
"""Of what a hub accepts as `license` those that fit prompts; any other is "other", with its name."""

_SPLITS = ("val", "test")
"""Scores that are the prompt's own; a card also has those of its rivals."""


def hub_card(prompts: "Mapping[str, SoftPrompt]", repo: str, datasets: Sequence[str] = ()) -> str:
    """The model card of a repository.

    Args:
        prompts: by folder in the repository; "" is its root.
        repo: its name, owner/name.
        datasets: what the prompts were tuned on, as the hub calls it.
    """
    body = prompt_readme(prompts[""].card, prompts[""].id) if "" in prompts else _contents(prompts, repo)
    return "\n".join(["---", _front_matter(prompts, datasets), "---", "", body, *_how_to_get(prompts, repo), ""])


def _front_matter(prompts: "Mapping[str, SoftPrompt]", datasets: Sequence[str]) -> str:
    from huggingface_hub import ModelCardData
    from huggingface_hub.repocard_data import eval_results_to_model_index

    cards = [prompt.card for prompt in prompts.values()]
    bases = _distinct(_hub_model(card.backbone) for card in cards)
    licences = _distinct(_licence(card.licence) for card in cards)
    pipelines = _distinct(map(_pipeline, cards))
    licence = licences[0] if len(licences) == 1 else "other"
    data = ModelCardData(
        library_name="promptgraft",
        base_model=bases[0] if len(bases) == 1 else bases or None,
        datasets=list(datasets) or None,
        license=licence,
        license_name="-and-".join(_distinct(_tag(card.licence) for card in cards)) if licence == "other" else None,
        pipeline_tag=pipelines[0] if len(pipelines) == 1 else None,
        tags=_distinct(tag for card in cards for tag in _tags(card)),
    )
    if bases:
        data["base_model_relation"] = "adapter"
    index = [
        entry
        for folder, prompt in prompts.items()
        if (results := _results(prompt.card))
        for entry in eval_results_to_model_index(printable(folder or prompt.card.name), results)
    ]
    if index:
        data["model-index"] = index
    return str(data.to_yaml())


def _tags(card: PromptCard) -> list[str]:
    said, backbone = card.prompt, card.backbone
    tags = ["prompt-tuning", "soft-prompt", "shallow-prompt" if said.layers == 1 else "deep-prompt"]
    tags += [card.task.modality, f"width-{said.dim}", f"method-{card.method}", backbone.family]
    if backbone.source in ("packs", "hf", "timm"):
        tags.append(backbone.name)
    if backbone.weights_sha256 != UNKNOWN:
        tags.append(f"weights-{backbone.weights_sha256[:12]}")  # whose backbone has these can take it as it is
    return [_tag(tag) for tag in tags if tag != UNKNOWN]


def _results(card: PromptCard) -> "list[EvalResult]":
    from huggingface_hub import EvalResult

    scores = {} if card.training is None else card.training.scores
    return [
        EvalResult(
            task_type=_pipeline(card),
            dataset_type=_tag(card.task.name),
            dataset_name=printable(card.task.name),
            dataset_split=split,
            metric_type=_tag(card.task.metric),
            metric_value=scores[split].value,
            metric_args={"interval": [scores[split].low, scores[split].high], "level": 0.95, "n": scores[split].n},
        )
        for split in _SPLITS
        if split in scores
    ]


def _pipeline(card: PromptCard) -> str:
    if card.prompt.pool == "answer":
        return "fill-mask"
    return "image-classification" if card.task.modality == "vision" else "text-classification"


def _hub_model(backbone: BackboneInfo) -> str | None:
    """What the hub calls a backbone, where it has it."""
    name = backbone.name if backbone.source == "timm" else backbone.name.removeprefix("hf/")
    known = backbone.source == "hf" or (backbone.source == "timm" and "." in name)  # its weights have a tag
    return name if known and re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name, re.ASCII) else None


def _licence(said: str) -> str:
    known = said.lower().removesuffix("-or-later").removesuffix("-only")
    if known in ("unspecified", "unstated"):
        return "unknown"
    return known if known in _LICENCES else "other"


def _tag(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower())[:60].strip("-.") or UNKNOWN


def _distinct(values: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value is not None))


def _contents(prompts: "Mapping[str, SoftPrompt]", repo: str) -> str:
    """What lies in which folder; a parent in the same repository by its folder, another by its id."""
    folders = {prompt.id: folder for folder, prompt in prompts.items()}
    rows = [
        ("folder", "task", "backbone", "weights sha256", "shape", "accuracy", "method", "parents", "licence", "id")
    ]
    for folder, prompt in sorted(prompts.items()):
        card, said = prompt.card, prompt.card.prompt
        scores = {} if card.training is None else card.training.scores
        reached = [
            f"{scores[split].value:.3f} ({split}, {scores[split].low:.3f} to {scores[split].high:.3f})"
            for split in _SPLITS
            if split in scores
        ]
        rows.append(
            (
                folder,
                card.task.name,
                card.backbone.name,
                card.backbone.weights_sha256[:12],
                f"{said.layers} x {said.length} x {said.dim}",
                ", ".join(reached) or "not recorded",
                card.method,
                ", ".join(folders.get(parent, parent[:12]) for parent in card.parents) or "none",
                card.licence,
                prompt.id[:12],
            )
        )
    lines = ["| " + " | ".join(map(escape, row)) + " |" for row in rows]
    return "\n".join(
        [
            f"# {escape(repo)}",
            "",
            f"{len(prompts)} soft prompts, each in a folder with a README.md of its own. Intervals are of 95 %.",
            "",
            lines[0],
            "|---" * len(rows[0]) + "|",
            *lines[1:],
            "",
        ]
    )


def _how_to_get(prompts: "Mapping[str, SoftPrompt]", repo: str) -> list[str]:
    folder = min(prompts)
    option, argument = (f" --subfolder {folder}", f', subfolder="{folder}"') if folder else ("", "")
    return [
        "## Get it from the hub",
        "",
        "```bash",
        f"promptgraft library pull {repo}{option}",
        "```",
        "",
        "```python",
        "from promptgraft.exchange.hub import pull",
        "from promptgraft.library import user_library",
        "",
        "library = user_library()",
        f'[name] = pull("{repo}", library{argument})',
        "prompt = library[name]",
        "```",
        "",
        ("Without the folder, all come. " if folder else "") + f"`{repo}@COMMIT` takes that commit and no later one.",
    ]
