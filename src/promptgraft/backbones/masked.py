"""The head that a masked language model was pretrained with, for prompts that are read by label words.

All that it does before it scores words is alike for every task, so it belongs to the frozen model and its features
(pool `mask`). What is left, the scores of a few words, is a linear head that need not be learned: so were the source
prompts of cross-modality prompt transfer tuned (Su et al. 2022, https://arxiv.org/abs/2111.06719).
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import gelu

from promptgraft.backbones.anatomy import Map
from promptgraft.errors import CompatibilityError, InputError

FAMILIES_WITH_HEAD = ("bert", "roberta", "xlm-roberta", "albert", "mpnet")


def masked_head(model: Any, name: str) -> tuple[Map, nn.Linear]:
    """The head's transform, (B, n, dim) -> (B, n, F), and its decoder, F -> vocabulary; F is dim, in ALBERT embed_dim.

    Args:
        model: a `transformers` model with its head.
        name: what an error calls it.

    Raises:
        InputError: the model has no such head.
    """
    known = getattr(getattr(model, "config", None), "model_type", None) in FAMILIES_WITH_HEAD
    if known and hasattr(model, "cls"):  # BERT
        return model.cls.predictions.transform, model.cls.predictions.decoder
    if known and hasattr(model, "predictions"):  # ALBERT
        predictions = model.predictions
        return lambda x: predictions.LayerNorm(predictions.activation(predictions.dense(x))), predictions.decoder
    if known and hasattr(model, "lm_head"):
        head = model.lm_head
        return lambda x: head.layer_norm(gelu(head.dense(x))), head.decoder
    raise InputError(
        f"backbone {name} has no masked-language head to score label words with (pool 'mask'). packs/bert-tiny-mlm "
        "has one, packs/minilm-l6 and packs/minilm-l3 have one that was trained for them, as have masked language "
        "models of the families BERT, RoBERTa, XLM-R, ALBERT and MPNet."
    )


def vocabulary_head(backbone: Any) -> tuple[Tensor, Tensor]:
    """How a language model's own head scores all its tokens by normalised rows: weight (V, F), bias (V,).

    Args:
        backbone: a `TransformerBackbone`: a masked language model with pool `mask`, or a causal one, whose head is its
            word embedding.

    Raises:
        CompatibilityError: it has no such head, or was loaded without.
    """
    name, model = backbone.info.name, backbone.model
    if backbone.pool == "mask":
        decoder = masked_head(model, name)[1]
        return decoder.weight.detach(), decoder.bias.detach()
    if backbone.info.modality == "text" and backbone.anatomy.causal and model.config.tie_word_embeddings:
        weight = model.get_input_embeddings().weight.detach()
        return weight, weight.new_zeros(len(weight))
    raise CompatibilityError(
        f"backbone {name} (pool {backbone.pool!r}) has no head that scores words. Load a masked language model with "
        "pool 'mask', or GPT-2."
    )


def word_scores(decoder: nn.Linear, tokenizer: Any, name: str, words: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The decoder's rows for C words: weight (C, F), bias (C,).

    Raises:
        InputError: a word is not one token of the vocabulary, or two words are the same.
    """
    ids = tokenizer(list(words), add_special_tokens=False)["input_ids"]
    for word, tokens in zip(words, ids, strict=True):
        if len(tokens) != 1 or tokens[0] == tokenizer.unk_token_id:
            found = "not in" if tokenizer.unk_token_id in tokens else f"{len(tokens)} tokens of"
            raise InputError(f"label word {word!r} is {found} the vocabulary of {name}. Choose one that is one token.")
        if ids.count(tokens) > 1:
            raise InputError(f"label word {word!r} stands for two classes. Give each class a word of its own.")
    rows = [tokens[0] for tokens in ids]
    return decoder.weight[rows].detach(), decoder.bias[rows].detach()
