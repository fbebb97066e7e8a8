import pytest
import torch
from helpers.content_graphs import titled_data, titled_items

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import training_graph
from genrec_pyg.nn.items import FeatureRows, FusedRows, ItemSide, ItemTable, make_items
from genrec_pyg.testing import toy_graph


def test_kinds(text_folder):
    graph = training_graph(toy_graph())
    assert isinstance(make_items(graph, 4, ItemSide()), ItemTable)
    assert isinstance(make_items(graph, 4, ItemSide('frozen', projection_layers=2)), FeatureRows)
    both = make_items(graph, 4, ItemSide('id+frozen', fusion='concat', fusion_layers=1), std=0.5)
    assert isinstance(both, FusedRows) and both.table.std == 0.5 and both.concatenates
    encoded = make_items(
        training_graph(titled_data(), contents=['title']),
        4,
        ItemSide('id+encoder', str(text_folder('bert'))),
    )
    assert len(list(encoded.encoder_parameters())) == 37 and encoded().shape == (11, 4)


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(kind='both'), "item_side.kind: got 'both', accepted are 'id', 'frozen'"),
        (
            dict(kind='encoder'),
            "item_side.encoder: got None with kind='encoder', accepted is the folder",
        ),
        (
            dict(kind='frozen', chunk_size=8),
            "item_side.chunk_size: got 8 with kind='frozen', which does not read it",
        ),
        (
            dict(fusion='concat'),
            "item_side.fusion: got 'concat' with kind='id', which does not read it",
        ),
        (
            dict(kind='id+frozen', fusion='times'),
            "item_side.fusion: got 'times', accepted are 'add', 'concat', 'concat3'",
        ),
        (
            dict(kind='frozen', dropout=1.0),
            'item_side.dropout: got 1.0, accepted are numbers from 0 to below 1',
        ),
        (
            dict(kind='frozen', projection_layers=-1),
            'item_side.projection_layers: got -1, accepted are integers from 0',
        ),
        (
            dict(kind='encoder', encoder='x', unfreeze=2, frozen_tensors=3),
            'item_side.unfreeze: got 2 with frozen_tensors=3',
        ),
    ],
)
def test_settings_that_are_wrong_or_without_effect(settings, message):
    with pytest.raises(ConfigError, match=message):
        ItemSide(**settings)


def test_settings_from_what_files_and_flags_give():
    assert ItemSide.of(None) == ItemSide.of('id') == ItemSide()
    assert ItemSide.of({'kind': 'frozen', 'projection_layers': 2}) == ItemSide(
        'frozen', projection_layers=2
    )
    with pytest.raises(ConfigError, match="item_side: got {'sort': 'id'}, accepted are a kind"):
        ItemSide.of({'sort': 'id'})


def test_content_that_is_not_there(text_folder):
    with pytest.raises(
        ConfigError,
        match=r"content: data\['item'\].title is nothing, accepted is a list of 7 texts",
    ):
        training_graph(toy_graph(), contents=['title'])
    with pytest.raises(
        ConfigError, match="item_side.content: the training graph has no content 'title'"
    ):
        make_items(training_graph(titled_data()), 4, ItemSide('encoder', str(text_folder('bert'))))
    data = titled_data()
    data['item'].title = data['item'].title[:-1]
    with pytest.raises(
        ConfigError, match='title is 10 entries of list, accepted is a list of 11 texts'
    ):
        titled_items(text_folder('bert'), data=data)


def test_frozen_features_and_a_frozen_encoder_start_equal(text_folder):
    """The two-stage side is the encoder of which nothing is trained, given the same projection."""
    encoded = titled_items(text_folder('bert'), unfreeze='none').eval()
    data = titled_data()
    inputs = encoded.network.read(data['item'].title)
    with torch.no_grad():
        data['title'].x = torch.cat(
            [encoded.network(*inputs.batch(torch.tensor([item]))) for item in range(11)]
        )
    data['item', 'has', 'title'].edge_index = torch.arange(11).expand(2, 11).contiguous()
    frozen = make_items(training_graph(data), 8, ItemSide('frozen')).eval()
    frozen.projections['title'].load_state_dict(encoded.projection.state_dict())
    assert torch.allclose(frozen(), encoded(), atol=1e-6)
