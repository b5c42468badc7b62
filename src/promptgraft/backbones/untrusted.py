"""Models of `transformers` that nobody vouches for: what their files ask for, before anything is made of it."""

import math
import os
from pathlib import Path
from typing import Any, BinaryIO

from promptgraft.errors import InputError
from promptgraft.files import open_file, path_text, read_json
from promptgraft.readme import printable

LIMIT = 1 << 26
"""Bytes of a file that is no weights, and of the header of one that is; tokenizers of 250,000 words take a quarter."""

DEEPEST = 1000
"""Blocks; the deepest models in use have some 130."""


def check_folder(folder: Path) -> int | None:
    """Look a folder over before `transformers` opens what is in it. Links may lead out of it: a hub's cache has such.

    Returns:
        how many numbers its safetensors files hold; None where there are none.

    Raises:
        InputError: a pipe or a device, a file that is too large or names weights elsewhere, a damaged header.
    """
    numbers: int | None = None
    for path in sorted([*folder.iterdir(), *(folder / "additional_chat_templates").glob("*")]):
        if not path.exists() or path.is_dir():  # a broken link is as good as no file
            continue
        try:
            with open_file(path) as stream:
                if path.suffix == ".safetensors":
                    numbers = (numbers or 0) + _count(stream)
                elif path.suffix in (".json", ".txt", ".model", ".jinja"):
                    if os.fstat(stream.fileno()).st_size > LIMIT:
                        raise ValueError(f"it is larger than the {LIMIT} bytes that it may have")
                    if path.name.endswith(".index.json"):
                        _check_index(read_json(stream.read()))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"cannot load backbone {path_text(folder)!r}: {printable(path_text(path.name))}: "
                f"{printable(reason)[:200]}. Get an unaltered copy of it."
            ) from error
    return numbers


def check_config(config: Any, location: str) -> Any:
    """A configuration as it may be used: of a plain float model of some depth, with attention that needs no kernel.

    `transformers` takes the name of a kernel out of a configuration, and would fetch and run it.

    Raises:
        InputError: it asks for quantized weights, or for no or too many blocks.
    """
    if getattr(config, "quantization_config", None) is not None:
        raise InputError(f"backbone {location!r} has quantized weights. Take the model before it was quantized.")
    depth = getattr(config, "num_hidden_layers", None)
    if not isinstance(depth, int) or not 1 <= depth <= DEEPEST:
        raise InputError(
            f"backbone {location!r} has {printable(depth)[:40]} blocks by its configuration; read are models of 1 to "
            f"{DEEPEST}."
        )
    config._attn_implementation = "eager"  # of which nothing is used: backbones/transformer.py attends
    return config


def check_size(loader: Any, config: Any, numbers: int, location: str) -> None:
    """Refuse a configuration of a model much larger than its weights, before memory is taken for what is missing.

    Args:
        loader: the class that will load it.
        config: of `check_config`.
        numbers: how many its weights hold.
        location: what an error calls it.

    Raises:
        InputError: it asks for more than twice as many; a pooler that was left out takes less.
    """
    import torch

    with torch.device("meta"):
        model = loader.from_config(config) if hasattr(loader, "from_config") else loader(config)
    asked = sum(part.numel() for part in (*model.parameters(), *model.buffers()))
    if asked > 2 * numbers:
        raise InputError(
            f"backbone {location!r} is a model of {asked} numbers by its configuration, and its weights hold "
            f"{numbers}. Get a whole copy of it."
        )


def _count(stream: BinaryIO) -> int:
    """How many numbers a safetensors file holds, by its header."""
    length = int.from_bytes(stream.read(8), "little")
    if length > LIMIT:
        raise ValueError(f"its header takes {length} bytes; {LIMIT} is the most")
    header = read_json(stream.read(length))
    numbers = 0
    for name, entry in header.items() if isinstance(header, dict) else ():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if name != "__metadata__" and isinstance(shape, list) and all(isinstance(size, int) for size in shape):
            numbers += math.prod(shape)  # of an entry of another form safetensors will say what is wrong
    return numbers


def _check_index(index: Any) -> None:
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in names.values()
    ):
        raise ValueError("it does not list files of this folder")
