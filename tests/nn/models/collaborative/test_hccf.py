import pytest
import torch
from helpers.toy_graphs import BATCH, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import HCCF, LightGCN


def without_hyperedges(**arguments):
    model = HCCF(toy_data(), hidden_channels=4, edge_dropout=0.0, **arguments).double()
    with torch.no_grad():
        model.user_hyper.weight.zero_()
        model.item_hyper.weight.zero_()
    return model


@pytest.mark.parametrize('num_layers', [0, 1, 2, 3])
def test_without_hyperedges_it_is_light_gcn(num_layers):
    model = without_hyperedges(num_layers=num_layers)
    light = LightGCN(toy_data(), hidden_channels=4, num_layers=num_layers).double()
    light.load_state_dict(model.state_dict(), strict=False)
    assert all(
        torch.allclose(a, (num_layers + 1) * b) for a, b in zip(model.embed(), light.embed())
    )


def test_residual_layers_by_hand():
    model = without_hyperedges(num_layers=2, residual=True)
    matrix, e = model.interactions.adjacency, model.embedding.joint()
    assert torch.allclose(
        torch.cat(model.embed()), 3 * e + 3 * (matrix @ e) + matrix @ (matrix @ e)
    )


@pytest.mark.parametrize('detach', [True, False])
def test_the_contrast_moves_the_local_view_unless_detached(detach):
    model = HCCF(toy_data(), hidden_channels=4, num_layers=1, edge_dropout=0.0, detach=detach)
    views = model.views()
    views.local_views[0].retain_grad()
    model.views = lambda: views
    model.loss(BATCH)['contrast'].backward()
    gradient = views.local_views[0].grad
    assert (gradient is None or not gradient.any()) == detach
    assert bool(model.user_hyper.weight.grad.any())


def test_keep_one_makes_training_and_evaluation_equal():
    model = HCCF(toy_data(), hidden_channels=4, edge_dropout=0.0)
    assert all(torch.equal(a, b) for a, b in zip(model.train().embed(), model.eval().embed()))
    model = HCCF(toy_data(), hidden_channels=4, edge_dropout=0.5)
    assert not torch.equal(model.train().embed()[0], model.embed()[0])


def test_batch_nodes_count_once():
    model = HCCF(toy_data(), hidden_channels=4, edge_dropout=0.0)
    once = type(BATCH)(*(x[:4] for x in BATCH))
    twice = type(BATCH)(*(torch.cat([x, x]) for x in once))
    assert torch.allclose(model.loss(once)['contrast'], model.loss(twice)['contrast'])


@pytest.mark.parametrize(
    'arguments',
    [
        dict(
            local_slope=0.5,
            slope=0.5,
            num_maps=3,
            residual=True,
            detach=False,
            contrast_map=True,
            rank_loss='hinge',
        ),
        dict(bank='all'),
        dict(hyper_dropout='edge', membership_scale=0.5),
        dict(contrast_weight=0.0),
    ],
)
def test_every_preset_trains(arguments):
    model = HCCF(toy_data(), hidden_channels=4, **arguments)
    terms = model.loss(BATCH)
    sum(terms.values()).backward()
    assert ('contrast' in terms) == (arguments.get('contrast_weight') != 0)
    assert all(
        p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in model.parameters()
    )
    model.reset_parameters()


@pytest.mark.parametrize(
    'arguments',
    [
        dict(num_hyperedges=0),
        dict(edge_dropout=1.0),
        dict(temperature=0.0),
        dict(bank='none'),
        dict(hyper_dropout='node'),
        dict(rank_loss='log'),
        dict(slope=0.0),
        dict(contrast_weight=-1.0),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        HCCF(toy_data(), **arguments)
