import pytest
import torch
from torch_geometric.utils import to_dense_adj

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.nn.modality.item_graph import mixed_item_graph
from genrec_pyg.ops import knn_adjacency

IMAGE = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
#: Text pairs other items, and item 3 has none.
TEXT = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.2]])
GRAPH = TrainingGraph(1, 4, torch.zeros(2, 1, dtype=torch.long), {
    'image': Modality('image', IMAGE, 4), 'text': Modality('text', TEXT, 4, torch.arange(3).expand(2, 3))})


def dense(adjacency):
    edge_index, value = adjacency.to_edge_index()
    return to_dense_adj(edge_index, edge_attr=value, max_num_nodes=4)[0]


def test_two_modalities_by_hand():
    image = torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]) / 2
    # Items 0 and 2 are a pair, item 1 points to item 2, item 3 has its own edge alone.
    text = torch.tensor([[0.5, 0, 0.5, 0], [0, 0.5, 0.5, 0], [0.5, 0, 0.5, 0], [0, 0, 0, 1.0]])
    found = dense(mixed_item_graph(GRAPH, 2, {'image': 1.0, 'text': 3.0}, binary=True))
    assert torch.allclose(found, 0.25 * image + 0.75 * text)
    assert torch.allclose(dense(mixed_item_graph(GRAPH, 2, binary=True)), (image + text) / 2)
    assert torch.allclose(dense(mixed_item_graph(GRAPH, 2, {'text': 1.0}, binary=True)), text)


def test_similarities_are_kept_unless_binary():
    features = [GRAPH.modalities[name].item_features() for name in ('image', 'text')]
    expected = sum(dense(knn_adjacency(x, 3)) for x in features) / 2
    assert torch.allclose(dense(mixed_item_graph(GRAPH, 3)), expected)


def test_weights_without_a_modality_are_refused():
    with pytest.raises(ConfigError, match='modality_weights: got'):
        mixed_item_graph(GRAPH, 2, {'audio': 1.0})
