import pytest
import torch

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import TrainingGraph, training_graph
from genrec_pyg.graph.modality import Modality
from genrec_pyg.nn.models import get_model
from genrec_pyg.ops import unit_rows
from genrec_pyg.retrieval.new_items import FeatureEmbedding, new_item_embedding


def test_a_linear_map_of_features_is_found_again():
    x = {'image': torch.randn(300, 6), 'text': torch.randn(300, 3)}
    edges = torch.stack([torch.zeros(300, dtype=torch.long), torch.arange(300)])
    graph = TrainingGraph(
        1, 300, edges, {name: Modality(name, rows, 300) for name, rows in x.items()}
    )
    weight = torch.randn(9, 5)
    items = torch.cat([unit_rows(rows) for rows in x.values()], dim=1) @ weight
    embed = FeatureEmbedding(graph, items)
    assert embed.ridge == 1e-3  # nothing to smooth
    assert torch.allclose(embed(x), items, atol=0.01)
    new = {'text': torch.randn(4, 3), 'image': torch.randn(4, 6)}  # in any order
    expected = torch.cat([unit_rows(new['image']), unit_rows(new['text'])], dim=1) @ weight
    assert torch.allclose(embed(new), expected, atol=0.01)


def test_items_without_interactions_teach_nothing():
    x = torch.randn(50, 4)
    graph = TrainingGraph(
        1,
        50,
        torch.stack([torch.zeros(40, dtype=torch.long), torch.arange(40)]),
        {'image': Modality('image', x, 50)},
    )
    items = unit_rows(x) @ torch.randn(4, 2)
    other = items.clone()
    other[40:] = 100
    assert torch.equal(FeatureEmbedding(graph, items).weight, FeatureEmbedding(graph, other).weight)


def test_noise_is_smoothed(demo_data):
    graph = training_graph(demo_data)
    assert FeatureEmbedding(graph, torch.randn(graph.num_items, 5)).ridge >= 1


def test_a_missing_modality_is_a_row_of_nan(demo_data):
    graph = training_graph(demo_data)
    embed = FeatureEmbedding(graph, torch.randn(graph.num_items, 5))
    first, *others = embed.widths
    x = torch.randn(2, embed.widths[first])
    without = {name: torch.full((2, embed.widths[name]), torch.nan) for name in others}
    assert torch.equal(embed({first: x}), embed({first: x, **without})) and others
    assert not torch.equal(
        embed({first: x}),
        embed({first: x, **{name: x.new_zeros(y.shape) for name, y in without.items()}}),
    )


def test_what_does_not_fit_is_refused(demo_data):
    graph = training_graph(demo_data)
    embed = FeatureEmbedding(graph, torch.randn(graph.num_items, 5))
    name, width = next(iter(embed.widths.items()))
    for wrong in ({}, {'smell': torch.randn(2, width)}):
        with pytest.raises(ConfigError, match='features: got .* accepted are'):
            embed(wrong)
    bad = torch.randn(2, width)
    bad[0, 0] = torch.nan
    for wrong in (torch.randn(2, width + 1), torch.full((2, width), torch.inf), bad):
        with pytest.raises(DataError, match=f'features: {name}'):
            embed({name: wrong})
    with pytest.raises(ConfigError, match='EASE has no item embeddings'):
        new_item_embedding(get_model('EASE')(demo_data))
    model = get_model('LightGCN')(demo_data, modalities=[])
    with model.cached_embeddings(), pytest.raises(ConfigError, match='without modalities'):
        new_item_embedding(model)
