import pytest
import torch
from helpers.toy_graphs import toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph, training_graph
from genrec_pyg.graph.modality import Modality
from genrec_pyg.nn.hypergraph import Hypergraph, content_incidence
from genrec_pyg.ops import Adjacency

#: Nodes 0 and 1 share hyperedges 0 and 1, nodes 1 and 2 hyperedge 2; node 3 is alone, node 4 in
#: none.
INCIDENCE = Adjacency.from_edge_index(
    torch.tensor([[0, 0, 1, 1, 1, 2, 3], [0, 1, 0, 1, 2, 2, 3]]), size=(5, 4)
)
COUNTS = torch.tensor(
    [
        [2.0, 2.0, 0.0, 0.0, 0.0],
        [2.0, 3.0, 1.0, 0.0, 0.0],
        [0.0, 1.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0],
    ]
)


@pytest.mark.parametrize('self_loops', [True, False])
@pytest.mark.parametrize('normalization', ['mean', 'symmetric'])
def test_equals_the_matrix_of_counts(normalization, self_loops):
    counts = COUNTS if self_loops else COUNTS - COUNTS.diag().diag()
    degree = counts.sum(dim=1, keepdim=True)
    assert degree.view(-1).tolist() == ([4, 6, 2, 1, 0] if self_loops else [2, 3, 1, 0, 0])
    inverse = torch.where(degree > 0, 1 / degree, 0)
    expected = (
        inverse * counts
        if normalization == 'mean'
        else inverse.sqrt() * counts * inverse.sqrt().t()
    )
    found = Hypergraph(INCIDENCE, normalization, self_loops)(torch.eye(5))
    assert torch.allclose(found, expected, atol=1e-6)


def test_follows_the_precision_of_its_module_and_has_gradients():
    graph = Hypergraph(INCIDENCE, 'symmetric', self_loops=False).double()
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert graph(x).dtype == torch.float64
    assert torch.autograd.gradcheck(graph, (x,))


def test_is_no_part_of_a_state():
    graph = Hypergraph(INCIDENCE)
    assert graph.state_dict() == {} and 'hyperedges=4' in repr(graph)


def test_hyperedges_of_content_by_hand():
    """Items 0 and 1 point the same way in the first modality, item 2 lacks it; in the second
    item 2 points as item 0, and against item 1.
    """
    features = {
        'image': (torch.tensor([[1.0, 0.0], [1.0, 0.1]]), torch.tensor([[0, 1], [0, 1]])),
        'text': (torch.tensor([[1.0, 0.0], [-1.0, 0.2], [1.0, 0.3]]), None),
    }
    modalities = {
        name: Modality(name, x, 3, edge_index) for name, (x, edge_index) in features.items()
    }
    graph = TrainingGraph(1, 3, torch.tensor([[0], [0]]), modalities)
    incidence = content_incidence(graph, num_neighbors=2)
    found = torch.zeros(3, 6)
    found[tuple(incidence.to_edge_index()[0])] = 1
    image = [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    text = [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    assert found.tolist() == torch.cat([torch.tensor(image), torch.tensor(text)], dim=1).tolist()


def test_one_neighbor_is_the_item_itself():
    graph = training_graph(toy_data(2))
    incidence = content_incidence(graph, num_neighbors=1)
    assert incidence.nnz == 2 * graph.num_items
    assert torch.allclose(Hypergraph(incidence)(torch.eye(7)), torch.eye(7))


def test_unknown_normalization_is_named():
    with pytest.raises(ConfigError, match="normalization: got 'sum', accepted are 'mean'"):
        Hypergraph(INCIDENCE, 'sum')
