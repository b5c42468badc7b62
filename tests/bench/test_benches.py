"""Every bench at its smallest: ours equals the baseline, and a wrong result of ours would show. Nothing timed."""

import pytest

from promptgraft import transferability
from promptgraft.backbones.transformer import TransformerBackbone
from promptgraft.bench import base
from promptgraft.bench.base import BENCHES, compare
from promptgraft.initialization import prototypes
from promptgraft.transfer import ensemble, relative
from promptgraft.tuning import head

TOLERANCE = 1e-5


@pytest.mark.parametrize("name", BENCHES)
def test_ours_equals_the_baseline(name):
    rows = BENCHES[name]("smoke")
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert row.name.startswith(name)
        assert row.error < TOLERANCE or not row.exact
        assert min(row.seconds, row.baseline_seconds, row.ratio) > 0
        assert row.floor is None or row.floor > 0


def wrong_run(monkeypatch):
    run = TransformerBackbone.run
    monkeypatch.setattr(TransformerBackbone, "run", lambda *arguments: run(*arguments) * 1.001)


def wrong_momentum(monkeypatch):
    monkeypatch.setattr(head, "MOMENTUM", 0.89)


def wrong_gap(monkeypatch):
    gap = transferability.modality_gap
    monkeypatch.setattr(transferability, "modality_gap", lambda *a, **options: gap(*a, **options, unbiased=True))


def wrong_task_gap(monkeypatch):
    gap = transferability.task_gap
    monkeypatch.setattr(transferability, "task_gap", lambda *a, **options: gap(*a, **options, weight_decay=0.2))


def wrong_shrinkage(monkeypatch):
    shrunk = ensemble.ledoit_wolf
    monkeypatch.setattr(ensemble, "ledoit_wolf", lambda *arguments: 0.5 * shrunk(*arguments))


def wrong_activations(monkeypatch):
    run = TransformerBackbone.neuron_activations
    monkeypatch.setattr(TransformerBackbone, "neuron_activations", lambda self, prompts: run(self, 1.1 * prompts))


def wrong_evidence(monkeypatch):
    score = transferability.log_me
    monkeypatch.setattr(transferability, "log_me", lambda features, labels: score(features + 1, labels))


def wrong_match(monkeypatch):
    match = relative.relative_match
    monkeypatch.setattr(relative, "relative_match", lambda *a, **options: match(*a, **options, ridge=0.1))


def wrong_prototypes(monkeypatch):
    make = prototypes.prototypes
    monkeypatch.setattr(prototypes, "prototypes", lambda *a, **options: make(*a, **options, tokens_of="last"))


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("deep-prompt", wrong_run),
        ("shallow-prompt", wrong_run),
        ("text-prompt", wrong_run),
        ("frozen-features", wrong_momentum),
        ("linear-grid", wrong_momentum),
        ("labelled", wrong_evidence),
        ("modality-gap", wrong_gap),
        ("neuron-overlap", wrong_activations),
        ("task-gap", wrong_task_gap),
        ("prototypes", wrong_prototypes),
        ("relative-search", wrong_match),
        ("ensemble", wrong_shrinkage),
    ],
)
def test_a_wrong_result_shows_in_the_error(name, spoil, monkeypatch):
    spoil(monkeypatch)
    assert max(row.error for row in BENCHES[name]("smoke")) > TOLERANCE


def test_rounds_alternate_and_the_one_of_median_ratio_counts(monkeypatch):
    now, order = [0.0], []
    monkeypatch.setattr(base.time, "perf_counter", lambda: now[0])

    def work(name, durations):
        left = iter(durations)

        def run():
            order.append(name)
            now[0] += next(left)

        return run

    row = compare(
        "x",
        "loop",
        work("ours", [8, 1, 2]),
        work("theirs", [6, 3, 9]),
        error=0.5,
        rounds=3,
        share=0.25,
        note="n",
        operations=0,
    )
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert (row.seconds, row.baseline_seconds, row.ratio) == (1, 12, 12)  # the ratios are 3, 12 and 18
    assert (row.name, row.baseline, row.error, row.note) == ("x", "loop", 0.5, "n")
