"""Backbones by name: `packs/<name>`, `hf/<repository>`, `timm/<model>`, `dir:<path>`."""

import math
import os
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch

from promptgraft.backbones.anatomy import FAMILIES, Anatomy
from promptgraft.backbones.masked import FAMILIES_WITH_HEAD, masked_head, word_scores
from promptgraft.backbones.packed import quiet_transformers
from promptgraft.backbones.preprocess import RESAMPLING, image_preparation, text_preparation
from promptgraft.backbones.transformer import ScoreWords, TransformerBackbone
from promptgraft.backbones.untrusted import check_config, check_folder, check_size
from promptgraft.card import Pool
from promptgraft.errors import InputError, PromptgraftError
from promptgraft.readme import printable

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
LARGEST = 4096
"""Pixels of a side; even that is a hundred times what models are trained with."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_backbone(
    name: str,
    *,
    image_size: int | None = None,
    max_length: int = 128,
    pool: Pool | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    revision: str | None = None,
) -> TransformerBackbone:
    """Load a frozen transformer.

    Weights come from safetensors only and no code of a repository is ever run.

    Args:
        name: `packs/dinov2-small` (a pinned archive), `hf/google/vit-base-patch16-224-in21k` (a hub repository),
            `timm/vit_small_patch16_224` (a model of timm, weights from its hub repository), or `dir:/path` (a folder
            saved by `transformers`).
        image_size: side length in pixels, a multiple of the patch size; None takes the model's own (224 for packs).
        max_length: tokens kept of a text.
        pool: `cls`; `mean` of patches or words; `mean-all` of patches and prompt rows, as the released code of
            Self-Prompt Tuning has it for MAE; `last`; `first` for the first row of a shallow prompt, or `mask` for
            that row as the masked-language head sees it; None takes the model's own way.
        device: such as `cpu` or `cuda`.
        dtype: `float32`, `float64`, or `bfloat16` (autocast; weights and features stay float32).
        revision: branch, tag or commit of a hub repository.

    Raises:
        InputError: unknown name, family, size, device or dtype; or pool `mask` and no masked-language head.
        CompatibilityError: pool `first` or `mask` of a causal model.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not known. Choose one of: {', '.join(DTYPES)}.")
    if pool not in (None, *get_args(Pool)):
        raise InputError(f"pool {pool!r} is not known. Choose one of: {', '.join(get_args(Pool))}.")
    if not isinstance(max_length, int) or max_length < 3:
        raise InputError(f"max_length must be at least 3 tokens, got {max_length!r}.")
    source, _, rest = name.partition(":" if name.startswith("dir:") else "/")
    if source == "packs" and rest:
        model, tokenizer, facts = _from_pack(rest, masked=pool == "mask")
    elif source == "hf" and rest:
        model, tokenizer, facts = _from_transformers(rest, revision, masked=pool == "mask")
    elif source == "timm" and rest:
        model, tokenizer, facts = _from_timm(rest, revision)
    elif source == "dir" and rest:
        if not Path(rest).is_dir():
            raise InputError(f"there is no folder {rest} to load a backbone from. Check the path.")
        model, tokenizer, facts = _from_transformers(rest, None, masked=pool == "mask")
    else:
        raise InputError(
            f"backbone {name!r} has no known source. Write packs/<name>, hf/<repository>, timm/<model> or dir:<path>; "
            "`promptgraft packs ls` lists the packs."
        )
    base = getattr(model, "base_model", model)  # without a language-modelling head
    name, family = facts.get("name") or name, facts.get("family") or base.config.model_type
    take_apart = facts.get("take_apart") or FAMILIES[family]
    anatomy = take_apart(base)
    score_words: ScoreWords | None = None
    if pool == "mask":
        _, decoder = masked_head(model, name)
        take_apart = partial(_with_masked_head, take_apart, name)
        score_words = partial(word_scores, decoder, tokenizer, name)
    identity = {"name": name, "source": source, "family": family, "revision": facts.get("revision") or revision}
    if anatomy.modality == "vision":
        size = _check_size(_first(image_size, facts.get("image_size"), anatomy.image_size), anatomy.patch_size, name)
        prepare, description = image_preparation(size, facts["mean"], facts["std"], facts["interpolation"])
        identity["image_size"] = size
    else:
        if tokenizer is None:
            raise InputError(
                f"backbone {name} comes without a tokenizer; put the tokenizer's files beside its weights."
            )
        # position tables of the RoBERTa kind spend their first rows on padding
        limit = getattr(base.config, "max_position_embeddings", None) or max_length
        offset = getattr(getattr(base, "embeddings", None), "padding_idx", None)
        limit -= 0 if offset is None or family not in ("roberta", "xlm-roberta", "mpnet") else offset + 1
        prepare, description = text_preparation(tokenizer, min(max_length, limit))
    identity["preprocessing"] = description
    return TransformerBackbone(
        base if score_words is None else model,
        take_apart,
        prepare,
        identity,
        pool=pool or facts.get("pool"),
        device=_check_device(device),
        dtype=DTYPES[dtype],
        score_words=score_words,
        tokenizer=tokenizer,
    )


def _with_masked_head(take_apart: Callable[[Any], Anatomy], name: str, model: Any) -> Anatomy:
    """A model with its head taken apart: these families end in no norm of their own."""
    return replace(take_apart(model.base_model), norm=masked_head(model, name)[0])


def _from_pack(pack: str, *, masked: bool) -> tuple[Any, Any, dict[str, Any]]:
    """masked: with a masked-language head, where one was trained for a pack that came without."""
    from promptgraft.backbones.packed import load_packed
    from promptgraft.backbones.read_out import has_read_out, packed_read_out

    model, tokenizer, facts = load_packed(pack)
    return packed_read_out(model, pack) if masked and has_read_out(pack) else model, tokenizer, facts


def _from_timm(name: str, revision: str | None) -> tuple[Any, Any, dict[str, Any]]:
    from promptgraft.backbones.timm_models import load_timm

    model, facts = load_timm(name, revision)
    return model, None, facts


def _from_transformers(location: str, revision: str | None, *, masked: bool) -> tuple[Any, Any, dict[str, Any]]:
    """Model, tokenizer (None for vision) and preprocessing facts of a hub repository or a local folder.

    masked: with the head of a masked language model.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer
    from transformers.utils import find_adapter_config_file

    offline = os.environ.get("PROMPTGRAFT_OFFLINE", "0") not in ("", "0")
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": False, "local_files_only": offline}
    numbers = check_folder(Path(location)) if Path(location).is_dir() else None
    try:
        config = AutoConfig.from_pretrained(location, **options)
        if find_adapter_config_file(location, revision=revision, local_files_only=offline):
            # where PEFT is installed, transformers would put the adapter into the model
            raise InputError(
                f"backbone {location!r} has a PEFT adapter (adapter_config.json) beside its weights, so it is not one "
                "frozen model. Merge the adapter into the weights, or take a copy without it."
            )
        commit = getattr(config, "_commit_hash", None)  # of a hub repository: a branch may move on, a commit does not
        family = "clip_vision_model" if config.model_type == "clip" else config.model_type
        known = FAMILIES[family].__module__
        loader = _loader(family, masked=masked)
        config = check_config(config.vision_config if config.model_type == "clip" else config, location)
        with quiet_transformers():
            if numbers is not None:
                check_size(loader, config, numbers, location)
            model, report = loader.from_pretrained(
                location, config=config, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
            )
        _check_weights(model, report["missing_keys"], location)
        if known.endswith("language"):
            tokenizer = AutoTokenizer.from_pretrained(location, **options)
            if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers makes one up where files are missing
                raise InputError(
                    f"backbone {location!r} comes without a tokenizer's vocabulary. Get a whole copy of it."
                )
            return model, tokenizer, {"revision": commit}
        facts: dict[str, Any] = {
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
            "interpolation": "bicubic",
            "revision": commit,
        }
        try:
            processor = AutoImageProcessor.from_pretrained(location, use_fast=False, **options).to_dict()
        except (OSError, ValueError):
            processor = {}
        names = {number: name for name, number in RESAMPLING.items()}
        facts["mean"] = _channels(processor.get("image_mean") or facts["mean"])
        facts["std"] = _channels(processor.get("image_std") or facts["std"])
        if not all(facts["std"]):
            raise ValueError(f"its images are to be divided by {facts['std']}")
        facts["interpolation"] = names.get(int(processor.get("resample", 3)), "bicubic")
        return model, None, facts
    except PromptgraftError:
        raise
    except Exception as error:  # of a configuration, a tokenizer or weights that transformers stumbles on
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"cannot load backbone {location!r}: {printable(first.rstrip('.'))[:300]}. Check the name, the network, "
            "and that it holds safetensors weights."
        ) from error


def _loader(family: str, *, masked: bool) -> Any:
    from transformers import AutoModel, AutoModelForMaskedLM, CLIPVisionModel

    if masked and family in FAMILIES_WITH_HEAD:
        return AutoModelForMaskedLM
    return CLIPVisionModel if family == "clip_vision_model" else AutoModel


def _channels(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    if not all(map(math.isfinite, (red, green, blue))):
        raise ValueError(f"its images are to be scaled by {values}")
    return red, green, blue


def _check_weights(model: Any, missing: Iterable[str], location: str) -> None:
    """Refuse random weights, and such as are no numbers; a pooler, which nothing passes through, is taken off."""
    if absent := sorted(key for key in missing if not key.startswith("pooler.")):
        raise InputError(
            f"backbone {location!r} comes without the weights {', '.join(absent[:5])}. Get a whole copy of it."
        )
    if hasattr(model, "pooler"):
        model.pooler = None
    if odd := next((name for name, values in model.named_parameters() if not values.isfinite().all()), None):
        raise InputError(f"backbone {location!r} holds NaN or infinite values in {odd}. Get an unaltered copy of it.")


def _first(*values: int | None) -> int | None:
    """The first value that is given; 0 is one."""
    return next((value for value in values if value is not None), None)


def _check_size(size: int | None, patch: int | None, name: str) -> int:
    assert size is not None
    assert patch is not None
    if size > LARGEST:
        raise InputError(f"image size {size} is more than the {LARGEST} pixels that are possible. Ask for fewer.")
    if size < patch or size % patch:
        below = max(size // patch, 1) * patch
        raise InputError(
            f"image size {size} does not fit the {patch}-pixel patches of {name}. Try {below} or {below + patch}."
        )
    return size


def _check_device(device: str) -> torch.device:
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError) as error:
        reason = textwrap.shorten(str(error).rstrip("."), 80, placeholder=" ...")
        raise InputError(f"device {device!r} is not available ({reason}). Choose another, such as 'cpu'.") from error
    return chosen
