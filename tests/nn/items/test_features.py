import pytest
import torch
from torch.nn.functional import gelu

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import training_graph
from genrec_pyg.nn.items import FeatureRows
from genrec_pyg.testing import toy_graph


def test_several_modalities_are_averaged_over_those_that_an_item_has():
    data = toy_graph(2)
    # item 0 has no text
    data['item', 'has', 'text'].edge_index = data['item', 'has', 'text'].edge_index[:, 1:]
    side = FeatureRows(training_graph(data), 3).eval()
    image, text = (gelu(side.projections[name](data[name].x)) for name in ('image', 'text'))
    rows = side()
    assert torch.allclose(rows[1:], (image[1:] + text[1:]) / 2) and torch.allclose(
        rows[0], image[0]
    )


def test_layers_follow_the_projection_and_rows_of_some_are_those_of_all():
    side = FeatureRows(training_graph(toy_graph(1)), 3, num_layers=2).eval()
    assert sum(isinstance(layer, torch.nn.Linear) for layer in side.modules()) == 3
    item = torch.tensor([[4, 7], [0, 4]])
    rows = side.rows(item)
    assert (
        not bool(rows[0, 1].any())
        and torch.allclose(rows[0, 0], side()[4])
        and torch.allclose(rows[1], side()[[0, 4]])
    )
    x = training_graph(toy_graph(1)).modalities['image'].x[2:4]
    assert torch.allclose(side.new_rows({'image': x}), side()[2:4])


def test_a_graph_without_features_is_refused():
    with pytest.raises(
        ConfigError, match="modalities: got none, accepted for item_side.kind='frozen'"
    ):
        FeatureRows(training_graph(toy_graph(0)), 3)
