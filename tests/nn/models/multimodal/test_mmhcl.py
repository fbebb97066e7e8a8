import pytest
import torch
import torch.nn.functional as F
from helpers.toy_graphs import BATCH, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import MMHCL

SETTINGS = dict(
    hidden_channels=4,
    num_layers=2,
    num_user_layers=3,
    num_item_layers=2,
    num_neighbors=3,
    l2=0.3,
    user_weight=0.4,
    item_weight=0.5,
    temperature=0.7,
)


def dense_views(model, features):
    """Final users and items and their second order, by dense matrices."""
    users, items = model.num_users, model.num_items
    interactions = torch.zeros(users, items, dtype=torch.float64)
    interactions[tuple(model.graph.edge_index)] = 1
    common = interactions @ interactions.t()
    common.fill_diagonal_(0)
    degree = common.sum(dim=1, keepdim=True)
    shared = model.second_order.user
    for _ in range(3):
        shared = torch.where(degree > 0, common @ shared / degree, 0)
    incidence = []
    for x in features:
        cosine = F.normalize(x, dim=1) @ F.normalize(x, dim=1).t()
        order = cosine.argsort(dim=1, descending=True)[:, :3]
        incidence.append(((torch.zeros_like(cosine).scatter(1, order, 1.0) * cosine) > 0).double())
    incidence = torch.cat(incidence, dim=1)
    counts = incidence @ incidence.t()
    scale = counts.sum(dim=1).rsqrt()
    counts = scale.unsqueeze(1) * counts * scale
    similar = counts @ counts @ model.second_order.item
    whole = torch.zeros(users + items, users + items, dtype=torch.float64)
    whole[:users, users:], whole[users:, :users] = interactions, interactions.t()
    scale = torch.where(whole.sum(dim=1) > 0, whole.sum(dim=1).clamp(min=1).rsqrt(), 0)
    whole = scale.unsqueeze(1) * whole * scale
    first = torch.cat([model.embedding.user, model.embedding.item])
    first = (first + whole @ first + whole @ whole @ first) / 3
    return (
        first[:users] + F.normalize(shared, dim=1),
        first[users:] + F.normalize(similar, dim=1),
        shared,
        similar,
    )


def contrast(x, y, temperature):
    x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
    own, other = (x @ x.t() / temperature).exp(), (x @ y.t() / temperature).exp()
    return -(other.diag() / (other.sum(dim=1) + own.sum(dim=1) - own.diag())).log().mean()


@pytest.mark.parametrize('nodes', ['all', 'batch'])
@pytest.mark.parametrize('num_modalities', [1, 2, 3])
def test_agrees_with_the_dense_formula(num_modalities, nodes):
    data = toy_data(num_modalities)
    model = MMHCL(data, contrast_nodes=nodes, **SETTINGS).double()
    features = [data[name].x.double() for name in model.graph.modalities]
    users, items, shared, similar = dense_views(model, features)
    for ours, expected in zip(model.views(), (users, items, shared, similar), strict=True):
        assert torch.allclose(ours, expected)
    rows = users[BATCH.user], items[BATCH.pos], items[BATCH.neg]
    some = (
        (torch.arange(len(users)), torch.arange(len(items)))
        if nodes == 'all'
        else (torch.tensor([0, 1, 4, 6]), torch.tensor([0, 1, 2, 5]))
    )
    expected = {
        'bpr': -F.logsigmoid((rows[0] * (rows[1] - rows[2])).sum(dim=1)).mean(),
        'l2': 0.3 * sum(x.square().sum() for x in rows) / 10,
        'users': 0.4 * contrast(users[some[0]], shared[some[0]], 0.7),
        'items': 0.5 * contrast(items[some[1]], similar[some[1]], 0.7),
    }
    terms = model.loss(BATCH)
    assert set(terms) == set(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-6), name


def test_without_weights_only_the_ranking_is_left():
    model = MMHCL(toy_data(), hidden_channels=4, user_weight=0, item_weight=0)
    assert set(model.loss(BATCH)) == {'bpr', 'l2'}


def test_second_order_has_length_one_whatever_its_scale():
    model = MMHCL(toy_data(), hidden_channels=4)
    before = model.embed()
    with torch.no_grad():
        model.second_order.user.mul_(100)
        model.second_order.item.mul_(0.01)
    for old, new in zip(before, model.embed()):
        assert torch.allclose(old, new, atol=1e-5)


@pytest.mark.parametrize(
    'arguments',
    [
        dict(hidden_channels=0),
        dict(num_layers=-1),
        dict(num_user_layers=-1),
        dict(num_item_layers=-1),
        dict(num_neighbors=0),
        dict(l2=-1.0),
        dict(user_weight=-1.0),
        dict(item_weight=-1.0),
        dict(temperature=0.0),
        dict(contrast_nodes='users'),
        dict(modalities=[]),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        MMHCL(toy_data(), **arguments)
