import pytest
import torch
from helpers.toy_graphs import BATCH, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import SMORE, LightGCN
from genrec_pyg.ops import knn_adjacency, unit_rows


@pytest.mark.parametrize('num_modalities', [1, 2, 3])
def test_side_view_with_open_gates(num_modalities):
    """Weights and biases of queries and preferences are zero: attention 1/d, preferences 1/2."""
    channels = 4
    model = SMORE(toy_data(num_modalities), hidden_channels=channels).double().eval()
    with torch.no_grad():
        for part in (
            *model.queries.values(),
            *model.preferences.values(),
            model.fused_preference,
            *model.gates.values(),
            model.fused_gate,
        ):
            for parameter in part.parameters():
                parameter.zero_()
    block = torch.zeros(8, 7, dtype=torch.float64).index_put(
        tuple(model.graph.edge_index), torch.ones(10).double()
    )
    degrees = [block.sum(dim).clamp(min=1).rsqrt() for dim in (1, 0)]
    block = degrees[0].unsqueeze(1) * block * degrees[1]
    rows = []
    for graph in (*model.item_graphs.values(), model.fused_graph):
        items = graph @ (model.embedding.item / 2)
        rows.append(torch.cat([block @ items, items]))
    expected = (sum(rows[:-1]) / channels + rows[-1]) / (2 * (num_modalities + 1))
    assert torch.allclose(model.views().side, expected)


def test_with_closed_preferences_and_no_contrast_it_is_light_gcn():
    model = SMORE(toy_data(), hidden_channels=4, contrast_weight=0.0).double().eval()
    with torch.no_grad():
        for linear in (*model.preferences.values(), model.fused_preference):
            linear.weight.zero_()
            linear.bias.fill_(-1e4)
    other = LightGCN(toy_data(), hidden_channels=4, num_layers=3).double()
    other.embedding.load_state_dict(model.embedding.state_dict())
    assert all(torch.allclose(a, b) for a, b in zip(model.embed(), other.embed()))
    terms = model.loss(BATCH)
    assert set(terms) == {'bpr', 'l2'} and torch.allclose(terms['bpr'], other.loss(BATCH)['bpr'])


def test_contrast_is_of_content_with_behavior():
    model = SMORE(toy_data(), hidden_channels=4, contrast_weight=0.3).double().eval()
    views, expected = model.views(), 0
    for index in (BATCH.user, 8 + BATCH.pos):
        cosine = unit_rows(views.side[index]) @ unit_rows(views.behavior[index]).t() / 0.2
        expected = expected + torch.nn.functional.cross_entropy(cosine, torch.arange(5))
    assert model.loss(BATCH)['contrast'].item() == pytest.approx(0.3 * expected.item())


def test_attention_over_modalities_sums_to_one_over_them():
    model = (
        SMORE(toy_data(), hidden_channels=4, attention='modality', filter_init='identity')
        .double()
        .eval()
    )
    other = SMORE(toy_data(), hidden_channels=4, filter_init='identity').double().eval()
    other.load_state_dict(model.state_dict())
    assert not torch.allclose(model.embed()[1], other.embed()[1])
    for parameter in model.parameters():
        # equal rows of the modalities: any weights that sum to 1 give that row
        torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(model.embedding.item)
    model.item_graphs = {name: model.fused_graph for name in model.item_graphs}
    views = model.views()
    assert torch.allclose(
        views.side[8:], 2 * (model.fused_graph @ model.embedding.item / 2) / 2 / 3
    )


def test_an_item_that_lacks_a_modality_is_fused_from_the_others():
    data = toy_data(2)
    # item 6 has no image
    data['item', 'has', 'image'].edge_index = data['item', 'has', 'image'].edge_index[:, :6]
    model = SMORE(data, hidden_channels=4).double().eval()
    content, fused = model.content()
    text = model.projections['text'](model.features['text'])
    assert torch.allclose(fused[6], model.fused_filter.fuse([text])[6]) and not bool(
        content['image'][6].any()
    )
    edge_index, value = model.item_graphs['image'].to_edge_index()
    assert value[edge_index[0] == 6].tolist() == [1.0]


def test_numbers_of_neighbors_may_differ():
    model = SMORE(toy_data(3), hidden_channels=4, num_neighbors={'image': 2, 'text': 4, 'other': 3})
    for name, number in (('image', 2), ('text', 4), ('audio', 10)):
        assert torch.equal(
            model.item_graphs[name].value, knn_adjacency(model.features[name].x, number).value
        )


@pytest.mark.parametrize(
    'arguments',
    [
        dict(num_layers=-1),
        dict(num_item_layers=-1),
        dict(num_neighbors=0),
        dict(num_neighbors={'image': 0}),
        dict(contrast_weight=-1.0),
        dict(temperature=0.0),
        dict(dropout=1.5),
        dict(attention='x'),
        dict(filter_init='x'),
        dict(modalities=[]),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        SMORE(toy_data(), **arguments)
