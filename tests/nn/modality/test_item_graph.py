import pytest
import torch
from torch_geometric.utils import to_dense_adj

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.nn.modality.item_graph import (
    behavior_item_graph,
    consistent_item_graphs,
    max_item_graph,
    mixed_item_graph,
)
from genrec_pyg.ops import knn_adjacency

IMAGE = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
#: Text pairs other items, and item 3 has none.
TEXT = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.2]])
GRAPH = TrainingGraph(
    1,
    4,
    torch.zeros(2, 1, dtype=torch.long),
    {
        'image': Modality('image', IMAGE, 4),
        'text': Modality('text', TEXT, 4, torch.arange(3).expand(2, 3)),
    },
)


def dense(adjacency):
    edge_index, value = adjacency.to_edge_index()
    return to_dense_adj(edge_index, edge_attr=value, max_num_nodes=adjacency.size[0])[0]


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


A = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
B = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.96, 0.28]])
PATH = torch.tensor([[0, 0, 1], [0, 1, 1]])


def test_union_with_the_largest_value_by_hand():
    found = dense(max_item_graph([knn_adjacency(A, 2), knn_adjacency(B, 2)]))
    expected = [
        [0.625, 0.353553, 0.489796],
        [0, 0.555556, 0.480502],
        [0.489796, 0.444444, 0.555556],
    ]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-6)


def test_consistent_graphs_by_hand():
    graph = TrainingGraph(2, 3, PATH, {'a': Modality('a', A, 3), 'b': Modality('b', B, 3)})
    for found in consistent_item_graphs(graph, 2).values():
        assert torch.allclose(
            dense(found), torch.tensor([[1.0, 0, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]])
        )


@pytest.mark.parametrize('num_neighbors', [1, 3, 50])
def test_consistent_graphs_equal_dense_formulas_whatever_the_block(num_neighbors):
    features = {name: torch.randn(23, width) + 0.5 for name, width in (('a', 5), ('b', 3))}
    graph = TrainingGraph(
        2, 23, PATH, {name: Modality(name, x, 23) for name, x in features.items()}
    )
    unit = {name: torch.nn.functional.normalize(x.double()) for name, x in features.items()}
    cosine = {name: x @ x.t() for name, x in unit.items()}
    mask = torch.stack([c >= c.mean() for c in cosine.values()]).all(dim=0).fill_diagonal_(True)
    for block_size in (4, 256):
        for name, found in consistent_item_graphs(graph, num_neighbors, block_size).items():
            ranked = (
                cosine[name]
                .masked_fill(~mask, -2)
                .fill_diagonal_(2)
                .argsort(dim=1, descending=True)
            )
            expected = torch.zeros(23, 23)
            for row in range(23):
                expected[row, ranked[row, : min(num_neighbors, int(mask[row].sum()))]] = 1
            scale = expected.sum(1).rsqrt()
            assert torch.allclose(dense(found), scale.unsqueeze(1) * expected * scale)


def test_a_missing_modality_has_no_say_in_what_is_consistent():
    lacking = Modality('b', B[:2], 3, torch.tensor([[0, 1], [0, 1]]))  # item 2 lacks b
    graph = TrainingGraph(2, 3, PATH, {'a': Modality('a', A, 3), 'b': lacking})
    found = {name: dense(x) > 0 for name, x in consistent_item_graphs(graph, 3).items()}
    assert found['b'][2].tolist() == [False, False, True] and not bool(found['b'][:2, 2].any())
    assert found['a'][1].tolist() == [False, True, True]  # by a alone


def test_behavior_graph_by_hand():
    graph = TrainingGraph(2, 3, PATH, {})
    assert torch.equal(dense(behavior_item_graph(graph, 2, 2)), torch.eye(3))
    expected = torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    assert torch.allclose(dense(behavior_item_graph(graph, 2, 1)), expected)


@pytest.mark.parametrize(
    'make',
    [
        lambda graph: consistent_item_graphs(graph, 0),
        lambda graph: behavior_item_graph(graph, 0, 1),
    ],
)
def test_numbers_of_neighbors_are_checked(make):
    with pytest.raises(ConfigError, match='got 0, accepted'):
        make(TrainingGraph(2, 3, PATH, {'a': Modality('a', A, 3)}))
