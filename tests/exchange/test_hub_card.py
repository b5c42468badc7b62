"""The model card of a hub's repository, read by huggingface_hub and by hand."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from promptgraft.card import BackboneInfo, PromptInfo, Score, TaskInfo, TrainingInfo
from promptgraft.exchange.hub_card import hub_card
from promptgraft.prompt import SoftPrompt

MakePrompt = Callable[..., SoftPrompt]
HOSTILE = (
    "x\n---\nlicense: mit\n---\n# gone",
    "'] , tags: [evil",
    '"\n- evil: [1',
    "<script>alert(1)</script>",
    "<!-- ",
    "| a | [b](http://evil.example) ![c](x) |",
    "```\n# out of the block",
    "`code` **bold** {{ 7 * 7 }} &lt;b&gt;",
    "\x1b[31m\u202egnp.exe\u2028---\u2028",
    "!!python/object/apply:os.system ['true']",
)


def front(card: str) -> dict[str, Any]:
    _, matter, _ = card.split("---\n", 2)
    value = yaml.safe_load(matter)
    assert isinstance(value, dict)
    return value


def backbone(name: str, source: str, **facts: Any) -> BackboneInfo:
    sizes: dict[str, Any] = {"dim": 16, "embed_dim": 16, "depth": 2, "heads": 2}
    given = {"family": "bert", "modality": "text", "weights_sha256": "a1" * 32} | facts
    return BackboneInfo(name=name, source=source, pool="cls", position="after_cls", **sizes, **given)


def test_what_people_filter_by(make_prompt: MakePrompt) -> None:
    prompt = make_prompt(backbone=backbone("hf/google-bert/bert-base-uncased", "hf"), parents=("e" * 64,))
    card = hub_card({"": prompt}, "maker/one", ["stanfordnlp/sst2"])
    data = front(card)
    assert data == {
        "base_model": "google-bert/bert-base-uncased",
        "base_model_relation": "adapter",
        "datasets": ["stanfordnlp/sst2"],
        "library_name": "promptgraft",
        "license": "cc0-1.0",
        "pipeline_tag": "text-classification",
        "tags": [
            *("prompt-tuning", "soft-prompt", "shallow-prompt", "text", "width-16", "method-vpt", "bert"),
            *("hf-google-bert-bert-base-uncased", "weights-a1a1a1a1a1a1"),
        ],
        "model-index": [
            {
                "name": "text/example",
                "results": [
                    {
                        "task": {"type": "text-classification"},
                        "dataset": {"name": "example", "type": "example", "split": "val"},
                        "metrics": [
                            {
                                "type": "accuracy",
                                "value": 0.75,
                                "args": {"interval": [0.5, 0.9], "level": 0.95, "n": 16},
                            }
                        ],
                    }
                ],
            }
        ],
    }
    read: Any = ModelCard(card).data
    assert read.to_dict() == data
    assert read.eval_results[0].metric_value == 0.75
    for said in (
        "promptgraft library pull maker/one\n",
        'pull("maker/one", library)\n',
        "maker/one@COMMIT",
        "e" * 64,
        "a1" * 32,
    ):
        assert said in card


@pytest.mark.parametrize(
    ("name", "source", "base"),
    [
        ("hf/gpt2", "hf", "gpt2"),
        ("timm/vit_small_patch16_224.augreg_in21k", "timm", "timm/vit_small_patch16_224.augreg_in21k"),
        ("timm/vit_small_patch16_224", "timm", None),
        ("packs/minilm-l6", "packs", None),
        ("dir:/home/me/model", "dir", None),
        ("hf/../../etc", "hf", None),
        ("hf/a\nb", "hf", None),
    ],
)
def test_a_base_model_is_named_where_a_hub_has_it(
    name: str, source: str, base: str | None, make_prompt: MakePrompt
) -> None:
    data = front(hub_card({"": make_prompt(backbone=backbone(name, source))}, "maker/one"))
    assert data.get("base_model") == base
    assert ("base_model_relation" in data) == (base is not None)
    assert all("home" not in tag for tag in data["tags"])


@pytest.mark.parametrize(
    ("said", "known", "name"),
    [
        ("Apache-2.0", "apache-2.0", None),
        ("AGPL-3.0-or-later", "agpl-3.0", None),
        ("unspecified", "unknown", None),
        ("WordNet-3.0", "other", "wordnet-3.0"),
        ("PDDL-1.0, CC0-1.0", "other", "pddl-1.0-cc0-1.0"),
    ],
)
def test_the_licence_is_one_that_a_hub_knows(said: str, known: str, name: str | None, make_prompt: MakePrompt) -> None:
    data = front(hub_card({"": make_prompt(licence=said)}, "maker/one"))
    assert (data["license"], data.get("license_name")) == (known, name)


def test_the_card_of_several_prompts(make_prompt: MakePrompt) -> None:
    base = backbone("hf/maker/base", "hf")
    source = make_prompt(backbone=base)
    scored = TrainingInfo(
        recipe={},
        seed=0,
        epochs=1,
        seconds=1,
        device="cpu",
        scores={
            split: Score(value=value, low=value - 0.1, high=value + 0.1, n=50)
            for split, value in (("test", 0.7), ("val", 0.8), ("val_head", 0.99))
        },
    )
    child = make_prompt(
        seed=1,
        layers=2,
        backbone=base,
        parents=(source.id, "e" * 64),
        training=scored,
        licence="MIT",
        method="initial",
    )
    card = hub_card({"text/child": child, "source": source}, "maker/all")
    data = front(card)
    assert (data["license"], data["license_name"]) == ("other", "mit-and-cc0-1.0")
    assert data["base_model"] == "maker/base"
    assert {"shallow-prompt", "deep-prompt", "method-vpt", "method-initial"} <= set(data["tags"])
    assert [entry["name"] for entry in data["model-index"]] == ["text/child", "source"]
    results = data["model-index"][0]["results"]
    assert [(row["dataset"]["split"], row["metrics"][0]["value"]) for row in results] == [("val", 0.8), ("test", 0.7)]
    rows = [line for line in card.splitlines() if line.startswith("| text/child |")]
    assert len(rows) == 1
    assert "| source, eeeeeeeeeeee |" in rows[0]  # a parent that is here by its folder, another by its id
    assert "0.800 (val, 0.700 to 0.900), 0.700 (test, 0.600 to 0.800)" in rows[0].replace("\\", "")
    assert "promptgraft library pull maker/all --subfolder source\n" in card
    assert 'pull("maker/all", library, subfolder="source")' in card
    ModelCard(card)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_strangers_text_stays_text(text: str, make_prompt: MakePrompt) -> None:
    task = TaskInfo(name=text, modality="text", classes=(text,), metric=text, n_train=1, fingerprint=text)
    said = PromptInfo(length=4, layers=1, dim=16, position="first", pool="cls", init=text, init_args={text: text})
    evil = make_prompt(
        name=text,
        task=task,
        prompt=said,
        backbone=backbone(text, "hf", family=text, weights_sha256=text, revision=text),
        method=text,
        licence=text,
        parents=(text,),
        command=text,
        versions={text: text},
    )
    plain = make_prompt()
    for prompts, tame in (({"": evil}, {"": plain}), ({"a": evil, "b": plain}, {"a": plain, "b": plain})):
        card = hub_card(prompts, "maker/one")
        data = front(card)
        assert data.keys() - {"license_name"} == front(hub_card(tame, "maker/one")).keys()
        assert data["license"] in ("other", "unknown")
        assert all(re.fullmatch("[a-z0-9][a-z0-9.-]*", tag) for tag in data["tags"])
        body = card.split("---\n", 2)[2]
        assert card.splitlines().count("---") == 2
        assert len(body.splitlines()) >= 10
        outside = re.sub(r"```\w*\n.*?\n```\n", "", body, flags=re.DOTALL)  # blocks of code show all as it is
        assert not re.search(r"<[a-z!/]", outside)
        assert not re.search(r"(?<!\\)(\]\(|!\[|\*\*|\{\{)", outside)
        assert not re.search(r"(?<!\\)`", outside.replace("`maker/one@COMMIT`", ""))
        assert all(character.isprintable() or character == "\n" for character in card)
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in outside.splitlines() if line.startswith("|")}
        assert len(columns) == 1
