import pytest
import torch
from helpers.toy_graphs import toy_data

from genrec_pyg.evaluation import evaluate
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.nn.models import ItemKNNCBF, Popularity

FEATURES = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
EDGES = torch.tensor([[0, 0, 1], [0, 1, 1]])
GRAPH = TrainingGraph(2, 3, EDGES, {'image': Modality('image', FEATURES, 3)})


def scores(graph=GRAPH, **arguments):
    return ItemKNNCBF(graph, **arguments).score(torch.arange(graph.num_users))


def close(found, expected):
    return torch.allclose(found, torch.tensor(expected), atol=1e-6)


def test_scores_by_hand():
    """With itself item 1 ties between items 0 and 2, and the smaller id is kept."""
    assert close(
        scores(k=2, shrink=0.0, include_self=True), [[1.707107, 1.707107, 0], [0.707107, 1, 0]]
    )
    assert close(
        scores(k=2, shrink=10.0, include_self=True),
        [[0.090909, 0.254277, 0.155904], [0, 0.166667, 0.155904]],
    )
    assert close(scores(k=1, shrink=10.0), [[0, 0.087610, 0.155904], [0, 0, 0.155904]])


def random_graph(num_items=40):
    edges = (torch.rand(15, num_items) < 0.2).nonzero().t().contiguous()
    x = {
        name: Modality(name, torch.randn(num_items, width), num_items)
        for name, width in (('image', 6), ('text', 3))
    }
    return TrainingGraph(15, num_items, edges, x)


@pytest.mark.parametrize('shrink', [0.0, 3.0])
def test_all_neighbors_are_the_dense_formula(shrink):
    graph = random_graph()
    features = torch.cat([modality.x for modality in graph.modalities.values()], dim=1).double()
    norm = features.norm(dim=1)
    interactions = torch.zeros(15, 40, dtype=torch.float64).index_put(
        tuple(graph.edge_index), torch.tensor(1.0).double()
    )
    expected = interactions @ (features @ features.t() / (norm[:, None] * norm + shrink))
    assert torch.allclose(
        scores(graph, k=100, shrink=shrink, include_self=True).double(), expected, atol=1e-5
    )


@pytest.mark.parametrize('include_self', [False, True])
def test_blocks_change_nothing(include_self):
    graph = random_graph()
    whole, blocks = (
        scores(graph, k=5, include_self=include_self, block_size=size) for size in (1000, 3)
    )
    assert torch.allclose(whole, blocks)


def test_scale_of_features_matters_with_shrinkage_alone():
    graph = random_graph()
    scaled = TrainingGraph(
        15,
        40,
        graph.edge_index,
        {name: Modality(name, 7 * modality.x, 40) for name, modality in graph.modalities.items()},
    )
    assert torch.allclose(scores(graph, shrink=0.0), scores(scaled, shrink=0.0), atol=1e-6)
    assert not torch.allclose(scores(graph), scores(scaled))


def test_normalized_features_have_the_mean_of_the_cosines():
    graph = random_graph()
    cosine = (
        sum(
            x @ x.t()
            for x in (torch.nn.functional.normalize(m.x) for m in graph.modalities.values())
        )
        / 2
    )
    interactions = torch.zeros(15, 40).index_put(tuple(graph.edge_index), torch.tensor(1.0))
    found = scores(graph, k=100, shrink=0.0, include_self=True, normalize_features=True)
    assert torch.allclose(found, interactions @ cosine, atol=1e-5)


def test_centered_features_and_weights_of_modalities():
    graph = random_graph()
    cosine = [
        x @ x.t()
        for x in (
            torch.nn.functional.normalize(m.x - m.x.mean(dim=0)) for m in graph.modalities.values()
        )
    ]
    interactions = torch.zeros(15, 40).index_put(tuple(graph.edge_index), torch.tensor(1.0))
    arguments = dict(k=100, shrink=0.0, include_self=True, center_features=True)
    found = scores(graph, modality_weights={'image': 3.0, 'text': 1.0}, **arguments)
    mixed = 0.75 * cosine[0] + 0.25 * cosine[1]
    norm = mixed.diagonal().sqrt()
    assert torch.allclose(found, interactions @ (mixed / norm / norm[:, None]), atol=1e-5)
    alone = scores(graph, modality_weights={'image': 0.0, 'text': 1.0}, **arguments)
    assert torch.allclose(alone, interactions @ cosine[1], atol=1e-5)


def test_an_item_without_content_is_no_neighbor():
    graph = TrainingGraph(
        2, 3, EDGES, {'image': Modality('image', torch.tensor([[0.0, 0], [1, 1], [0, 2]]), 3)}
    )
    model = ItemKNNCBF(graph, k=3, shrink=0.0)
    assert model.neighbors.t().row_degree().tolist() == [0, 1, 1]
    assert bool(torch.isfinite(model.score(torch.arange(2))).all())


def test_items_may_have_several_nodes_or_none():
    links = torch.tensor([[0, 0, 2], [0, 1, 2]])
    graph = TrainingGraph(
        2,
        3,
        EDGES,
        {'image': Modality('image', torch.tensor([[1.0, 0], [3, 0], [1, 1]]), 3, links)},
    )
    assert close(scores(graph, k=1, shrink=0.0), [[0, 0, 0.707107], [0, 0, 0]])


def test_order_of_modalities_changes_nothing():
    first, second = (
        ItemKNNCBF(toy_data(3, partial=True), names, k=2)
        for names in (None, ['audio', 'image', 'text'])
    )
    assert torch.allclose(first.score(torch.arange(8)), second.score(torch.arange(8)))


def test_beats_popularity_on_the_demo_data(demo_data):
    found, popular = (
        evaluate(model, demo_data, 'val', (20,))['recall@20']
        for model in (ItemKNNCBF(demo_data, shrink=0.0, k=20), Popularity(demo_data))
    )
    assert found > popular + 0.1


@pytest.mark.parametrize(
    'arguments', [dict(k=0), dict(shrink=-1.0), dict(block_size=0), dict(modalities=[])]
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        ItemKNNCBF(toy_data(), **arguments)
