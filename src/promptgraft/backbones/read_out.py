"""Masked-language heads for packed encoders that come without theirs, trained here once on the frozen encoder.

A sentence encoder was pretrained as a masked language model and lost that head. What is shipped in `heads/` is a new
one: dense, GELU and layer norm, and a bias for each token; its decoder is the encoder's own word embedding. How each
was trained, and how well it fills in words, stands beside it (`heads/NAME.json`); `tools/train_read_outs.py` makes
them.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor

from promptgraft.backbones.transformer import weights_sha256
from promptgraft.errors import PackError

HEADS = files("promptgraft.backbones") / "heads"
SHAPES = {"dense.weight": 2, "dense.bias": 1, "norm.weight": 1, "norm.bias": 1, "decoder.bias": 1}
"""Tensors of a head, and their dimensions."""


def has_read_out(pack: str) -> bool:
    """Whether a head was trained for a pack."""
    return (HEADS / f"{pack}.json").is_file()


def packed_read_out(model: Any, pack: str) -> Any:
    """A packed BERT encoder with the head that was trained for it.

    Args:
        model: the encoder.
        pack: its name.

    Returns:
        `BertForMaskedLM` around that same encoder.

    Raises:
        PackError: the head's file was altered, or belongs to other weights than the encoder's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        card = json.loads((HEADS / f"{pack}.json").read_bytes())
        tensors = {name: value.float() for name, value in load((HEADS / f"{pack}.safetensors").read_bytes()).items()}
    except (OSError, ValueError, SafetensorError) as error:
        raise PackError(f"the head of {pack} cannot be read: {error}. Install promptgraft anew.") from error
    if card.get("weights_sha256") != weights_sha256(model) or card.get("head_sha256") != tensors_sha256(tensors):
        raise PackError(f"the head of {pack} belongs to other weights than this pack's. Install promptgraft anew.")
    return with_read_out(model, tensors)


def with_read_out(model: Any, head: Mapping[str, Tensor]) -> Any:
    """`BertForMaskedLM` around an encoder, with a head (`SHAPES`) whose decoder is the encoder's word embedding."""
    from transformers import BertForMaskedLM

    with torch.device("meta"):  # its own weights are all replaced
        masked: Any = BertForMaskedLM(model.config)
    words = model.get_input_embeddings().weight
    masked.bert = model
    prediction = masked.cls.predictions
    prediction.load_state_dict(
        {
            "transform.dense.weight": head["dense.weight"],
            "transform.dense.bias": head["dense.bias"],
            "transform.LayerNorm.weight": head["norm.weight"],
            "transform.LayerNorm.bias": head["norm.bias"],
            "decoder.weight": words,
            "decoder.bias": head["decoder.bias"],
            "bias": head["decoder.bias"],
        },
        assign=True,
    )
    return masked.eval().requires_grad_(False)


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """sha256 (hex) over names, shapes and values, as of a model's weights."""
    holder = torch.nn.Module()
    for name, value in tensors.items():
        holder.register_buffer(name.replace(".", "_"), value)
    return weights_sha256(holder)
