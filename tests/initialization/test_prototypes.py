import pytest
import torch

from promptgraft.errors import InputError
from promptgraft.initialization.prototypes import prototypes
from promptgraft.tasks.embedded import embed_task
from tuning.samples import TEXT, VISION, Counted, make_backbone, make_task

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")


def literal(backbone, inputs, layers):
    """Per layer: every token (n, D) that may be taken, and which input (n,) and position (n,) it is of."""
    tokens = backbone.embed(list(inputs))
    entering = [tokens.values] if layers == "shallow" else list(backbone.layer_inputs(tokens))
    mask = tokens.mask if tokens.mask is not None else torch.ones(tokens.values.shape[:2], dtype=torch.bool)
    mask = mask.clone()
    first = backbone.prefix_length if backbone.info.modality == "vision" else int(backbone.info.family != "gpt2")
    mask[:, :first] = False
    of, at = mask.nonzero().T
    return [(values[mask], of, at) for values in entering]


def find(rows, tokens):
    """Index (P,) of each row among the tokens (n, D), which must hold it."""
    distance, index = torch.cdist(rows.double(), tokens.double()).min(1)
    assert distance.max() < 1e-5
    return index


@pytest.mark.parametrize("layers", ["shallow", "deep"])
@pytest.mark.parametrize("family", VISION + TEXT)
def test_rows_are_tokens_of_the_inputs_at_their_layer(family, layers):
    backbone = make_backbone(family, dtype=torch.float64)
    inputs = make_task(backbone.info.modality).train.inputs
    prompt = prototypes(backbone, inputs, length=6, layers=layers, seed=3)
    info = backbone.info
    assert prompt.shape == ((1, 6, info.embed_dim) if layers == "shallow" else (info.depth, 6, info.dim))
    assert prompt.dtype == torch.float32
    backbone.check(prompt.shape[0], prompt.shape[2])
    chosen = []
    for rows, (tokens, of, _) in zip(prompt, literal(backbone, inputs, layers), strict=True):
        chosen += of[find(rows, tokens)].tolist()
    if info.modality == "vision":  # words repeat, so a row does not tell which text it is of
        assert len(set(chosen)) == len(chosen)  # an input for every row: 20 are enough for 3 x 6


@pytest.mark.parametrize("family", ["vit", "dinov2_with_registers", "deit"])
def test_every_patch_may_be_taken_and_nothing_before_them(family):
    backbone = make_backbone(family, dtype=torch.float64)
    one = make_task().train.inputs[:1]
    prompt = prototypes(backbone, one, length=300)
    tokens, _, at = literal(backbone, one, "shallow")[0]
    taken = at[find(prompt[0], tokens)]
    assert sorted(set(taken.tolist())) == list(range(backbone.prefix_length, backbone.prefix_length + 16))
    assert torch.bincount(taken)[backbone.prefix_length :].min() > 300 / 16 / 4


@pytest.mark.parametrize(("family", "expected"), [("bert", {1, 2, 3, 4}), ("gpt2", {0, 1, 2, 3, 4})])
def test_every_word_may_be_taken_and_no_padding(family, expected):
    backbone = make_backbone(family, dtype=torch.float64)
    inputs = ["w5 w6 w7", "w8 w9 w10 w11 w12 w13 w14 w15", ""]  # the first and the last are padded
    tokens = backbone.embed(inputs)
    prompt = prototypes(backbone, inputs, length=300)
    places = torch.cdist(prompt[0].double(), tokens.values.flatten(0, 1).double()).argmin(1)
    lengths = tokens.mask.sum(1)
    of, at = places // tokens.values.shape[1], places % tokens.values.shape[1]
    assert (at < lengths[of]).all()
    assert set(at[of == 0].tolist()) == expected


def test_a_text_without_words_gives_what_it_has():
    backbone = make_backbone("bert", max_length=1, dtype=torch.float64)  # CLS alone
    prompt = prototypes(backbone, ["w5", "w6"], length=3)
    torch.testing.assert_close(prompt[0].double(), backbone.embed(["w5"]).values[0].expand(3, -1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("modality", ["vision", "text"])
@pytest.mark.parametrize("layers", ["shallow", "deep"])
def test_only_the_drawn_inputs_are_read(layers, modality):
    backbone = make_backbone("vit" if modality == "vision" else "bert")
    inputs = make_task(modality).train.inputs
    forwarded, embed = [], backbone.embed
    backbone.embed = lambda batch: forwarded.append(len(batch)) or embed(batch)
    prompt = prototypes(backbone, inputs, length=5, layers=layers)
    assert inputs.asked == sum(forwarded) == prompt.shape[0] * 5


@pytest.mark.parametrize("modality", ["vision", "text"])
def test_embedded_and_raw_inputs_give_the_same_rows(modality):
    backbone, task = make_backbone("vit" if modality == "vision" else "bert"), make_task(modality)
    raw = prototypes(backbone, task.train.inputs, length=5, layers="deep")
    embedded = prototypes(backbone, embed_task(backbone, task).train, length=5, layers="deep")
    torch.testing.assert_close(raw, embedded, rtol=1e-5, atol=1e-6)


def test_a_seed_repeats_and_layers_are_drawn_independently():
    backbone, inputs = make_backbone(), make_task().train.inputs
    first, again, other = (prototypes(backbone, inputs, length=6, layers="deep", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).all(2).any()
    chosen = [
        of[find(rows, tokens)].tolist()
        for rows, (tokens, of, _) in zip(first, literal(backbone, inputs, "deep"), strict=True)
    ]
    assert len({tuple(layer) for layer in chosen}) == 3


def test_a_share_bounds_the_inputs_drawn_from():
    backbone, inputs = make_backbone(), Counted(make_task().train.inputs)
    prompt = prototypes(backbone, inputs, length=40, share=0.2)
    tokens, of, _ = literal(backbone, inputs, "shallow")[0]
    assert len(set(of[find(prompt[0], tokens)].tolist())) == 4  # a fifth of 20, each drawn ten times
    single = prototypes(backbone, inputs, length=7, share=0.001)
    assert len(set(of[find(single[0], tokens)].tolist())) == 1


def test_many_rows_are_taken_in_chunks():
    backbone, inputs = make_backbone(dtype=torch.float64), make_task().train.inputs
    tokens, of, _ = literal(backbone, inputs, "shallow")[0]
    chosen = of[find(prototypes(backbone, inputs, length=150)[0], tokens)]
    assert torch.bincount(chosen, minlength=20).tolist().count(7) == 10  # 150 = 7 x 20 + 10: as evenly as can be
    assert torch.bincount(chosen).min() == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "median"}, "no kind of prototype named 'median'"),
        ({"layers": "all"}, "'shallow' or 'deep', got 'all'"),
        ({"share": 0.0}, r"share must be in \(0, 1\], got 0.0"),
        ({"share": 1.5}, "got 1.5"),
        ({"length": 0}, "at least one row, got length 0"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(InputError, match=message):
        prototypes(make_backbone(), make_task().train.inputs, **{"length": 4} | options)


def test_no_inputs_is_an_error():
    with pytest.raises(InputError, match="at least one input"):
        prototypes(make_backbone(), [], length=4)
