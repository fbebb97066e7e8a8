import sys

import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import Adjacency, cooccurrence, cooccurrence_graph


@pytest.fixture
def matrix():
    matrix = (torch.rand(12, 7) < 0.4).float()
    matrix[:, 3] = 0
    matrix[5] = 0
    return matrix


def adjacency(matrix):
    return Adjacency.from_edge_index(matrix.nonzero().t(), size=tuple(matrix.shape))


def dense(graph):
    edge_index, value = graph.to_edge_index()
    return torch.zeros(graph.size).index_put(tuple(edge_index), value)


def test_equals_the_gram_matrix(matrix):
    item = torch.tensor([5, 3, 0])
    assert torch.equal(cooccurrence(adjacency(matrix), item), (matrix.t() @ matrix)[item])


def test_weights_of_users_count(matrix):
    weight, item = torch.rand(12), torch.tensor([6, 1])
    expected = (matrix.t() @ (weight.unsqueeze(1) * matrix))[item]
    assert torch.allclose(cooccurrence(adjacency(matrix), item, weight), expected, atol=1e-6)


@pytest.mark.parametrize('k,min_count', [(1, 1), (2, 1), (3, 2), (50, 1)])
@pytest.mark.parametrize('block_pairs', [1, 7, 10**6])
def test_graph_keeps_the_largest_counts(matrix, k, min_count, block_pairs, monkeypatch):
    monkeypatch.setattr(sys.modules['genrec_pyg.ops.cooccurrence'], '_BLOCK_PAIRS', block_pairs)
    expected = torch.zeros(12, 12)
    counts = matrix @ matrix.t()
    for row in range(12):
        others = sorted(
            (v for v in range(12) if v != row), key=lambda v: (-float(counts[row, v]), v)
        )
        for other in others[:k]:
            expected[row, other] = counts[row, other] * (counts[row, other] >= min_count)
    assert torch.equal(dense(cooccurrence_graph(adjacency(matrix), k, min_count)), expected)


def test_graph_of_items_is_that_of_the_transpose(matrix):
    counts = matrix.t() @ matrix
    counts.fill_diagonal_(0)
    assert torch.equal(dense(cooccurrence_graph(adjacency(matrix).t(), 7)), counts)


def test_nothing_in_common_gives_an_empty_graph():
    assert cooccurrence_graph(adjacency(torch.eye(3)), 2).nnz == 0
    assert cooccurrence_graph(adjacency(torch.zeros(3, 2)), 2).nnz == 0


@pytest.mark.parametrize('arguments', [dict(k=0), dict(k=1, min_count=0)])
def test_bad_arguments_are_named(arguments, matrix):
    with pytest.raises(ConfigError, match='got 0, accepted are integers from 1'):
        cooccurrence_graph(adjacency(matrix), **arguments)
