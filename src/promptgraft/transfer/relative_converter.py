"""Convert a prompt by its relations to shared words (zero-shot continuous prompt transfer)."""

from promptgraft.transfer.converter import PAPER, Converted, Converter, Passage
from promptgraft.transfer.relative import TOP_K, normalised, relative_match


def _convert(
    passage: Passage, *, top_k: int = TOP_K, absolute: bool = False, ridge: float = 0.0, normalise: bool = True
) -> Converted:
    """The options are those of `relative_search`; eq. 6 takes its moments from all the target's word embeddings."""
    *sources, target = passage.anchors.embeddings
    match = relative_match(passage.prompts, sources, target, top_k=top_k, absolute=absolute, ridge=ridge)
    rows = normalised(match.rows, passage.target_embeddings) if normalise else match.rows
    diagnostics = {
        "matching_cosine": {"mean": match.cosines.mean().item(), "lowest": match.cosines.min().item()},
        "explained": {"mean": match.explained.mean().item(), "lowest": match.explained.min().item()},
        "anchors": len(passage.anchors),
        "neighbour_agreement": passage.anchors.agreement(),
    }
    return Converted(rows, diagnostics)


RELATIVE = Converter(
    name="relative",
    summary="the rows whose cosines to shared words are most like the source's, in closed form",
    paper=PAPER,
    run=_convert,
    several=True,
)
