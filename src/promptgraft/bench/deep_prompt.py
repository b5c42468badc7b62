"""A training step of a deep prompt: extra keys and values instead of rows."""

from promptgraft.bench.base import Row, Size
from promptgraft.bench.training_step import model_of, training_step


def deep_prompt(size: Size) -> list[Row]:
    """P = 100 on 26, 65 and 197 tokens: images of 5 x 5, 8 x 8 and 14 x 14 patches (smoke: P = 3 on 5 tokens)."""
    length, token_counts = (3, (5,)) if size == "smoke" else (100, (26, 65, 197))
    return [
        training_step(f"deep-prompt-{tokens}", model_of(size), layers="deep", length=length, tokens=tokens)
        for tokens in token_counts
    ]
