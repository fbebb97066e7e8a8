"""Sampled neighborhoods: hand-worked ones, their expectation, and PyG's loader on them."""

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import NodeLoader

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.loader import LayerNeighborSampler
from genrec_pyg.ops import bipartite_adjacency, layer_mean
from genrec_pyg.utils.keyed import keyed_uniform, mix


@pytest.fixture(scope='module')
def adj():
    generator = torch.Generator().manual_seed(0)
    edges = torch.stack(
        [
            torch.randint(30, (150,), generator=generator),
            (torch.rand(150, generator=generator) ** 2 * 20).long(),
        ]
    )
    return bipartite_adjacency(edges, 31, 21, self_loops=False).to(torch.float64)


def rows(sampler, node, x, key=None):
    found = sampler.sample(node, key)
    weights = [1 / (sampler.num_layers + 1)] * (sampler.num_layers + 1)
    return found.weighted_sum(x[found.node], weights)


def test_what_stays_of_a_hand_worked_row():
    """Node 0 reads three neighbors, of which one is kept in expectation: those whose draw is below
    1/3, weighted by 3.
    """
    edges = torch.tensor([[0, 0, 0, 1], [0, 1, 2, 0]])
    adj = bipartite_adjacency(edges, 2, 3, self_loops=False)
    found = LayerNeighborSampler(adj, 1, 1).sample(torch.tensor([0]), key=4)
    kept = [node for node in (2, 3, 4) if keyed_uniform(mix(4, 0), torch.tensor([node])) < 1 / 3]
    assert found.node.tolist() == [0, *kept]
    (layer,) = found.layers
    assert layer.size == (1, 1 + len(kept)) and layer.col.tolist() == [*range(1, 1 + len(kept))]
    # item 0 has two users, the others one
    expected = [3 / (3 * (2 if node == 2 else 1)) ** 0.5 for node in kept]
    assert layer.value.tolist() == pytest.approx(expected)


@pytest.mark.parametrize('num_layers', [0, 1, 3])
def test_a_fan_of_the_largest_degree_is_the_whole_graph(adj, num_layers):
    x = torch.randn(52, 4, dtype=torch.float64)
    node = torch.tensor([40, 3, 30, 51, 0])  # 30 and 51 have no neighbors
    sampler = LayerNeighborSampler(adj, num_layers, int(adj.row_degree().max()))
    expected = layer_mean(adj, x, num_layers)[node]
    torch.testing.assert_close(rows(sampler, node, x), expected, rtol=1e-12, atol=1e-12)


def test_rows_and_gradients_are_unbiased(adj):
    x = torch.randn(52, 2, dtype=torch.float64, requires_grad=True)
    node, direction = torch.arange(0, 52, 5), torch.randn(11, 2, dtype=torch.float64)
    sampler = LayerNeighborSampler(adj, 2, 2)
    found, grads = [], []
    for key in range(2000):
        out = rows(sampler, node, x, key)
        (grad,) = torch.autograd.grad((out * direction).sum(), x)
        found.append(out.detach())
        grads.append(grad)
    full = layer_mean(adj, x, 2)[node]
    (full_grad,) = torch.autograd.grad((full * direction).sum(), x)
    for draws, expected in ((found, full.detach()), (grads, full_grad)):
        draws = torch.stack(draws)
        error = draws.std(dim=0) / len(draws) ** 0.5
        assert float(error.max()) > 0
        # of some 120 entries none is five standard errors away
        assert bool(((draws.mean(dim=0) - expected).abs() <= 5 * error + 1e-12).all())


def test_a_row_does_not_depend_on_the_company(adj):
    x = torch.randn(52, 3, dtype=torch.float64)
    sampler = LayerNeighborSampler(adj, 2, 2)
    node = torch.tensor([7, 35, 2, 48])
    whole = rows(sampler, node, x, 11)
    parts = [rows(sampler, node[part], x, 11) for part in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-12, atol=1e-12)


def test_sources_are_shared_and_as_many_as_asked_for(adj):
    sampler, node = LayerNeighborSampler(adj, 1, 3), torch.arange(30)
    degree = adj.row_degree()[:30]
    kept = [sampler.sample(node, key).layers[0].nnz for key in range(300)]
    expected = float(degree.clamp(max=3).sum())
    assert sum(kept) / 300 == pytest.approx(expected, rel=0.05)


def test_the_loader_of_pyg_takes_it(adj):
    (row, col), value = adj.to_edge_index()
    data = Data(x=torch.randn(52, 4), edge_index=torch.stack([row, col]), edge_attr=value)
    sampler = LayerNeighborSampler(adj, 2, 3)
    loader = NodeLoader(data, sampler, input_nodes=torch.arange(20), batch_size=8)
    batches = list(loader)
    assert [batch.batch_size for batch in batches] == [8, 8, 4]
    for batch in batches:
        assert batch.n_id[: batch.batch_size].tolist() == batch.input_id.tolist()
        assert torch.equal(batch.x, data.x[batch.n_id])
        source, target = batch.n_id[batch.edge_index]
        # every edge is one of the graph, from source to target
        assert torch.equal(torch.stack([target, source]), data.edge_index[:, batch.e_id])
        assert torch.equal(batch.edge_attr, value[batch.e_id])
        assert sum(batch.num_sampled_nodes) == batch.n_id.numel()
        assert sum(batch.num_sampled_edges) == batch.edge_index.size(1)


def test_refused():
    adj = bipartite_adjacency(torch.tensor([[0], [0]]), 1, 1, self_loops=False)
    with pytest.raises(ConfigError, match='fan: got 0'):
        LayerNeighborSampler(adj, 2, 0)
    with pytest.raises(TypeError, match='samples from nodes'):
        LayerNeighborSampler(adj, 2, 1).sample_from_edges(None)
    assert 'layers=2, fan=3' in repr(LayerNeighborSampler(adj, 2, 3))
