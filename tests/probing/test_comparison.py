"""Prompts carried from model to model, side by side with their rivals."""

import math

import pytest
import torch
import torch.nn.functional as F

import promptgraft as pg
from probing.probers import FAMILIES, prober, tiny_facts
from promptgraft.errors import CompatibilityError, InputError
from promptgraft.probing import comparison
from promptgraft.probing.candidates import shared_candidates
from promptgraft.probing.comparison import METHODS, Way, compare_facts
from promptgraft.probing.scoring import prompt_rows, score_facts
from promptgraft.probing.tuning import FactRecipe, random_prompts, tune_facts
from promptgraft.transfer.anchors import shared_anchors, word_embeddings
from promptgraft.transfer.convert import convert_each
from promptgraft.transfer.relative import matching_cosine

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")
RECIPE = FactRecipe(prompt_length=2, lr=0.05, epochs=2)


def tuned(family, seed=0):
    backbone = prober(family, seed, "float32")
    facts, candidates = shared_candidates(tiny_facts(2, (6, 3, 12)), [backbone])
    return backbone, facts, candidates, tune_facts(backbone, facts, candidates, recipe=RECIPE)


@pytest.mark.parametrize("family", FAMILIES)
def test_self_transfer_gives_the_prompt_back(family):
    backbone, facts, candidates, own = tuned(family)
    made = convert_each(own, source=backbone, target=backbone, normalise=False)
    before, after = prompt_rows(own, facts), prompt_rows(made, facts)
    assert F.cosine_similarity(before, after, dim=2).min() > 0.999  # a relation fixes directions only
    for prompt in made:
        assert prompt.card.prompt.init_args["matching_cosine"]["lowest"] > 0.999
        assert (prompt.card.prompt.position, prompt.card.prompt.pool) == ("before_answer", "answer")
    at_length = after * before.norm(dim=2, keepdim=True)
    ours, theirs = (score_facts(backbone, facts, candidates, rows) for rows in (at_length, before))
    assert all((ours.correct[name] == theirs.correct[name]).all() for name in ours.correct)


def test_a_prompt_that_keeps_its_spread_comes_back_as_it_was():
    backbone, _, _, own = tuned("bert")
    words = word_embeddings(backbone)
    for prompt, made in zip(own, convert_each(own, source=backbone, target=backbone, keep_spread=True), strict=True):
        rows, found = prompt.rows(), made.rows()
        assert found.std(correction=0).item() == pytest.approx(rows.std(correction=0).item(), rel=1e-5)
        assert found.mean().item() == pytest.approx(words.mean().item(), abs=1e-6)
        plain = pg.convert(prompt, source=backbone, target=backbone).rows()
        ratio = (rows.std(correction=0) / words.std(correction=0)).item()
        torch.testing.assert_close(found - words.mean(), (plain - words.mean()) * ratio, rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="keep_spread changes what normalising aims at"):
        pg.convert(own[0], source=backbone, target=backbone, keep_spread=True, normalise=False)


def test_several_sources_keep_the_mean_of_their_spreads():
    (one, _, _, first), (two, _, _, second) = tuned("bert"), tuned("bert", 1)
    made = pg.convert([first[0], second[0]], source=[one, two], target=one, keep_spread=True).rows()
    ratios = [
        (prompt.rows().std(correction=0) / word_embeddings(model).std(correction=0)).item()
        for prompt, model in ((first[0], one), (second[0], two))
    ]
    wanted = word_embeddings(one).std(correction=0).item() * sum(ratios) / 2
    assert made.std(correction=0).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("method", ["relative", "discretization", "copy", "neural-projector"])
def test_prompts_are_converted_at_once_as_each_alone(method):
    backbone, _, _, own = tuned("bert")
    target = prober("roberta", dtype="float32")
    for prompt, made in zip(own, convert_each(own, source=backbone, target=target, method=method), strict=True):
        alone = pg.convert(prompt, source=backbone, target=target, method=method)
        torch.testing.assert_close(made.tensor, alone.tensor, rtol=1e-4, atol=1e-5)
        assert made.card.parents == (prompt.id,)
        ours, theirs = (each.card.prompt.init_args for each in (made, alone))
        assert list(ours) == list(theirs)
        assert {key: value for key, value in ours.items() if not isinstance(value, dict)} == {
            key: value for key, value in theirs.items() if not isinstance(value, dict)
        }
    with pytest.raises(CompatibilityError, match="must be of one length, got none"):
        convert_each([], source=backbone, target=target)


def test_several_sources_are_carried_as_by_convert():
    (one, _, _, first), (other, _, _, second) = tuned("bert"), tuned("bert", 1)
    target, owns = prober("roberta", dtype="float32"), [first, second]
    together = convert_each(list(zip(*owns, strict=True)), source=[one, other], target=target, top_k=40)
    for pair, made in zip(zip(*owns, strict=True), together, strict=True):
        alone = pg.convert(pair, source=[one, other], target=target, top_k=40)
        torch.testing.assert_close(made.tensor, alone.tensor, rtol=1e-4, atol=1e-5)
        assert made.card.parents == tuple(each.id for each in pair)
    with pytest.raises(InputError, match="needs the model it was tuned on; got 1 and 2"):
        convert_each(owns[0], source=[one, other], target=target)
    with pytest.raises(InputError, match="'copy' takes one prompt, got 2"):
        convert_each(list(zip(*owns, strict=True)), source=[one, other], target=target, method="copy")


def test_the_matching_loss_is_the_papers():
    generator = torch.Generator().manual_seed(0)
    prompt, own = torch.randn(2, 5, generator=generator), torch.randn(9, 5, generator=generator)
    rows, other = torch.randn(2, 4, generator=generator), torch.randn(9, 4, generator=generator)
    found = matching_cosine(prompt, rows, own, other, top_k=6)
    for i in range(2):
        relation = [float(F.cosine_similarity(prompt[i].double(), each.double(), dim=0)) for each in own]
        reached = [float(F.cosine_similarity(rows[i].double(), each.double(), dim=0)) for each in other]
        counted = sorted(range(9), key=lambda k: -relation[k])[:6]
        dot = sum(relation[k] * reached[k] for k in counted)
        sizes = math.sqrt(sum(relation[k] ** 2 for k in counted) * sum(reached[k] ** 2 for k in counted))
        assert found[i].item() == pytest.approx(dot / sizes, abs=1e-6)


def test_all_ways_stand_side_by_side():
    source, target = prober("bert", dtype="float32"), prober("roberta", dtype="float32")
    found = compare_facts(tiny_facts(2, (6, 3, 12)), [source], [target, source], recipe=RECIPE, command="a command")
    assert [row.method for row in found.rows] == [*METHODS[4:], *METHODS[:4]] * 2
    for row in found.rows:
        flat = row.flat()
        assert flat["n"] == 12 + 12
        assert flat["low"] <= flat["accuracy"] <= flat["high"]
        assert set(flat["relations"]) == {"R0", "R1"}
        assert (row.source is None) == (row.matching_loss is None) == (row.method in METHODS[4:])
    rows = {(row.target, row.method): row for row in found.rows}
    mine, other = source.info.name, target.info.name
    assert rows[mine, "copy"].matching_loss == pytest.approx(0, abs=1e-9)
    assert rows[mine, "copy"].accuracy == rows[mine, "tuned"].accuracy
    assert rows[mine, "relative"].matching_loss < 0.05  # eq. 6 shifts the rows a little
    assert rows[other, "relative"].matching_loss < min(
        rows[other, name].matching_loss for name in ("copy", "discretization", "neural-projector")
    )
    assert len(found.prompts) == 2 * (2 + 2 * 4)  # tuned on both, carried four ways to both
    assert {prompt.card.command for prompt in found.prompts} == {"a command"}
    again = compare_facts(tiny_facts(2, (6, 3, 12)), [source], [target, source], recipe=RECIPE)
    assert again.rows == found.rows


def test_sources_together_stand_beside_each_alone():
    one, other = prober("bert", dtype="float32"), prober("albert", dtype="float32")
    target = prober("roberta", dtype="float32")
    ways = [Way("relative", {"top_k": 40}), "copy", "manual"]
    found = compare_facts(tiny_facts(), [one, (one, other)], [target], methods=ways, recipe=RECIPE)
    names = f"{one.info.name} + {other.info.name}"
    assert [(row.method, row.source) for row in found.rows] == [
        ("manual", None),
        ("relative", one.info.name),
        ("copy", one.info.name),
        ("relative", names),  # copy takes one source
    ]
    tuned_here = [prompt for prompt in found.prompts if not prompt.card.parents]
    owns = [[p for p in tuned_here if p.card.backbone.name == model.info.name] for model in (one, other)]
    pairs = list(zip(*owns, strict=True))
    made = convert_each(pairs, source=[one, other], target=target, top_k=40)
    anchors = shared_anchors(one, other, target)
    of_sources = [
        matching_cosine(
            torch.cat([pair[i].rows() for pair in pairs]),
            torch.cat([each.rows() for each in made]),
            anchors.embeddings[i],
            anchors.embeddings[-1],
            top_k=40,
        )
        for i in (0, 1)
    ]
    assert found.rows[-1].matching_loss == pytest.approx(1 - torch.stack(of_sources).mean().item(), abs=1e-6)
    with pytest.raises(InputError, match="needs a target, and a source"):
        compare_facts(tiny_facts(), [()], [target], recipe=RECIPE)


def test_rows_are_what_the_pieces_give():
    source, target = prober("bert", dtype="float32"), prober("albert", dtype="float32")
    options = {"top_k": 40, "normalise": False}
    ways = ["random", Way("relative", options, "as found")]
    found = compare_facts(tiny_facts(), [source], [target], methods=ways, recipe=RECIPE)
    assert [row.method for row in found.rows] == ["random", "as found"]
    facts, candidates = shared_candidates(tiny_facts(), [source, target])
    assert (found.facts, found.candidates) == (facts, candidates)
    own = tune_facts(source, facts, candidates, recipe=RECIPE)
    made = convert_each(own, source=source, target=target, **options)
    random = random_prompts(target, facts, word_embeddings(target), 2, 0)
    assert found.rows[0].accuracy == score_facts(target, facts, candidates, random).overall
    assert found.rows[1].accuracy == score_facts(target, facts, candidates, made).overall
    anchors = shared_anchors(source, target).embeddings
    rows = [torch.cat([prompt.tensor[0] for prompt in prompts]) for prompts in (own, made)]
    assert found.rows[1].matching_loss == pytest.approx(1 - matching_cosine(*rows, *anchors, top_k=40).mean().item())


def test_what_does_not_fit_is_noted_and_the_rest_done():
    source, target = prober("bert", dtype="float32"), prober("albert", dtype="float32")
    ways = ["copy", Way("relative", {"top_k": 3}), "discretization"]
    found = compare_facts(tiny_facts(), [source], [target], methods=ways, recipe=RECIPE)
    notes = {row.method: row.note for row in found.rows}
    assert "32 wide, backbone dir:" in notes["copy"]
    assert "3 anchors count" in notes["relative"]
    assert notes["discretization"] is None
    assert found.rows[0].accuracy is None


def test_models_without_a_source_are_not_tuned(monkeypatch):
    monkeypatch.setattr(comparison, "tune_facts", lambda *args, **options: pytest.fail("tuned"))
    target = prober("bert", dtype="float32")
    assert len(compare_facts(tiny_facts(), [], [target], methods=["manual", "random"]).rows) == 2


def test_bad_arguments_are_named():
    target = prober("bert", dtype="float32")
    with pytest.raises(InputError, match=r"no method named 'relativ'\. Did you mean 'relative'"):
        compare_facts(tiny_facts(), [target], [target], methods=["relativ"])
    with pytest.raises(InputError, match="'relative' has no option 'topk'"):
        compare_facts(tiny_facts(), [target], [target], methods=[Way("relative", {"topk": 3})])
    with pytest.raises(InputError, match="'manual' takes no options, got top_k"):
        compare_facts(tiny_facts(), [target], [target], methods=[Way("manual", {"top_k": 3})])
    with pytest.raises(InputError, match="needs a target, and a source"):
        compare_facts(tiny_facts(), [], [target])


@pytest.mark.real
def test_a_real_model_gets_its_own_prompts_back(monkeypatch):
    from promptgraft.probing.candidates import load_prober
    from promptgraft.tasks.facts import load_facts

    monkeypatch.delenv("PROMPTGRAFT_CACHE")
    model = load_prober("packs/bert-tiny-mlm")
    recipe = FactRecipe(epochs=4, lr=0.03)
    found = compare_facts(
        load_facts("facts/countries", limit=40), [model], [model], methods=["tuned", "relative"], recipe=recipe
    )
    tuned, relative = found.rows
    assert len(found.facts.relations) == 5
    assert relative.matching_loss < 0.01
    assert tuned.accuracy.value > 0.1  # continents and languages, of 23,694 words
    assert relative.accuracy.value > tuned.accuracy.value / 2
