import torch

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.modality.enhanced_graph import common_neighbors, enhanced_adjacency
from genrec_pyg.ops import Adjacency


def graph_of(rows):
    pairs = [(row, col) for row, cols in enumerate(rows) for col in [row, *cols]]
    return Adjacency.from_edge_index(torch.tensor(pairs).t(), None, (len(rows), len(rows)))


def pairs_of(*arguments):
    return [tuple(pair) for pair in common_neighbors(*arguments).t().tolist()]


def test_common_neighbors_by_hand():
    graphs = [graph_of([[1, 2], [0, 3], [3], [0]]), graph_of([[2, 3], [0, 3], [1], []])]
    everywhere = torch.ones(4, dtype=torch.bool)
    assert pairs_of(graphs, [everywhere] * 2) == [(0, 2), (1, 0), (1, 3)]
    # Item 3 lacks the second modality, which therefore has no say.
    lacking = torch.tensor([True, True, True, False])
    assert pairs_of(graphs, [everywhere, lacking]) == [(0, 2), (1, 0), (1, 3), (3, 0)]
    assert pairs_of(graphs[1:], [everywhere]) == [(0, 2), (0, 3), (1, 0), (1, 3), (2, 1)]


def test_no_common_neighbors_leave_the_interactions():
    graphs = [graph_of([[1], []]), graph_of([[], [0]])]
    everywhere = torch.ones(2, dtype=torch.bool)
    pairs = common_neighbors(graphs, [everywhere] * 2)
    assert pairs.shape == (2, 0)
    graph = TrainingGraph(1, 2, torch.tensor([[0], [1]]))
    adjacency, block = enhanced_adjacency(graph, pairs)
    assert adjacency.to_edge_index()[0].tolist() == [[0, 2], [2, 0]]
    assert adjacency.value.tolist() == [1, 1] and block.to_edge_index()[0].tolist() == [[0], [1]]


def test_enhanced_adjacency_by_hand():
    """User 0 likes both items, user 1 item 0; item 1 listens to item 0: degrees 2, 1, 2, 2."""
    graph = TrainingGraph(2, 2, torch.tensor([[0, 0, 1], [0, 1, 0]]))
    adjacency, block = enhanced_adjacency(graph, torch.tensor([[1], [0]]))
    half, root = 0.5, 0.5**0.5
    expected = torch.tensor(
        [[0, 0, half, half], [0, 0, root, 0], [half, root, 0, 0], [half, 0, half, 0]]
    )
    assert torch.allclose(adjacency @ torch.eye(4), expected)
    assert torch.allclose(block @ torch.eye(2), expected[:2, 2:])
