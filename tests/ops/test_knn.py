import pytest
import torch
import torch.nn.functional as F

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import knn_graph


def plain(x, k):
    x = F.normalize(x.double(), dim=1)
    similarity = x @ x.t()
    edges = []
    for i in range(x.size(0)):
        others = sorted((j for j in range(x.size(0)) if j != i and similarity[i, j] > 0), key=lambda j: (-similarity[i, j], j))
        edges += [(i, j) for j in [i, *others[:k - 1]]]
    return edges


@pytest.mark.parametrize('block_size', [1, 4, 100])
def test_equals_plain_search(block_size):
    x = torch.randn(23, 5)
    edge_index, similarity = knn_graph(x, 6, block_size=block_size)
    assert list(map(tuple, edge_index.t().tolist())) == plain(x, 6)
    unit = F.normalize(x, dim=1)
    own = edge_index[0] == edge_index[1]
    assert torch.allclose(similarity[~own], (unit[edge_index[0]] * unit[edge_index[1]]).sum(dim=1)[~own], atol=1e-6)
    assert bool((similarity[own] == 1).all())


def test_ties_go_to_the_lowest_id():
    edge_index, _ = knn_graph(torch.ones(5, 2), 3)
    assert edge_index[1].view(5, 3).tolist() == [[0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 0, 1], [4, 0, 1]]


def test_zero_rows_have_only_their_own_edge_and_nobody_points_to_them():
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    edge_index, _ = knn_graph(x, 3)
    assert edge_index.t().tolist() == [[0, 0], [0, 2], [1, 1], [2, 2], [2, 0]]


def test_half_precision_sums_that_would_overflow():
    x = torch.full((3, 128), 200.0, dtype=torch.float16)
    _, similarity = knn_graph(x, 2)
    assert torch.allclose(similarity, torch.ones(6))


def test_without_self_and_more_neighbors_than_rows():
    edge_index, _ = knn_graph(torch.rand(4, 3) + 0.1, 10, include_self=False)
    assert edge_index.size(1) == 12 and bool((edge_index[0] != edge_index[1]).all())


@pytest.mark.parametrize('arguments', [{'k': 0}, {'k': 3, 'block_size': 0}])
def test_arguments_are_checked(arguments):
    with pytest.raises(ConfigError, match='got 0, accepted are integers from 1'):
        knn_graph(torch.ones(2, 2), **arguments)


def test_no_rows_and_one_neighbor():
    assert knn_graph(torch.empty(0, 3), 5)[0].shape == (2, 0)
    assert knn_graph(torch.randn(3, 2), 1)[0].tolist() == [[0, 1, 2], [0, 1, 2]]


@pytest.mark.parametrize('scale', [1e20, 1e-14, 1e-30])
def test_neighbors_do_not_hang_on_the_scale(scale):
    x = torch.randn(50, 8)
    expected, got = knn_graph(x, 5), knn_graph(x * scale, 5)
    assert torch.equal(expected[0], got[0]) and torch.allclose(expected[1], got[1])


@pytest.mark.parametrize('offset', [0, 100, 1000, 10_000])
def test_neighbors_of_rows_far_from_the_origin_are_those_of_float64(offset):
    x = (torch.randn(200, 16, dtype=torch.float64) + offset).float()
    edge_index, similarity = knn_graph(x, 8)
    assert edge_index.t().tolist() == [list(edge) for edge in plain(x, 8)]
    assert similarity.dtype == torch.float32 and knn_graph(x.double(), 8)[1].dtype == torch.float64


def test_columns_of_features_pass_in_blocks(monkeypatch):
    x = torch.randn(40, 6)
    expected = knn_graph(x, 5)
    monkeypatch.setattr('genrec_pyg.ops.topk.MAX_BLOCK', 50)
    got = knn_graph(x, 5)
    assert torch.equal(expected[0], got[0]) and torch.allclose(expected[1], got[1])


def test_rows_without_columns_have_only_their_own_edge():
    edge_index, similarity = knn_graph(torch.empty(3, 0), 2)
    assert edge_index.tolist() == [[0, 1, 2]] * 2 and similarity.tolist() == [1, 1, 1]
