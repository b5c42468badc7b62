"""The README.md of a folder for PEFT: the prompt's own, and the lines that compute its features there."""

from typing import Any

from promptgraft.prompt import SoftPrompt
from promptgraft.readme import prompt_readme

_FEATURES = {
    "cls": "rows[:, 0]",
    "first": "hidden[:, 0]",
    "mean": '(rows * batch["attention_mask"][..., None]).sum(1) / batch["attention_mask"].sum(1, keepdim=True)',
    "last": 'rows[torch.arange(len(rows)), batch["attention_mask"].sum(1) - 1]',
}


def peft_readme(prompt: SoftPrompt, tokenizer: Any) -> str:
    """Markdown whose Python block computes with PEFT what promptgraft computes.

    Args:
        prompt: the prompt that was written.
        tokenizer: of its backbone; packs have theirs in the archive.
    """
    card = prompt.card
    source, _, rest = card.backbone.name.partition(":" if card.backbone.source == "dir" else "/")
    hub = source in ("hf", "dir")
    length = card.prompt.length if card.prompt.layers == 1 else 0
    lines = [
        "import torch",
        "from peft import PeftModel",
        "from safetensors.torch import load_file",
        *(["from transformers import AutoModel, AutoTokenizer"] if hub else ["import promptgraft as pg"]),
        "",
        'folder = "path/to/this/folder"',
        'texts = ["one text", "and another one"]',
        "",
    ]
    if hub:
        options = f", revision={card.backbone.revision!r}" if card.backbone.revision else ""
        lines += [
            f"base = AutoModel.from_pretrained({rest!r}{options})",
            f"tokenizer = AutoTokenizer.from_pretrained({rest!r}{options})",
        ]
        lines += ["tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token"]
    else:
        lines += [
            f"backbone = pg.load_backbone({card.backbone.name!r})",
            "base, tokenizer = backbone.model, backbone.tokenizer",
        ]
    longest = card.backbone.preprocessing.get("max_length", 128)
    lines += [
        "batch = tokenizer(",
        f'    texts, padding=True, padding_side="right", truncation=True, max_length={longest!r}, return_tensors="pt"',
        ")",
        'batch.pop("token_type_ids", None)  # PEFT drops them',
        "model = PeftModel.from_pretrained(base, folder).eval()",
        "with torch.no_grad():",
        "    hidden = model(**batch).last_hidden_state",
        f"rows = hidden[:, {length}:]  # of the words, less those of the prompt" if length else "rows = hidden",
        f"features = {_FEATURES[card.prompt.pool]}",
    ]
    if prompt.head is not None:
        lines += [
            'head = load_file(f"{folder}/prompt.safetensors")',
            'logits = features @ head["head.weight"].T + head["head.bias"]',
        ]
    return "\n".join([prompt_readme(card, prompt.id), "## Use it with PEFT", "", "```python", *lines, "```", ""])
