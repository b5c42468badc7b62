"""`convert`: a prompt for another language model, without data and without training on the task."""

import inspect
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.card import Modality, PromptCard, PromptInfo
from promptgraft.errors import CompatibilityError, InputError
from promptgraft.prompt import SoftPrompt
from promptgraft.registry import did_you_mean
from promptgraft.transfer.anchors import word_embeddings
from promptgraft.transfer.converter import CONVERTERS, Converted, Converter, Passage
from promptgraft.tuning.adapted import versions

_SHA256 = re.compile("[0-9a-f]{64}")


def convert(
    prompt: SoftPrompt | Sequence[SoftPrompt],
    *,
    source: TransformerBackbone | Sequence[TransformerBackbone],
    target: TransformerBackbone,
    method: str = "relative",
    anchors: Sequence[Any] | None = None,
    name: str | None = None,
    command: str | None = None,
    **options: Any,
) -> SoftPrompt:
    """Carry a shallow prompt to another model: by the words that two language models know, or by unlabelled images.

    Args:
        prompt: the prompt; several, of one task and length, for `relative` (eq. 7 of its paper).
        source: the model that it was tuned on; one for each prompt.
        target: the model that it shall be for.
        method: `relative` (options `top_k`, `absolute`, `ridge` and `normalise`, see `relative_search`, and
            `keep_spread`: as spread against the target's words as it was against the source's), or a baseline:
            `copy`, `discretization`, `neural-projector` (options `epochs` and `seed`).
        anchors: for vision models, images whose patches stand in for words (`shared_patches`); None for words.
        name: of the new prompt; by default the source's name and the method.
        command: what made it, for the card.
        **options: of the method.

    Returns:
        The prompt, without a head: features of another model need a head of their own. Its card names its parents;
        `prompt.init_args` holds the options and what is known of its quality.

    Raises:
        InputError: no such method or option, or too few anchors.
        CompatibilityError: the prompt is deep, or not for texts (for images where there are `anchors`), or was tuned
            on other weights than the source's; a model is of another modality; the models share no word.
    """
    prompts, sources = _together(prompt), _models(source)
    names = None if name is None else [name]
    return _convert_all([prompts], sources, target, method, anchors, names, command, options)[0]


def convert_each(
    prompts: Sequence[SoftPrompt | Sequence[SoftPrompt]],
    *,
    source: TransformerBackbone | Sequence[TransformerBackbone],
    target: TransformerBackbone,
    method: str = "relative",
    command: str | None = None,
    **options: Any,
) -> tuple[SoftPrompt, ...]:
    """Carry several prompts of the same models, each as `convert` does: anchors, solver and projector are made once.

    Args:
        prompts: of equal length; each is one prompt, or for `relative` one of every source.
        source: the model that they were tuned on; or several, in the order of each item's prompts.
        target: the model that they shall be for.
        method: as for `convert`.
        command: what made them, for the cards.
        **options: of the method.

    Raises:
        InputError, CompatibilityError: as `convert`; and where the prompts differ in length.
    """
    return _convert_all(
        [_together(each) for each in prompts], _models(source), target, method, None, None, command, options
    )


def _together(prompt: SoftPrompt | Sequence[SoftPrompt]) -> tuple[SoftPrompt, ...]:
    return (prompt,) if isinstance(prompt, SoftPrompt) else tuple(prompt)


def _models(source: TransformerBackbone | Sequence[TransformerBackbone]) -> tuple[TransformerBackbone, ...]:
    return (source,) if isinstance(source, TransformerBackbone) else tuple(source)


def _convert_all(
    groups: Sequence[tuple[SoftPrompt, ...]],
    sources: tuple[TransformerBackbone, ...],
    target: TransformerBackbone,
    method: str,
    images: Sequence[Any] | None,
    names: Sequence[str] | None,
    command: str | None,
    options: dict[str, Any],
) -> tuple[SoftPrompt, ...]:
    """One prompt for each group of prompts, one of each source."""
    converter = CONVERTERS[method]
    for group in groups:
        if not group or len(group) != len(sources):
            raise InputError(f"each prompt needs the model it was tuned on; got {len(group)} and {len(sources)}.")
    if len(sources) > 1 and not converter.several:
        raise InputError(f"method {method!r} takes one prompt, got {len(sources)}. `relative` takes several.")
    settings = converter_settings(converter, options)
    modality: Modality = "text" if images is None else "vision"
    verified = [[_check(*pair, modality) for pair in zip(group, sources, strict=True)] for group in groups]
    if images is None:
        word_embeddings(target)  # refuses a model that has none
    by_source = [[prompt.rows() for prompt in prompts] for prompts in zip(*groups, strict=True)]
    found = {len(rows) for of_source in by_source for rows in of_source}
    if len(found) != 1:
        lengths = ", ".join(map(str, sorted(found))) or "none"
        raise CompatibilityError(f"prompts that are converted at once must be of one length, got {lengths} rows.")
    passage = Passage(tuple(map(torch.cat, by_source)), sources, target, len(groups), images)
    converted = converter.run(passage, **settings)
    known = {**settings, "sources": [each.info.name for each in sources]}
    known |= {} if images is None else {"anchor_images": len(images)}
    made, [length] = [], found
    for number, (group, sure) in enumerate(zip(groups, verified, strict=True)):
        part = slice(number * length, (number + 1) * length)
        of_rows = {key: values[part] for key, values in converted.of_rows.items()}
        own = Converted(converted.rows[part], converted.diagnostics, of_rows)
        name = f"{group[0].card.name}-{method}" if names is None else names[number]
        facts = {**known, "source_weights_verified": all(sure)}
        made.append(_carded(own, group, target, method, facts, name, command))
    return tuple(made)


def _carded(
    converted: Converted,
    parents: tuple[SoftPrompt, ...],
    target: TransformerBackbone,
    method: str,
    known: dict[str, Any],
    name: str,
    command: str | None,
) -> SoftPrompt:
    """The prompt with its card; `known` are the options and what is known of the sources."""
    first, info = parents[0].card, target.info
    rows = converted.rows.detach().float().cpu()
    of_rows = {key: _summary(values) for key, values in converted.of_rows.items()}
    in_slots = first.prompt.position == "before_answer"  # a way of use that goes with the prompt to any model
    card = PromptCard(
        name=name,
        task=first.task,
        backbone=info,
        prompt=PromptInfo(
            length=rows.shape[0],
            layers=1,
            dim=rows.shape[1],
            position=first.prompt.position if in_slots else info.position,
            pool=first.prompt.pool if in_slots else info.pool,
            init=method,
            init_args={**of_rows, **converted.diagnostics, **known},
        ),
        method=method,
        parents=tuple(each.id for each in parents),
        versions=versions(),
        licence=" AND ".join(sorted({each.card.licence for each in parents})),
        command=command,
    )
    return SoftPrompt(rows[None], card)


def _summary(values: Tensor | list[str]) -> Any:
    """What a card keeps of the numbers or words of all rows."""
    return values if isinstance(values, list) else {"mean": values.mean().item(), "lowest": values.min().item()}


def converter_settings(converter: Converter, options: dict[str, Any]) -> dict[str, Any]:
    """All options of a converter: those given, and its defaults for the rest.

    Raises:
        InputError: it has no such option.
    """
    known = {
        name: parameter.default
        for name, parameter in inspect.signature(converter.run).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    for option in options:
        if option not in known:
            takes = f"It takes: {', '.join(known)}." if known else "It takes none."
            raise InputError(
                f"method {converter.name!r} has no option {option!r}.{did_you_mean(option, list(known))} {takes}"
            )
    return known | options


def _check(prompt: SoftPrompt, source: TransformerBackbone, modality: Modality) -> bool:
    """Refuse a prompt that cannot be converted; say whether the source is known to be its model, weight by weight."""
    card, made_on, info = prompt.card, prompt.card.backbone, source.info
    if made_on.modality != modality:
        works = "words; images as `anchors` carry it to another vision model"
        raise CompatibilityError(
            f"prompt {card.name!r} is a {made_on.modality} prompt, and convert works with "
            f"{works if modality == 'text' else 'images here'}. `promptgraft transfer --method projection` bridges "
            "modalities, with labelled data."
        )
    if card.prompt.layers != 1:
        raise CompatibilityError(
            f"prompt {card.name!r} is deep ({card.prompt.layers} layers): only rows of the embeddings' space can be "
            "compared with words. Choose a shallow prompt."
        )
    known = _SHA256.fullmatch(made_on.weights_sha256) is not None
    if known and made_on.weights_sha256 != info.weights_sha256:
        raise CompatibilityError(
            f"prompt {card.name!r} was tuned on {made_on.name} (weights {made_on.weights_sha256[:12]}), the source is "
            f"{info.name} (weights {info.weights_sha256[:12]}). Load the model that the prompt was tuned on, in "
            f"float32 and with pool {made_on.pool!r}."
        )
    if not known and (made_on.name, made_on.embed_dim) != (info.name, info.embed_dim):
        raise CompatibilityError(
            f"prompt {card.name!r} was tuned on {made_on.name} ({made_on.embed_dim}-d), the source is {info.name} "
            f"({info.embed_dim}-d). Load the model that the prompt was tuned on."
        )
    return known
