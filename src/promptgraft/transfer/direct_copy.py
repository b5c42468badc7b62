"""Take a prompt as it is to a model of its width: table 1 of zero-shot continuous prompt transfer."""

from promptgraft.errors import CompatibilityError
from promptgraft.transfer.converter import PAPER, Converted, Converter, Passage


def _convert(passage: Passage) -> Converted:
    rows, width = passage.prompts[0], passage.target.info.embed_dim
    if rows.shape[1] != width:
        raise CompatibilityError(
            f"the prompt is {rows.shape[1]} wide, backbone {passage.target.info.name} takes {width}: it cannot be "
            "copied. `--method relative` bridges widths."
        )
    return Converted(rows, {})


COPY = Converter(name="copy", summary="the source's rows as they are, between equal widths", paper=PAPER, run=_convert)
