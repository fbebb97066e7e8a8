import pytest
import torch

from genrec_pyg.nn.conv.functional import (
    half_mean,
    layer_outputs,
    propagate_once,
    spmm_blocks,
    stream_means,
)
from genrec_pyg.ops import bipartite_adjacency, bipartite_block, layer_mean

EDGES = torch.tensor([[0, 0, 1, 2, 3], [0, 1, 1, 3, 0]])  # user 4 and item 2 isolated
WHOLE = bipartite_adjacency(EDGES, 5, 4, self_loops=False).to(torch.float64)
BLOCK = bipartite_block(EDGES, 5, 4, self_loops=False).to(torch.float64)


@pytest.mark.parametrize('num_layers', [0, 1, 2, 3, 4])
def test_two_half_chains_are_the_whole(num_layers):
    users, items = torch.randn(5, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    own_users, to_items = half_mean(BLOCK.t(), users, num_layers)
    own_items, to_users = half_mean(BLOCK, items, num_layers)
    expected = layer_mean(WHOLE, torch.cat([users, items]), num_layers)
    assert torch.allclose(
        torch.cat([own_users + to_users, own_items + to_items]), expected, atol=1e-12
    )


def test_linear_features_are_propagated_once():
    x, weight, bias = (
        torch.randn(*shape, dtype=torch.float64) for shape in ((4, 6), (6, 3), (1, 3))
    )
    mask = torch.tensor([[1.0], [1.0], [0.0], [1.0]], dtype=torch.float64)
    expected = half_mean(BLOCK, x @ weight + mask * bias, 3)
    found = (part @ torch.cat([weight, bias]) for part in propagate_once(BLOCK, x, mask, 3))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(found, expected))


def test_layers_may_have_graphs_of_their_own():
    other = WHOLE.with_value(2 * WHOLE.value, symmetric=True)
    x = torch.randn(9, 2, dtype=torch.float64)
    layers = layer_outputs(x, [WHOLE, other])
    assert len(layers) == 3 and layers[0] is x
    assert torch.allclose(layers[2], 2 * (WHOLE @ (WHOLE @ x)))


@pytest.mark.parametrize('num_layers', [0, 1, 2, 3])
def test_streams_that_share_users_equal_the_plain_mean(num_layers):
    users = torch.randn(5, 3, dtype=torch.float64)
    streams = [torch.randn(4, 3, dtype=torch.float64) for _ in range(3)]
    found = torch.cat(stream_means(BLOCK, users, streams, num_layers))
    for stream, items in enumerate(streams):
        expected = layer_mean(WHOLE, torch.cat([users, items]), num_layers)
        assert torch.allclose(found[:, stream], expected, atol=1e-12)


def test_blocks_of_one_product_are_products_of_their_own():
    blocks = [torch.randn(4, width, dtype=torch.float64) for width in (3, 1, 2)]
    assert all(torch.allclose(a, BLOCK @ b) for a, b in zip(spmm_blocks(BLOCK, blocks), blocks))
