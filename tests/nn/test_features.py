import pytest
import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.nn.features import FeatureProjection, item_features, require_modalities

#: Item 0 has two nodes, item 1 one, item 2 none.
IMAGE = Modality('image', torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 4.0]]), 3, torch.tensor([[0, 0, 1], [0, 1, 2]]))
GRAPH = TrainingGraph(1, 3, torch.tensor([[0], [0]]), {'image': IMAGE})


def test_rows_per_item():
    assert item_features(GRAPH, normalize=False)['image'].x.tolist() == [[2, 0], [0, 4], [0, 0]]
    x, present = item_features(GRAPH)['image']
    assert x.tolist() == [[1, 0], [0, 1], [0, 0]] and present.view(-1).tolist() == [True, True, False]


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
