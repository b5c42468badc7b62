import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from promptgraft.initialization.kmeans import StreamingKMeans


def images_of_tokens(seed, count=100, tokens=80, dim=16, kinds=25):
    """Tokens (count x tokens, D) of images: unequal clusters of unequal spread, and an offset for each image."""
    random = np.random.default_rng(seed)
    centres, spread = 3 * random.normal(size=(kinds, dim)), np.exp(random.normal(size=(kinds, dim)) / 2)
    kind = random.choice(kinds, size=count * tokens, p=random.dirichlet(np.full(kinds, 2)))
    rows = 20 + centres[kind] + spread[kind] * random.normal(size=(count * tokens, dim))
    return torch.from_numpy(rows + np.repeat(random.normal(size=(count, dim)), tokens, 0)).float()


def inertia(rows, centres):
    return float(torch.cdist(rows.double(), centres.double()).min(1).values.square().sum())


def stream(rows, count, pieces=None, **options):
    clusters = StreamingKMeans(count, **options)
    for piece in [rows] if pieces is None else rows.split(pieces):
        clusters.add(piece)
    return clusters.result()


@pytest.mark.parametrize("block", [1024, 8192])
@pytest.mark.parametrize("seed", range(3))
def test_inertia_is_that_of_full_k_means(seed, block):
    rows = images_of_tokens(seed)
    full = KMeans(20, random_state=0).fit(rows.numpy()).inertia_
    centres = stream(rows, 20, block=block)
    assert inertia(rows, centres) < 1.03 * full
    assert inertia(rows, rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:20]]) > 1.3 * full


def test_a_short_stream_ends_where_lloyd_ends():
    rows = images_of_tokens(0, count=20)
    centres = stream(rows, 5)
    further = KMeans(5, init=centres.numpy(), n_init=1).fit(rows.numpy()).inertia_
    assert 0.99 * inertia(rows, centres) < further


def test_later_blocks_move_a_centre_to_the_mean_of_all_that_joined():
    random = torch.Generator().manual_seed(0)
    sides = torch.tensor([-100.0, 100.0])[torch.randint(2, (700,), generator=random)]
    rows = sides[:, None] + torch.randn(700, 3, generator=random, dtype=torch.float32)
    centres = stream(rows, 2, block=64)
    expected = torch.stack([rows[sides == side].mean(0) for side in (-100, 100)])
    torch.testing.assert_close(centres[centres[:, 0].argsort()], expected, rtol=1e-5, atol=1e-4)


def test_where_a_stream_is_cut_changes_no_bit():
    rows = images_of_tokens(1, count=40)
    whole = stream(rows, 7, block=500)
    assert all(torch.equal(stream(rows, 7, pieces, block=500), whole) for pieces in (1, 33, 500, 1300))
    assert torch.equal(stream(rows, 7, block=500), whole)
    assert not torch.equal(stream(rows, 7, block=500, seed=1), whole)


def test_no_more_than_a_block_is_held():
    clusters = StreamingKMeans(4, block=64)
    for _ in range(50):
        clusters.add(torch.randn(100, 3))
    held = sum(value.numel() for value in vars(clusters).values() if isinstance(value, torch.Tensor))
    assert clusters.seen == 5000
    assert held <= 64 * 3 + 4 * 3 + 4 + 3


def test_an_offset_drowns_nothing():
    rows = images_of_tokens(2, count=20)
    near, far = stream(rows, 6), stream(rows + 4096, 6) - 4096
    assert inertia(rows, far) < 1.05 * inertia(rows, near)


def test_a_centre_without_rows_moves_to_a_far_one():
    few = torch.tensor([[0.0, 0.0], [1.0, 0.0]]).repeat(16, 1)
    later = torch.tensor([[50.0, 0.0], [0.0, 0.0]]).repeat(16, 1)
    centres = stream(torch.cat([few, later, later]), 3, block=32)  # the first block has two distinct rows
    assert torch.cdist(torch.tensor([[0.0, 0.0], [50.0, 0.0]]), centres).min(1).values.max() < 1


def test_equal_rows_give_equal_centres():
    assert torch.equal(stream(torch.ones(9, 2), 4), torch.ones(4, 2))
