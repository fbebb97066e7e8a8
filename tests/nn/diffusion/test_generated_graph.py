import pytest
import torch

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.diffusion.generated_graph import GeneratedEdges, GeneratedGraph

GRAPH = TrainingGraph(1, 2, torch.tensor([[0], [0]]))
EDGES = torch.tensor([[0, 0], [0, 1]])
PROBABILITY = torch.tensor([0.8, 0.4])


def dense(adj):
    (row, col), value = adj.to_edge_index()
    matrix = torch.zeros(3, 3)
    matrix[row, col] = value
    return matrix


@pytest.mark.parametrize('edge_weight, second', [('probability', 0.5), ('binary', 1.0)])
def test_adjacency_by_hand(edge_weight, second):
    """A user of two generated edges, weights relative to the best; self loops weigh 1."""
    generated = GeneratedGraph(GRAPH, edge_weight)
    assert generated.adjacency() is None
    generated.rebuild(EDGES, PROBABILITY)
    weight = torch.tensor([[1, 1, second], [1, 1, 0], [second, 0, 1]])
    scale = weight.sum(dim=1).rsqrt()
    assert torch.allclose(dense(generated.adjacency()), scale[:, None] * weight * scale)
    assert generated.adjacency() is generated.adjacency()


def test_dropped_edges_miss_both_directions_in_training_only():
    generated = GeneratedGraph(GRAPH, edge_dropout=0.25)
    generated.replace(GeneratedEdges(EDGES, PROBABILITY, torch.tensor([False, True])))
    generated.eval()
    whole = dense(generated.adjacency())
    assert not generated.drops and whole[0, 1] > 0
    generated.train()
    assert generated.drops and generated.keep == 0.75
    expected = whole.clone()
    expected[0, 1] = expected[1, 0] = 0
    expected[0, 2] /= 0.75
    expected[2, 0] /= 0.75
    assert torch.allclose(dense(generated.adjacency()), expected)


def test_other_edges_make_another_adjacency():
    generated = GeneratedGraph(GRAPH)
    generated.rebuild(EDGES, PROBABILITY)
    before = generated.adjacency()
    generated.rebuild(EDGES[:, :1], PROBABILITY[:1])
    assert generated.adjacency().nnz == before.nnz - 2
    generated.replace(None)
    assert generated.adjacency() is None
