"""The README.md of a prompt folder: what the prompt is, what made it, what it reached, how to use it."""

import json
import re
from typing import TYPE_CHECKING, Any

from promptgraft.files import canonical_json

if TYPE_CHECKING:
    from promptgraft.card import PromptCard


def printable(text: Any) -> str:
    """`text` on one line, with "?" for each character that could steer a terminal or reorder the line."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(text).split()))


def prompt_readme(card: "PromptCard", identity: str, name: str | None = None) -> str:
    """Markdown for a person who meets the folder; every name is escaped.

    Args:
        card: of the prompt.
        identity: its id.
        name: what it is called here; the card's name by default.
    """
    prompt, backbone, task, training = card.prompt, card.backbone, card.task, card.training
    depth = "shallow" if prompt.layers == 1 else "deep"
    classes = ", ".join(task.classes[:20]) + (", ..." if len(task.classes) > 20 else "")
    facts = [
        (
            "Prompt",
            f"{depth}, {prompt.layers} x {prompt.length} x {prompt.dim}, {prompt.position}, pooled by {prompt.pool}",
        ),
        ("Backbone", f"{backbone.name} ({backbone.family}, revision {backbone.revision or 'none'})"),
        ("Weights sha256", backbone.weights_sha256),
        ("Task", f"{task.name} ({task.modality}, {len(task.classes)} classes, {task.n_train} training examples)"),
        ("Classes", classes or "not recorded"),
        ("Data fingerprint", task.fingerprint),
        ("Method", f"{card.method}, started by {prompt.init} {canonical_json(prompt.init_args)}"),
    ]
    if prompt.dead_rows:
        facts.append(("Dead rows", ", ".join(map(str, prompt.dead_rows))))
    if training is not None:
        facts += [
            (
                "Training",
                f"{training.epochs} epochs, seed {training.seed}, {training.seconds:.0f} s on {training.device}",
            ),
            ("Recipe", canonical_json(training.recipe)),
        ]
        facts += [
            (
                f"{task.metric} ({split})",
                f"{score.value:.3f} (95 % interval {score.low:.3f} to {score.high:.3f}, n = {score.n})",
            )
            for split, score in sorted(training.scores.items())
        ]
    if name not in (None, card.name):
        facts.insert(0, ("Name in the card", card.name))
    facts += [
        ("Parents", ", ".join(card.parents) or "none"),
        (
            "Versions",
            ", ".join(f"{name} {version}" for name, version in sorted(card.versions.items())) or "not recorded",
        ),
        ("Command", card.command or "not recorded"),
        ("Licence", card.licence),
        ("Id", identity),
    ]
    size = "" if backbone.image_size is None else f", image_size={backbone.image_size}"
    lines = [
        f"# {escape(name or card.name)}",
        "",
        f"A {depth} soft prompt for {escape(backbone.name)}, tuned for {escape(task.name)}.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {escape(name)} | {escape(value)} |" for name, value in facts),
        "",
        "## Use it",
        "",
        "```python",
        "import promptgraft as pg",
        "",
        f"backbone = pg.load_backbone({_literal(backbone.name)}{size})",
        'prompt = pg.SoftPrompt.load("path/to/this/folder")',
        'adapted = pg.transfer(prompt, backbone, pg.load_task("path/to/your/data"), method="initial")',
        "```",
        "",
    ]
    return "\n".join(lines)


def escape(text: Any) -> str:
    """`text` as plain Markdown text: nothing in it formats, links, ends a table cell or reaches the page as HTML."""
    escaped = re.sub(r"([\\`*_{}\[\]()#!|~$])", r"\\\1", printable(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _literal(text: str) -> str:
    return json.dumps(printable(text), ensure_ascii=False)
