"""Prototypes of all tokens: k-means and pooling, held to the tokens read off the backbone at once."""

import pytest
import torch

from initialization.test_prototypes import literal
from promptgraft.errors import CompatibilityError, InputError
from promptgraft.initialization import entering, streaming
from promptgraft.initialization.kmeans import StreamingKMeans
from promptgraft.initialization.prototypes import prototypes
from promptgraft.tasks.embedded import embed_task
from tuning.samples import TEXT, VISION, make_backbone, make_task

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")


def ordered(backbone, inputs, layers, share=1.0, seed=0):
    """Per layer all real tokens (n, D) of the drawn inputs, in the order drawn."""
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))[: round(share * len(inputs))]
    return [tokens.double() for tokens, _, _ in literal(backbone, [inputs[i] for i in order], layers)]


@pytest.mark.parametrize("layers", ["shallow", "deep"])
@pytest.mark.parametrize("kind", ["mean", "max"])
@pytest.mark.parametrize("family", VISION + TEXT)
def test_pooled_rows_are_windows_of_all_tokens(family, kind, layers):
    backbone = make_backbone(family, dtype=torch.float64)
    inputs = make_task(backbone.info.modality).train.inputs
    prompt = prototypes(backbone, inputs, kind=kind, length=6, layers=layers, share=0.5, seed=3)
    expected = []
    for tokens in ordered(backbone, inputs, layers, 0.5, 3):
        windows = tokens[: len(tokens) // 6 * 6].view(6, -1, tokens.shape[1])
        expected.append(windows.mean(1) if kind == "mean" else windows.amax(1))
    torch.testing.assert_close(prompt.double(), torch.stack(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layers", ["shallow", "deep"])
@pytest.mark.parametrize("family", VISION + TEXT)
def test_centres_are_those_of_all_tokens(family, layers):
    backbone = make_backbone(family, dtype=torch.float64)
    inputs = make_task(backbone.info.modality).train.inputs
    prompt = prototypes(backbone, inputs, kind="k-means", length=5, layers=layers)
    expected = []
    for tokens in ordered(backbone, inputs, layers):
        clusters = StreamingKMeans(5)
        clusters.add(tokens.float())
        expected.append(clusters.result())
    torch.testing.assert_close(prompt, torch.stack(expected), rtol=1e-4, atol=1e-4)
    backbone.check(prompt.shape[0], prompt.shape[2])


@pytest.mark.parametrize("kind", ["k-means", "mean", "max"])
@pytest.mark.parametrize("modality", ["vision", "text"])
def test_chunks_and_embedding_change_nothing(modality, kind, monkeypatch):
    backbone = make_backbone("vit" if modality == "vision" else "bert", dtype=torch.float64)
    task = make_task(modality)
    whole = prototypes(backbone, task.train.inputs, kind=kind, length=5, layers="deep")
    embedded = prototypes(backbone, embed_task(backbone, task).train, kind=kind, length=5, layers="deep")
    torch.testing.assert_close(whole, embedded, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(streaming, "CHUNK", 3)
    torch.testing.assert_close(prototypes(backbone, task.train.inputs, kind=kind, length=5, layers="deep"), whole)


@pytest.mark.parametrize("layers", ["shallow", "deep"])
def test_k_means_forwards_every_input_once(layers):
    backbone, inputs = make_backbone(), make_task().train.inputs
    forwarded, layer_inputs = [], backbone.layer_inputs
    backbone.layer_inputs = lambda tokens: forwarded.append(len(tokens)) or layer_inputs(tokens)
    prototypes(backbone, inputs, kind="k-means", length=5, layers=layers)
    assert inputs.asked == 20
    assert sum(forwarded) == (20 if layers == "deep" else 0)


@pytest.mark.parametrize("kind", ["sample", "k-means", "mean", "max"])
@pytest.mark.parametrize("tokens_of", ["first", "last"])
def test_one_blocks_tokens_may_serve_all_layers(tokens_of, kind):
    backbone, inputs = make_backbone("albert"), make_task("text").train.inputs
    prompt = prototypes(backbone, inputs, kind=kind, length=4, layers="deep", tokens_of=tokens_of)
    assert prompt.shape == (3, 4, 32)
    assert torch.equal(prompt, prompt[:1].expand(3, -1, -1))
    if kind != "sample":  # which draws other inputs for other layers
        own = prototypes(backbone, inputs, kind=kind, length=4, layers="deep")
        assert torch.equal(prompt[0], own[0 if tokens_of == "first" else -1])
    else:
        tokens = literal(backbone, inputs, "deep")[0 if tokens_of == "first" else -1][0]
        assert torch.cdist(prompt[0].double(), tokens.double()).min(1).values.max() < 1e-4


def test_a_shallow_prompt_of_the_last_blocks_tokens():
    backbone, inputs = make_backbone(), make_task().train.inputs
    options = {"kind": "k-means", "length": 4}
    deep = prototypes(backbone, inputs, layers="deep", tokens_of="last", **options)
    assert torch.equal(prototypes(backbone, inputs, tokens_of="last", **options), deep[:1])
    first = prototypes(backbone, inputs, tokens_of="first", **options)
    assert torch.equal(first, prototypes(backbone, inputs, **options))
    narrow = make_backbone("albert")
    with pytest.raises(CompatibilityError, match="is 16 wide and the tokens of its last block are 32 wide"):
        prototypes(narrow, make_task("text").train.inputs, tokens_of="last", **options)


@pytest.mark.parametrize("kind", ["k-means", "mean", "max"])
@pytest.mark.parametrize("modality", ["vision", "text"])
def test_fewer_tokens_than_rows_is_an_error(modality, kind):
    backbone = make_backbone("vit" if modality == "vision" else "bert")
    inputs = make_task().train.inputs[:1] if modality == "vision" else ["w5 w6", "w7", ""]
    enough = 16 if modality == "vision" else 6  # three words and three SEP
    assert prototypes(backbone, inputs, kind=kind, length=enough).shape[1] == enough
    with pytest.raises(InputError, match=f"{enough} tokens do not give a prompt of {enough + 1} rows"):
        prototypes(backbone, inputs, kind=kind, length=enough + 1)


def test_an_unknown_block_is_named():
    with pytest.raises(InputError, match="'own', 'first' or 'last', got 'middle'"):
        prototypes(make_backbone(), make_task().train.inputs, length=4, tokens_of="middle")


def test_nothing_after_the_last_block_asked_for_is_run():
    backbone = make_backbone()
    source = entering.Entering(backbone, make_task().train.inputs)
    seen, layer_inputs = [], backbone.layer_inputs
    backbone.layer_inputs = lambda tokens: (seen.append(i) or values for i, values in enumerate(layer_inputs(tokens)))
    assert len(list(source.rows(torch.arange(2), range(1)))) == 1
    assert seen == [0]
