import pytest
import torch

from promptgraft.initialization.pooling import StreamingPool


@pytest.mark.parametrize("pieces", [1, 4, 17, 100])
@pytest.mark.parametrize(("total", "count"), [(100, 7), (12, 4), (5, 5), (99, 50), (30, 1)])
@pytest.mark.parametrize("kind", ["mean", "max"])
def test_it_is_the_loop_over_windows(kind, total, count, pieces):
    rows = torch.randn(total, 6, generator=torch.Generator().manual_seed(0)) - 3
    window = total // count
    expected = []
    for k in range(count):
        values = [[float(rows[k * window + j, d]) for j in range(window)] for d in range(6)]
        expected.append([max(column) if kind == "max" else sum(column) / window for column in values])
    pool = StreamingPool(kind, count, total)
    for piece in rows.split(pieces):
        pool.add(piece)
    torch.testing.assert_close(pool.result(), torch.tensor(expected, dtype=torch.float32), rtol=1e-6, atol=1e-7)
