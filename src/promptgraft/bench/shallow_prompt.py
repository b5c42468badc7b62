"""A training step of a shallow prompt: only the last block is cut down to the row that is read."""

from promptgraft.bench.base import Row, Size
from promptgraft.bench.training_step import model_of, training_step


def shallow_prompt(size: Size) -> list[Row]:
    """P = 10 on 26, 65 and 197 tokens (smoke: P = 3 on 5 tokens)."""
    length, token_counts = (10, (26, 65, 197)) if size != "smoke" else (3, (5,))
    return [
        training_step(f"shallow-prompt-{tokens}", model_of(size), layers="shallow", length=length, tokens=tokens)
        for tokens in token_counts
    ]
