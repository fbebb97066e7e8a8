import pytest
import torch
from helpers.toy_graphs import BATCH, PATH, set_tables, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import SGL, LightGCN

AUGMENTATIONS = ['edge_drop', 'node_drop', 'random_walk']


@pytest.mark.parametrize('augmentation', AUGMENTATIONS)
def test_nothing_dropped_gives_the_main_view(augmentation):
    model = SGL(toy_data(), hidden_channels=4, augmentation=augmentation, edge_dropout=0.0)
    model.start_epoch(0)
    for view in model.views():
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(view, model.embed()))


@pytest.mark.parametrize('augmentation', AUGMENTATIONS)
def test_views_propagate_on_their_graphs(augmentation):
    model = SGL(
        toy_data(), hidden_channels=4, num_layers=3, augmentation=augmentation, edge_dropout=0.4
    )
    model.start_epoch(0)
    x = model.embedding.joint()
    for graphs, view in zip(model.view_graphs.values(), model.views()):
        assert len(graphs) == (3 if augmentation == 'random_walk' else 1)
        layers = [x]
        for layer in range(3):
            layers.append(graphs[layer if len(graphs) > 1 else 0] @ layers[-1])
        assert torch.allclose(torch.cat(view), sum(layers) / 4, atol=1e-6)


def test_a_node_without_edges_in_a_view_keeps_its_share():
    model = SGL(PATH, hidden_channels=2, num_layers=2)
    model.view_graphs = {0: {0: model.interactions.subgraph(torch.tensor([False, False, True]))}}
    users, items = model.views()[0]
    assert torch.allclose(users[0], model.embedding.user[0] / 3) and torch.allclose(
        items[0], model.embedding.item[0] / 3
    )


def test_weight_zero_is_light_gcn_bit_for_bit():
    torch.manual_seed(1)
    model = SGL(toy_data(), contrast_weight=0.0)
    state = torch.get_rng_state()
    assert model.start_epoch(0) == {}
    terms = model.loss(BATCH)
    assert torch.equal(torch.get_rng_state(), state) and model.view_graphs == {}
    torch.manual_seed(1)
    expected = LightGCN(toy_data()).loss(BATCH)
    assert terms.keys() == expected.keys() and all(
        torch.equal(terms[name], expected[name]) for name in terms
    )


def test_contrast_by_hand():
    model = SGL(
        PATH,
        hidden_channels=2,
        num_layers=0,
        edge_dropout=0.0,
        contrast_weight=2.0,
        temperature=0.5,
        symmetric=False,
    )
    set_tables(model, torch.eye(2), torch.ones(2, 2))
    batch = type(BATCH)(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 1]), torch.tensor([1, 0, 0]))
    terms = model.loss(batch)
    # -2 + log(e^2 + 1)
    assert terms['contrast_users'].item() == pytest.approx(2 * 0.1269, abs=2e-4)
    # parallel rows: log 2
    assert terms['contrast_items'].item() == pytest.approx(2 * 0.6931, abs=2e-4)
    model.symmetric = True
    assert model.loss(batch)['contrast_users'].item() == pytest.approx(
        terms['contrast_users'].item()
    )


def test_graphs_are_drawn_per_epoch_or_per_batch():
    model = SGL(toy_data(), edge_dropout=0.5)
    model.start_epoch(0)
    first = model.views()
    assert all(torch.equal(a, b) for a, b in zip(first[0], model.views()[0]))
    model.start_epoch(1)
    assert not torch.equal(first[0][0], model.views()[0][0])
    model = SGL(toy_data(), edge_dropout=0.5, resample='batch')
    assert model.start_epoch(0) == {} and model.view_graphs == {}
    assert not torch.equal(model.views()[0][0], model.views()[0][0])


@pytest.mark.parametrize(
    'arguments',
    [
        dict(augmentation='ED'),
        dict(edge_dropout=1.0),
        dict(contrast_weight=-1.0),
        dict(temperature=0.0),
        dict(resample='step'),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        SGL(toy_data(), **arguments)
