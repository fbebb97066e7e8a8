import pytest
import torch
from helpers.toy_graphs import toy_data

from genrec_pyg.graph import training_graph
from genrec_pyg.nn.closed_form import InteractionStatistics
from genrec_pyg.nn.interest import KernelPath
from genrec_pyg.nn.interest.schedule import popularity_discount
from genrec_pyg.ops import Adjacency


def dense_kernel(r, ridge, ridge_power, row_weight):
    """EASE with a diagonal ridge by its plain formula, in float64."""
    r = r.double()
    gram = r.t() @ torch.diag(r.sum(1).clamp(min=1) ** (-2 * row_weight)) @ r
    shape = r.sum(0).clamp(min=1) ** (2 * ridge_power)
    inverse = (gram + torch.diag(ridge * gram.diagonal().mean() * shape / shape.mean())).inverse()
    kernel = -inverse / inverse.diagonal()
    return kernel.fill_diagonal_(0)


@pytest.mark.parametrize('ridge', [0.5, 8.0, 100.0])
@pytest.mark.parametrize('ridge_power,row_weight', [(0.0, 0.0), (0.15, 0.25), (0.5, 0.5)])
def test_one_decomposition_gives_the_kernels_of_all_ridges(ridge, ridge_power, row_weight):
    graph = training_graph(toy_data())
    interactions = Adjacency.from_edge_index(graph.edge_index, size=(8, 7))
    path = KernelPath(InteractionStatistics.of(interactions, row_weight), ridge_power, rank=7)
    found = (path.query @ path.keys(ridge).t()).fill_diagonal_(0)
    r = torch.zeros(8, 7).index_put_(tuple(graph.edge_index), torch.ones(10))
    assert torch.allclose(
        found.double(), dense_kernel(r, ridge, ridge_power, row_weight), atol=1e-5
    )
    assert torch.allclose(path.history, r @ path.query, atol=1e-6)


def test_discount_divides_by_a_power_of_the_popularity():
    degree = torch.tensor([1.0, 4.0, 16.0])
    assert torch.equal(popularity_discount(degree, 0.0), torch.ones(3))
    assert torch.allclose(popularity_discount(degree, 0.5), torch.tensor([1.0, 0.5, 0.25]))
    assert torch.allclose(popularity_discount(degree, -0.5), torch.tensor([1.0, 2.0, 4.0]))
