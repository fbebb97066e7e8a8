import pytest
import torch

from genrec_pyg.ops import (
    Adjacency,
    bipartite_adjacency,
    bipartite_block,
    knn_adjacency,
    knn_weights,
    random_walk_adjacency,
    symmetric_scale,
)


def to_dense(adj):
    (row, col), value = adj.to_edge_index()
    return torch.zeros(adj.size, dtype=value.dtype).index_put((row, col), value)


# the last edge repeats; user 2 and item 3 have none
EDGES = torch.tensor([[0, 0, 1, 3, 0], [0, 1, 1, 2, 1]])


def test_one_user_one_item_by_hand():
    edge = torch.zeros(2, 1, dtype=torch.long)
    assert torch.allclose(
        to_dense(bipartite_adjacency(edge, 1, 1, self_loops=True)), torch.full((2, 2), 0.5)
    )
    assert to_dense(bipartite_block(edge, 1, 1, self_loops=True)).item() == pytest.approx(0.5)
    assert to_dense(bipartite_block(edge, 1, 1, self_loops=False)).tolist() == [[1.0]]


@pytest.mark.parametrize('self_loops', [True, False])
def test_equals_plain_formula(self_loops):
    matrix = torch.zeros(8, 8)
    matrix[EDGES[0], 4 + EDGES[1]] = 1
    matrix += matrix.t() + self_loops * torch.eye(8)
    degree = matrix.sum(dim=1)
    scale = torch.where(degree > 0, degree.rsqrt(), 0.0)
    expected = scale[:, None] * matrix * scale
    adj = bipartite_adjacency(EDGES, 4, 4, self_loops)
    assert torch.allclose(to_dense(adj), expected) and adj.symmetric
    assert torch.allclose(to_dense(bipartite_block(EDGES, 4, 4, self_loops)), expected[:4, 4:])


def test_isolated_nodes_keep_their_loop_with_weight_one_or_stay_zero():
    with_loops = to_dense(bipartite_adjacency(EDGES, 4, 4, self_loops=True))
    assert with_loops[2].tolist() == [0, 0, 1, 0, 0, 0, 0, 0] and float(with_loops[7, 7]) == 1
    assert not to_dense(bipartite_adjacency(EDGES, 4, 4, self_loops=False))[2].any()


def test_weights_enter_degrees():
    adj = to_dense(
        bipartite_adjacency(torch.tensor([[0], [0]]), 1, 1, True, edge_weight=torch.tensor([3.0]))
    )
    assert torch.allclose(adj, torch.tensor([[0.25, 0.75], [0.75, 0.25]]))


def test_symmetric_scale_of_zero_is_zero():
    assert symmetric_scale(torch.tensor([4.0, 0.0])).tolist() == [0.5, 0.0]


def test_knn_weights_by_hand():
    edge_index = torch.tensor([[0, 0, 1], [0, 1, 1]])
    weight = knn_weights(edge_index, torch.tensor([1.0, 0.5, 1.0]), 2)
    assert weight.tolist() == pytest.approx([1 / 1.5, 0.5 / 1.5**0.5, 1.0])


def test_knn_adjacency_of_a_zero_row_is_its_loop():
    adj = knn_adjacency(torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.1]]), 2)
    assert isinstance(adj, Adjacency)
    assert to_dense(adj)[1].tolist() == [0.0, 1.0, 0.0] and not to_dense(adj)[:, 1][[0, 2]].any()


def test_binary_neighbors_count_the_same():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1], [1.0, 0.5]])
    adj = to_dense(knn_adjacency(x, 3, binary=True))  # row 1 has similarities to rows 3 and 2
    assert torch.allclose(adj, (adj > 0) / 3) and torch.allclose(adj.sum(dim=1), torch.ones(4))
    pair = to_dense(
        knn_adjacency(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), 2, binary=True)
    )
    assert torch.allclose(pair, torch.tensor([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]))


def test_random_walk_takes_the_mean_over_neighbors_and_the_node_itself():
    edge_index, x = torch.tensor([[0, 0, 1], [0, 1, 1]]), torch.tensor([[1.0], [2], [3], [4], [5]])
    found = random_walk_adjacency(edge_index, 2, 3, self_loops=True) @ x
    assert found.view(-1).tolist() == pytest.approx([8 / 3, 3, 2, 7 / 3, 5])
    found = random_walk_adjacency(edge_index, 2, 3, self_loops=False) @ x
    assert found.view(-1).tolist() == pytest.approx([3.5, 4, 1, 1.5, 0])
