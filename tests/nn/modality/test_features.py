import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.nn.modality.features import (
    FeatureProjection,
    concatenated_features,
    item_features,
    modality_shares,
    require_modalities,
)

#: Item 0 has two nodes, item 1 one, item 2 none.
IMAGE = Modality(
    'image',
    torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 4.0]]),
    3,
    torch.tensor([[0, 0, 1], [0, 1, 2]]),
)
GRAPH = TrainingGraph(1, 3, torch.tensor([[0], [0]]), {'image': IMAGE})


def test_rows_per_item():
    assert item_features(GRAPH, normalize=False)['image'].x.tolist() == [[2, 0], [0, 4], [0, 0]]
    x, present = item_features(GRAPH)['image']
    assert x.tolist() == [[1, 0], [0, 1], [0, 0]] and present.view(-1).tolist() == [
        True,
        True,
        False,
    ]


def test_rows_of_some_items():
    x, present = item_features(GRAPH, normalize=False)['image'].rows(torch.tensor([2, 1]))
    assert x.tolist() == [[0, 0], [0, 4]] and present.view(-1).tolist() == [False, True]


def test_modalities_side_by_side():
    text = Modality('text', torch.tensor([[5.0]]), 3, torch.tensor([[2], [0]]))
    both = concatenated_features(
        TrainingGraph(1, 3, GRAPH.edge_index, {'image': IMAGE, 'text': text}), normalize=False
    )
    assert both.x.tolist() == [[2, 0, 0], [0, 4, 0], [0, 0, 5]] and bool(both.present.all())
    assert concatenated_features(GRAPH).present.view(-1).tolist() == [True, True, False]


@pytest.mark.parametrize(
    'init,deviation', [('xavier', 300**-0.5), ('xavier_normal', 300**-0.5), ('normal', 0.1)]
)
def test_start_of_the_projection(init, deviation):
    linear = FeatureProjection(500, 100, init=init).linear
    assert (
        float(linear.weight.std()) == pytest.approx(deviation, rel=0.02) and not linear.bias.any()
    )
    bias = FeatureProjection(500, 100, zero_bias=False).linear.bias
    assert bool(bias.any()) and float(bias.abs().max()) <= 500**-0.5


def test_projection_of_a_missing_modality_is_zero():
    projection = FeatureProjection(2, 3)
    with torch.no_grad():
        projection.linear.bias.fill_(1.0)
    out = projection(item_features(GRAPH)['image'])
    assert not out[2].any() and torch.allclose(out[0], projection.linear.weight[:, 0] + 1)
    assert FeatureProjection(2, 3, bias=False)(item_features(GRAPH)['image']).shape == (3, 3)


def test_a_graph_without_modality_is_refused_where_one_is_needed():
    require_modalities(GRAPH, 'X')
    with pytest.raises(ConfigError, match='modalities: got none, accepted for X'):
        require_modalities(TrainingGraph(1, 1, torch.zeros(2, 1, dtype=torch.long)), 'X')


def test_shares_of_modalities():
    assert modality_shares('weights', None, ['image', 'text']).tolist() == [0.5, 0.5]
    shares = modality_shares(
        'weights', {'text': 3, 'image': 1, 'smell': 4}, ['image', 'text', 'audio']
    )
    assert shares.tolist() == [0.25, 0.75, 0.0]


@pytest.mark.parametrize(
    'weights',
    [
        {},
        {'image': 0.0},
        {'image': -1.0, 'text': 2.0},
        {'image': float('nan')},
        {'image': float('inf')},
        {'smell': 1.0},
    ],
)
def test_bad_shares_are_named(weights):
    with pytest.raises(ConfigError, match='weights: got .* for image, text'):
        modality_shares('weights', weights, ['image', 'text'])
