"""Small pictures that live inside a page."""

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def thumbnail(image: "Image", side: int = 144) -> str:
    """Return a picture as a `data:image/jpeg;base64,...` address, its longer side at most `side` pixels."""
    small = image.convert("RGB")
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
