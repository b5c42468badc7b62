"""Attention transfer against eqs. 7 and 8 written out."""

import math

import pytest
import torch

from promptgraft.errors import CompatibilityError
from promptgraft.prompt import SoftPrompt
from promptgraft.tasks.embedded import embed_task
from promptgraft.transfer.attention import ConcentratedPrompt
from promptgraft.tuning.candidate import Candidate
from promptgraft.tuning.method import METHODS, Setting
from promptgraft.tuning.tune import transfer
from tuning.samples import FAST, make_backbone, make_source, make_task

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")

attention = METHODS["attention"]


def literal(source, query, key, value, target):
    """softmax(Q x (p_s x W_k)^T) x (p_s x W_v), then p_t: one number after another."""
    (rows, source_width), width = source.shape, query.shape[1]

    def carried(matrix):
        return [
            [sum(source[j, a] * matrix[a, d] for a in range(source_width)) for d in range(width)] for j in range(rows)
        ]

    keys, values, concentrated = carried(key), carried(value), []
    for q in query:
        weights = [sum(q[d] * keys[j][d] for d in range(width)).exp() for j in range(rows)]
        shares = [weight / sum(weights) for weight in weights]
        concentrated.append([sum(shares[j] * values[j][d] for j in range(rows)) for d in range(width)])
    concentrated += [list(row) for row in target]
    return torch.stack([torch.stack(row) for row in concentrated])[None]


@pytest.mark.parametrize(("source_width", "width"), [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("concentrated", [1, 3, 6])
def test_values_and_gradients_are_the_papers(source_width, width, concentrated):
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(1, 6, source_width, generator=generator)
    module = ConcentratedPrompt(source, concentrated, width, seed=1).double()
    with torch.no_grad():  # away from the identity
        module.value += torch.randn(module.value.shape, generator=generator)
    names = ("query", "key", "value", "target")
    copies = [getattr(module, name).detach().clone().requires_grad_() for name in names]
    expected, found = literal(source[0].double(), *copies), module(None)
    assert found.shape == (1, 6, width)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    upstream = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    (found * upstream).sum().backward()
    (expected * upstream).sum().backward()
    for name, copy in zip(names, copies, strict=True):
        gradient = torch.zeros_like(copy) if copy.grad is None else copy.grad  # no learned rows, no gradient
        torch.testing.assert_close(getattr(module, name).grad, gradient, rtol=1e-10, atol=1e-12)


def test_what_is_learned():
    module = ConcentratedPrompt(torch.ones(1, 10, 3), 8, 5, seed=0)
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    assert shapes == {"query": (8, 5), "key": (3, 5), "value": (3, 5), "target": (2, 5)}
    assert not module.source.requires_grad


def test_the_start():
    source = torch.randn(1, 10, 5, generator=torch.Generator().manual_seed(0))
    first, again, other = (ConcentratedPrompt(source, 8, 5, seed) for seed in (0, 0, 1))
    assert torch.equal(first(None), again(None))
    assert torch.equal(first.value, torch.eye(5))
    for name, rows in (("query", 8), ("key", 5), ("target", 2)):
        values = getattr(first, name)
        assert (values != getattr(other, name)).all()
        assert 0.7 * math.sqrt(6 / (rows + 5)) < values.abs().max() <= math.sqrt(6 / (rows + 5))
    drawn = torch.cat([first.query.flatten(), first.key.flatten(), first.target.flatten()])
    ranks = [torch.argsort(part) for part in drawn[:75].split(10)[:7]]
    assert len({tuple(rank.tolist()) for rank in ranks}) == 7  # no part repeats another's draws


def setting(source, share=None):
    backbone = make_backbone()
    recipe = FAST if share is None else FAST.model_copy(update={"source_share": share})
    data = embed_task(backbone, make_task())
    return Candidate(attention, Setting(backbone, data.train, 4, "shallow", 0, (source,)), None, 3, recipe)


@pytest.mark.parametrize(("share", "rows"), [(None, 3), (0.01, 1), (0.5, 2), (1.0, 4)])
def test_the_recipe_divides_the_rows(share, rows):
    module = setting(make_source(), share).model.prompt
    assert len(module.query) == rows
    assert len(module.target) == 4 - rows
    assert module(None).shape == (1, 4, 32)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_it_bridges_widths_and_leaves_dead_rows(share):
    source = make_source(16)
    dead = source.card.prompt.model_copy(update={"dead_rows": (0, 2)})
    source = SoftPrompt(source.tensor, source.card.model_copy(update={"prompt": dead}))
    recipe = FAST.model_copy(update={"source_share": share})
    adapted = transfer(source, make_backbone(), make_task(), method="attention", recipe=recipe)
    assert adapted.prompt.tensor.shape == (1, 2, 32)
    assert adapted.prompt.card.training.recipe["source_share"] == share
    assert adapted.prompt.card.parents == (source.id,)


def test_every_part_is_trained():
    source = make_source()
    recipe = FAST.model_copy(update={"keep": "last"})
    start = setting(source).model.prompt(None)
    adapted = transfer(source, make_backbone(), make_task(), method="attention", recipe=recipe)
    assert ((adapted.prompt.tensor - start).abs().amax(2) > 1e-3).all()


def test_deep_sources_are_refused():
    deep = make_source(layers="deep")
    with pytest.raises(CompatibilityError, match=r"'text/source0' is deep \(3 layers\); attention .* initial"):
        transfer(deep, make_backbone(), make_task(), method="attention")
    with pytest.raises(CompatibilityError, match="prompt 'x' is deep"):
        attention.fits(make_backbone(), 3, 32, "prompt 'x'")
    attention.fits(make_backbone(), 1, 7, "prompt 'x'")
