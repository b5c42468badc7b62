"""The closed form against the paper's own search, steps of Adam, and what it must give back exactly."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from promptgraft.errors import CompatibilityError, InputError
from promptgraft.transfer import relative_search
from promptgraft.transfer.relative import normalised, relative_match

WORDS, WIDTHS, TARGET = 300, (20, 16), 24


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    pass


@pytest.fixture(scope="module")
def spaces():
    """Prompts and anchors of two sources, and the target's anchors: noisy views of one meaning, off centre."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    meaning = draw(WORDS, 24)
    prompts = [draw(6, width) for width in WIDTHS]
    anchors = [meaning @ draw(24, width) + 0.3 * draw(WORDS, width) + 0.5 for width in (*WIDTHS, TARGET)]
    return prompts, anchors[:2], anchors[2]


def relations(prompts, sources, target, top_k, absolute):
    """Masked source relations, and a function from target rows to their mean cosine with them, all literal."""
    pairs = []
    for prompt, anchors in zip(prompts, sources, strict=True):
        relation = torch.cosine_similarity(prompt[:, None], anchors[None], dim=2)
        mask = torch.zeros_like(relation)
        for row, values in zip(mask, relation.abs() if absolute else relation, strict=True):
            row[sorted(range(WORDS), key=lambda k: -values[k])[:top_k]] = 1
        pairs.append((relation * mask, mask))
    unit = F.normalize(target, dim=1)

    def cosines(v):
        own = F.normalize(v, dim=1) @ unit.T
        return torch.stack([torch.cosine_similarity(wanted, own * mask, dim=1) for wanted, mask in pairs]).mean(0)

    return cosines


def adam(cosines, rows, steps=2000):
    """The paper's search."""
    v = torch.nn.init.xavier_normal_(torch.empty(rows, TARGET, dtype=torch.float64), generator=torch.Generator())
    optimizer = torch.optim.Adam([v.requires_grad_()], lr=5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        (1 - cosines(v)).mean().backward()
        optimizer.step()
    return cosines(v).detach()


@pytest.mark.parametrize("count", [1, 2], ids=["one source", "two sources"])
@pytest.mark.parametrize(("top_k", "absolute"), [(WORDS, False), (100, False), (40, True)])
def test_no_search_does_better(spaces, count, top_k, absolute):
    prompts, sources, target = spaces
    match = relative_match(prompts[:count], sources[:count], target, top_k=top_k, absolute=absolute)
    cosines = relations(prompts[:count], sources[:count], target, top_k, absolute)
    assert torch.allclose(match.cosines, cosines(match.rows), atol=1e-12)
    assert torch.allclose(match.rows.norm(dim=1), torch.ones(6, dtype=torch.float64))
    searched = adam(cosines, 6)
    assert (match.cosines >= searched - 1e-5).all()
    assert searched.mean() > match.cosines.mean() - 0.01  # the oracle did search

    v = match.rows.clone().requires_grad_()  # and nothing near does better: the gradient is zero
    (gradient,) = torch.autograd.grad(cosines(v).sum(), v)
    assert gradient.norm(dim=1).max() < 1e-4


@pytest.mark.parametrize(("top_k", "absolute"), [(WORDS, False), (60, False), (60, True)])
def test_a_model_gets_its_own_rows_back(spaces, top_k, absolute):
    (prompt, _), (anchors, _), _ = spaces
    match = relative_match(prompt, anchors, anchors, top_k=top_k, absolute=absolute)
    assert torch.cosine_similarity(match.rows, prompt, dim=1).min() > 0.999
    assert match.cosines.min() > 1 - 1e-9


def test_sources_with_one_mask_are_one_source_with_the_sum_of_their_unit_relations(spaces):
    prompts, sources, target = spaces
    unit = F.normalize(target, dim=1)
    total = sum(F.normalize(F.normalize(p) @ F.normalize(a).T) for p, a in zip(prompts, sources, strict=True))
    expected = F.normalize(torch.linalg.lstsq(unit, total.T).solution.T)
    assert torch.allclose(relative_match(prompts, sources, target).rows, expected, atol=1e-9)


def test_explained_is_the_share_of_the_whole_relation(spaces):
    (prompt, _), (anchors, _), target = spaces
    whole = F.normalize(prompt) @ F.normalize(anchors).T
    match = relative_match(prompt, anchors, target)
    unit = F.normalize(target)
    fit = torch.linalg.lstsq(unit, whole.T).solution.T @ unit.T
    assert torch.allclose(match.explained, (fit.norm(dim=1) / whole.norm(dim=1)) ** 2, atol=1e-9)
    assert (relative_match(prompt, anchors, target, top_k=40).explained < match.explained).all()


def test_normalisation_gives_the_moments_of_the_embeddings(spaces):
    (prompt, _), (anchors, _), target = spaces
    found = relative_search(prompt, anchors, target)
    assert found.mean().item() == pytest.approx(target.mean().item())
    assert found.std(correction=0).item() == pytest.approx(target.std(correction=0).item())
    plain = relative_search(prompt, anchors, target, normalise=False)
    assert torch.allclose(normalised(plain, target), found)
    assert torch.allclose(plain, relative_match(prompt, anchors, target).rows)


def test_numpy_in_numpy_out_and_no_scale_matters(spaces):
    (prompt, _), (anchors, _), target = spaces
    arrays = [(3 * prompt).numpy().astype(np.float32), (5 * anchors).numpy().astype(np.float32), target.numpy()]
    found = relative_search(*arrays, top_k=100, normalise=False)
    assert isinstance(found, np.ndarray)
    assert np.allclose(found, relative_search(prompt, anchors, target, top_k=100, normalise=False), atol=1e-5)


def test_a_ridge_serves_where_anchors_are_few(spaces):
    (prompt, _), (anchors, _), target = spaces
    for options in ({"top_k": TARGET - 1}, {}):
        few = slice(None) if options else slice(TARGET - 1)
        with pytest.raises(InputError, match=r"23 anchors count .* 24 dimensions.*ridge such as 0.1"):
            relative_match(prompt, anchors[few], target[few], **options)
        assert relative_match(prompt, anchors[few], target[few], **options, ridge=0.1).cosines.min() > 0.5
    with pytest.raises(InputError, match=r"leave dimensions of it open.*ridge"):
        relative_match(prompt, anchors, target[:12].repeat(25, 1))
    unit = F.normalize(target)
    relation = F.normalize(prompt) @ F.normalize(anchors).T
    penalty = 0.5 * WORDS / TARGET * torch.eye(TARGET, dtype=torch.float64)
    expected = F.normalize(torch.linalg.solve(unit.T @ unit + penalty, unit.T @ relation.T).T)
    assert torch.allclose(relative_match(prompt, anchors, target, ridge=0.5).rows, expected, atol=1e-9)
    masked = relation * torch.zeros_like(relation).scatter_(1, relation.topk(100, dim=1).indices, 1)
    for row, values in zip(relative_match(prompt, anchors, target, ridge=0.5, top_k=100).rows, masked, strict=True):
        its = unit[values != 0]
        system = its.T @ its + 0.5 * 100 / TARGET * torch.eye(TARGET, dtype=torch.float64)
        solution = torch.linalg.solve(system, its.T @ values[values != 0])
        assert torch.allclose(row, F.normalize(solution, dim=0), atol=1e-4)


def test_what_cannot_be_searched_is_refused(spaces):
    (prompt, other), (anchors, _), target = spaces
    with pytest.raises(InputError, match="as wide as its anchors"):
        relative_search(other, anchors, target)
    with pytest.raises(InputError, match="all models have the same anchors"):
        relative_search(prompt, anchors[1:], target)
    with pytest.raises(InputError, match="2 prompts, 1 sets"):
        relative_search([prompt, prompt], [anchors], target)
    with pytest.raises(CompatibilityError, match="prompt 1 has 5 rows, prompt 0 has 6"):
        relative_search([prompt, prompt[1:]], [anchors, anchors], target)
    with pytest.raises(InputError, match="row 2 of prompt 0 is zero or not finite"):
        relative_search(prompt * (torch.arange(6) != 2)[:, None], anchors, target)
    with pytest.raises(InputError, match="top_k must be 1 or more"):
        relative_search(prompt, anchors, target, top_k=0)
    with pytest.raises(InputError, match="ridge must be 0 or more"):
        relative_search(prompt, anchors, target, ridge=-1.0)
    with pytest.raises(InputError, match="must be floats"):
        relative_search(prompt.long(), anchors, target)
