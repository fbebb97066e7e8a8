import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import (
    Adjacency,
    bipartite_adjacency,
    layer_mean,
    normalized_layer_mean,
    spmm,
    use_column_blocks,
)
from genrec_pyg.ops.column_blocks import cache_bytes, column_block, processes_of_machine


@pytest.fixture(autouse=True)
def restored():
    yield
    use_column_blocks(None)


@pytest.mark.parametrize('width', [1, 7, 8, 16, 24, 100])
@pytest.mark.parametrize('function', ['spmm', 'layer_mean', 'normalized_layer_mean'])
def test_every_width_has_the_same_bits(function, width):
    generator = torch.Generator().manual_seed(0)
    edges = torch.stack(
        [
            torch.randint(50, (400,), generator=generator),
            torch.randint(30, (400,), generator=generator),
        ]
    )
    adj = bipartite_adjacency(edges, 50, 30, self_loops=True)
    call = {
        'spmm': lambda x: spmm(adj, x),
        'layer_mean': lambda x: layer_mean(adj, x, 2),
        'normalized_layer_mean': lambda x: normalized_layer_mean(adj, x, 2),
    }[function]
    x = torch.randn(80, 24, generator=generator)
    weight = torch.randn(80, 24, generator=generator)
    results = []
    for chosen in (0, width):
        use_column_blocks(chosen)
        leaf = x.clone().requires_grad_()
        out = call(leaf)
        out.backward(weight)
        results.append((out.detach(), leaf.grad))
    assert all(torch.equal(a, b) for a, b in zip(*results))


def test_blocks_are_taken_where_the_table_leaves_the_cache(monkeypatch):
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '1')
    monkeypatch.setattr('genrec_pyg.ops.column_blocks.cache_bytes', lambda: 30_000)
    assert column_block(10, 64) == 64  # fits as it is
    assert (
        column_block(200, 64) == 16 and column_block(200, 12) == 12 and column_block(600, 64) == 8
    )
    assert column_block(10**6, 64) == 64  # nothing fits
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '4')  # which share the cache
    assert column_block(100, 64) == 8
    use_column_blocks(4)
    assert column_block(10, 64) == 4 and column_block(10, 3) == 3


def test_sizes_come_from_the_system(monkeypatch):
    cache_bytes.cache_clear()
    assert cache_bytes() >= 8 * 2**20
    for text, number in (('3', 3), ('none', 1), ('0', 1)):
        monkeypatch.setenv('LOCAL_WORLD_SIZE', text)
        assert processes_of_machine() == number


def test_an_empty_matrix_and_a_negative_width():
    use_column_blocks(2)
    empty = Adjacency.from_edge_index(torch.empty(2, 0, dtype=torch.long), size=(0, 4))
    assert spmm(empty, torch.randn(4, 5)).shape == (0, 5)
    with pytest.raises(ConfigError, match='column_block: got -1'):
        use_column_blocks(-1)
