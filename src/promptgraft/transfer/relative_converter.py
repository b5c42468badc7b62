"""Convert a prompt by its relations to shared words (zero-shot continuous prompt transfer)."""

from statistics import fmean

import torch

from promptgraft.errors import InputError
from promptgraft.transfer.converter import PAPER, Converted, Converter, Passage
from promptgraft.transfer.relative import TOP_K, normalised, relative_match


def _convert(
    passage: Passage,
    *,
    top_k: int = TOP_K,
    absolute: bool = False,
    ridge: float = 0.0,
    normalise: bool = True,
    keep_spread: bool = False,
) -> Converted:
    """The options are those of `relative_search`; eq. 6 takes its moments from all the target's word embeddings
    (from all patches, where these are the anchors).

    Each of several parts has moments of its own. keep_spread: eq. 6 gives a prompt the spread of the target's words;
    with it, the prompt is as many times more spread than these as the source's was than the source's words (the mean
    over several sources). Relations tell directions only, so this is what eq. 6 loses.
    """
    if keep_spread and not normalise:
        raise InputError("keep_spread changes what normalising aims at. Leave one of `normalise=False` and it out.")
    *sources, target = passage.anchors.embeddings
    match = relative_match(passage.prompts, sources, target, top_k=top_k, absolute=absolute, ridge=ridge)
    rows = match.rows
    if normalise:
        spreads = _spreads(passage) if keep_spread else [1.0] * passage.parts
        parts = zip(rows.chunk(passage.parts), spreads, strict=True)
        rows = torch.cat([normalised(part, passage.embeddings[-1], spread) for part, spread in parts])
    diagnostics = {"anchors": len(passage.anchors), "neighbour_agreement": passage.anchors.agreement()}
    return Converted(rows, diagnostics, {"matching_cosine": match.cosines, "explained": match.explained})


def _spreads(passage: Passage) -> list[float]:
    """How many times more spread than its model's words each part of the source is; the mean over sources."""
    of_sources = [
        [float(part.std(correction=0) / words.std(correction=0)) for part in prompt.chunk(passage.parts)]
        for prompt, words in zip(passage.prompts, passage.embeddings[:-1], strict=True)
    ]
    return [fmean(of_part) for of_part in zip(*of_sources, strict=True)]


RELATIVE = Converter(
    name="relative",
    summary="the rows whose cosines to shared words are most like the source's, in closed form",
    paper=PAPER,
    run=_convert,
    several=True,
)
