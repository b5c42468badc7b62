import math

import pytest
import torch
import torch.nn.functional as F

from promptgraft.tuning.head import LinearGrid, class_weights, fit_linear_grid, standardization
from promptgraft.tuning.prompted import Head

pytestmark = pytest.mark.usefixtures("own_cache", "one_thread")

RATES, DECAYS, SEEDS = (0.1, 0.03, 0.004), (0.05, 0.0), (0, 3)
N, D, C = 37, 6, 3
DOUBLE = torch.float64


def data(n=N, dim=D, seed=0, dtype=DOUBLE):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(C, (n,), generator=generator)
    features = torch.randn(n, dim, generator=generator, dtype=dtype) * 3 + 5
    features[:, 0] += 2 * labels
    return features, labels


def literal(features, labels, rate, decay, seed, *, epochs, batch_size, class_balanced=False, label_smoothing=0.0):
    """One setting by autograd and torch.optim.SGD, one example batch after another."""
    x = (features - features.mean(0)) / features.std(0, correction=0)
    weight = torch.zeros(C, x.shape[1], dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(C, dtype=x.dtype, requires_grad=True)
    groups = [{"params": [weight], "weight_decay": decay}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)
    counts = labels.bincount(minlength=C)
    importance = len(labels) / ((counts > 0).sum() * counts[labels]) if class_balanced else torch.ones(len(labels))
    steps, step = epochs * math.ceil(len(x) / batch_size), 0
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(batch_size):
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            logits = x[rows] @ weight.T + bias
            losses = F.cross_entropy(logits, labels[rows], reduction="none", label_smoothing=label_smoothing)
            optimizer.zero_grad()
            (losses * importance[rows]).mean().backward()
            optimizer.step()
            step += 1
    return weight.detach(), bias.detach()


def fit(features, labels, selection=None, **options) -> LinearGrid:
    options = {
        "learning_rates": RATES,
        "weight_decays": DECAYS,
        "seeds": SEEDS,
        "epochs": 4,
        "batch_size": 8,
    } | options
    return fit_linear_grid(features, labels, selection or data(21, seed=1), C, **options)


@pytest.mark.parametrize(
    "options",
    [{}, {"class_balanced": True}, {"label_smoothing": 0.2}, {"class_balanced": True, "label_smoothing": 0.1}],
)
def test_every_setting_and_seed_equals_the_literal_loop(options):
    features, labels = data()
    labels[labels == 2] = torch.where(torch.arange(int((labels == 2).sum())) < 3, 2, 0)  # a rare class
    chosen_features, chosen_labels = data(21, seed=1)
    grid = fit(features, labels, **options)
    assert grid.accuracy.shape == grid.loss.shape == (2, 3, 2)
    mean, scale = features.mean(0), features.std(0, correction=0)
    for s, seed in enumerate(SEEDS):
        for r, rate in enumerate(RATES):
            for w, decay in enumerate(DECAYS):
                weight, bias = literal(features, labels, rate, decay, seed, epochs=4, batch_size=8, **options)
                logits = (chosen_features - mean) / scale @ weight.T + bias
                torch.testing.assert_close(
                    grid.loss[s, r, w], F.cross_entropy(logits, chosen_labels), rtol=1e-10, atol=0
                )
                assert grid.accuracy[s, r, w] == (logits.argmax(1) == chosen_labels).double().mean()
                if grid.best[s] == (rate, decay):
                    torch.testing.assert_close(grid.heads[s].weight.data, weight, rtol=1e-9, atol=1e-12)
                    torch.testing.assert_close(grid.heads[s].bias.data, bias, rtol=1e-9, atol=1e-12)


def test_the_best_setting_is_chosen_and_ties_go_to_the_lower_loss():
    features, labels = data()
    grid = fit(features, labels)
    for s in range(len(SEEDS)):
        accuracy, loss = grid.accuracy[s], grid.loss[s]
        best = RATES.index(grid.best[s][0]), DECAYS.index(grid.best[s][1])
        assert accuracy[best] == accuracy.max()
        assert loss[best] == loss[accuracy == accuracy.max()].min()
    # selection of one example: every setting that is right about it ties
    tied = fit(features, labels, (features[:1], labels[:1]))
    assert (tied.accuracy == 1).sum() > 1
    for s in range(len(SEEDS)):
        best = RATES.index(tied.best[s][0]), DECAYS.index(tied.best[s][1])
        assert tied.loss[s][best] == tied.loss[s].min()


def test_a_setting_that_diverged_is_not_chosen():
    features, labels = data()
    grid = fit(features, labels, learning_rates=(1e200, 0.03), weight_decays=(1e200, 1e-3))
    assert (grid.accuracy.flatten(1) == -1).tolist() == [[True, True, True, False]] * 2
    assert grid.best == ((0.03, 1e-3),) * 2
    alone = fit(features, labels, learning_rates=(0.03,), weight_decays=(1e-3,))
    torch.testing.assert_close(grid.loss[:, 1, 1], alone.loss[:, 0, 0])  # untouched by its neighbours


def test_all_diverged_is_an_error():
    features, labels = data()
    with pytest.raises(ValueError, match="every setting"):
        fit(features, labels, learning_rates=(1e200,), weight_decays=(1e200,))
    features[0, 0] = torch.nan
    with pytest.raises(ValueError, match="every setting"):
        fit(features, labels)


def test_constant_columns_carry_nothing():
    features, labels = data(dtype=torch.float32)
    chosen = data(21, seed=1, dtype=torch.float32)
    wider = [
        torch.cat([x, x.new_full((len(x), 1), 1234.567), x.new_zeros(len(x), 1)], 1) for x in (features, chosen[0])
    ]
    plain, padded = fit(features, labels, chosen), fit(wider[0], labels, (wider[1], chosen[1]))
    assert padded.best == plain.best
    torch.testing.assert_close(padded.loss, plain.loss, rtol=1e-3, atol=1e-4)
    weight, bias = padded.heads[0].folded()
    torch.testing.assert_close(wider[1] @ weight.T + bias, padded.heads[0](wider[1]).detach(), rtol=1e-4, atol=1e-4)


def test_standardization():
    features, _ = data()
    mean, scale = standardization(features)
    x = (features - mean) / scale
    torch.testing.assert_close(x.mean(0), torch.zeros(D, dtype=DOUBLE))
    torch.testing.assert_close(x.square().mean(0), torch.ones(D, dtype=DOUBLE))
    # a large column that differs by rounding alone is constant; small columns are data
    rounding = 1000 + 1e-4 * torch.rand(50, 1, generator=torch.Generator().manual_seed(0))
    assert standardization(rounding)[1].item() == 1
    assert (standardization(features * 1e-3)[1] < 0.1).all()


def test_class_weights_balance_the_classes():
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 3])
    weights = class_weights(labels, 5)
    assert weights[labels].mean() == pytest.approx(1)
    shares = [weights[labels][labels == c].sum().item() for c in (0, 1, 3)]
    assert shares == pytest.approx([7 / 3] * 3)
    assert weights.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_a_folded_head_is_the_same_map(dtype):
    generator = torch.Generator().manual_seed(0)
    mean, weight, bias, features = (
        torch.randn(*shape, generator=generator, dtype=dtype) for shape in ((D,), (C, D), (C,), (9, D))
    )
    head = Head(mean * 4, torch.rand(D, generator=generator, dtype=dtype) + 0.1, weight, bias)
    folded = head.folded()
    assert [value.dtype for value in folded] == [dtype, dtype]
    tolerance = 1e-12 if dtype == DOUBLE else 1e-4
    torch.testing.assert_close(
        features @ folded[0].T + folded[1], head(features).detach(), rtol=tolerance, atol=tolerance
    )


def test_a_head_takes_features_of_another_precision():
    features, labels = data(dtype=torch.float32)
    head = fit(features, labels, data(21, seed=1, dtype=torch.float32)).heads[0]
    torch.testing.assert_close(head(features.double()), head(features))
