from itertools import combinations

import pytest
import torch
import torch.nn.functional as F
from helpers.toy_graphs import BATCH, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import GUME
from genrec_pyg.nn.models.multimodal.gume import distribution_gap

#: Every item has three neighbors per modality, so that some pairs are common and others are not.
SETTINGS = dict(
    hidden_channels=4,
    num_layers=2,
    num_item_layers=2,
    num_neighbors=4,
    noise=0.0,
    l2=0.3,
    interest_l2=0.2,
    align_weight=0.7,
    contrast_weight=0.5,
    user_weight=0.4,
)


def dense_model(model, features):
    """Behavior, content per modality, fused content and extended interests, by dense matrices."""
    encoder, users, items = model.encoder, model.num_users, model.num_items
    neighbors, graphs = [], []
    for x in features:
        cosine = F.normalize(x, dim=1) @ F.normalize(x, dim=1).t()
        order = cosine.argsort(dim=1, descending=True)[:, :4]
        kept = torch.zeros_like(cosine).scatter(1, order, 1.0).bool() & (cosine > 0)
        scale = (cosine * kept).sum(dim=1).rsqrt()
        neighbors.append(kept & ~torch.eye(items, dtype=torch.bool))
        graphs.append(scale.unsqueeze(1) * cosine * kept * scale)
    whole = torch.zeros(users + items, users + items, dtype=torch.float64)
    whole[:users, users:][tuple(model.graph.edge_index)] = 1
    whole[users:, :users] = whole[:users, users:].t()
    whole[users:, users:] = torch.stack(neighbors).all(dim=0)
    degree = whole.sum(dim=1)
    scale = torch.where(degree > 0, degree.clamp(min=1).rsqrt(), 0)
    whole = scale.unsqueeze(1) * whole * scale

    def propagate(x):
        return (x + whole @ x + whole @ whole @ x) / 3

    behavior = propagate(torch.cat([encoder.user_embedding, encoder.item_embedding]))
    content, logits = [], []
    for name, x, graph in zip(encoder.gates, features, graphs):
        gate = encoder.gates[name].linear(encoder.encoders[name].linear(x)).sigmoid()
        rows = graph @ graph @ (encoder.item_embedding * gate)
        content.append(torch.cat([whole[:users, users:] @ rows, rows]))
        logits.append(encoder.attention.query(encoder.attention.key(content[-1]).tanh()))
    weight = torch.cat(logits, dim=1).softmax(dim=1)
    coarse = sum(weight[:, m : m + 1] * x for m, x in enumerate(content))
    side = coarse + sum(
        encoder.specific_gates[name].linear(behavior).sigmoid() * (x - coarse)
        for name, x in zip(encoder.gates, content)
    )
    extended = [propagate(torch.cat([model.interest, x[users:]])) for x in content]
    return (
        behavior,
        content,
        side / (len(content) + 1),
        sum(extended) / len(content),
        int(whole[users:, users:].count_nonzero()),
    )


def contrast(x, y, temperature):
    cosine = F.normalize(x, dim=1) @ F.normalize(y, dim=1).t() / temperature
    return F.cross_entropy(cosine, torch.arange(len(x)))


@pytest.mark.parametrize('num_modalities', [1, 2, 3])
def test_agrees_with_the_dense_formula(num_modalities):
    data = toy_data(num_modalities)
    model = GUME(data, **SETTINGS).double()
    features = [data[name].x.double() for name in model.graph.modalities]
    behavior, content, side, extended, num_pairs = dense_model(model, features)
    assert num_pairs > 0  # otherwise the graph would not be enhanced
    users, items = (behavior + side).split([8, 7])
    for ours, expected in zip(model.embed(), (users, items)):
        assert torch.allclose(ours, expected)
    rows = users[BATCH.user], items[BATCH.pos], items[BATCH.neg]
    positive = 8 + BATCH.pos
    gaps = [abs(x.mean() - y.mean()) + abs(x.var() - y.var()) for x, y in combinations(content, 2)]
    own = side[BATCH.user], extended[BATCH.user]
    expected = {
        'bpr': -F.logsigmoid((rows[0] * (rows[1] - rows[2])).sum(dim=1)).mean(),
        'l2': 0.3 * sum(x.square().sum() for x in rows) / 10,
        'interest_l2': 0.2 * extended[positive].square().sum() / 10,
        'contrast': 0.5
        * sum(contrast(side[index], behavior[index], 0.2) for index in (BATCH.user, positive)),
        'users': 0.4 * (contrast(own[1], own[0], 0.1) + sum(contrast(x, x, 0.1) for x in own)),
    }
    if num_modalities > 1:
        expected['align'] = 0.7 * sum(gaps)
    terms = model.loss(BATCH)
    assert set(terms) == set(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-6), name


def test_noise_moves_rows_away_from_zero_by_its_length():
    model = GUME(toy_data(), hidden_channels=4, noise=0.3)
    rows = torch.tensor([[1.0, -2.0, 0.5, -0.1], [0.0, 0.0, 0.0, 0.0]])
    moved = model._moved(rows)
    assert bool((moved[0].abs() > rows[0].abs()).all()) and torch.equal(moved[1], rows[1])
    assert (moved[0] - rows[0]).norm().item() == pytest.approx(0.3, rel=1e-5)


def test_distribution_gap_by_hand():
    """Means 1, 3 and 1, variances 2, 2 and 0 of two entries each."""
    views = torch.tensor([[[0.0, 2.0]], [[2.0, 4.0]], [[1.0, 1.0]]])
    assert distribution_gap(views).item() == 2 + 2 + (2 + 2)


def test_without_weights_only_the_ranking_is_left():
    model = GUME(
        toy_data(),
        hidden_channels=4,
        interest_l2=0,
        align_weight=0,
        contrast_weight=0,
        user_weight=0,
    )
    state = torch.get_rng_state()
    assert set(model.loss(BATCH)) == {'bpr', 'l2'}
    assert torch.equal(torch.get_rng_state(), state)  # no noise is drawn


@pytest.mark.parametrize(
    'arguments',
    [
        dict(hidden_channels=0),
        dict(num_layers=-1),
        dict(num_item_layers=-1),
        dict(num_neighbors=0),
        dict(l2=-1.0),
        dict(interest_l2=-1.0),
        dict(align_weight=-1.0),
        dict(contrast_weight=-1.0),
        dict(temperature=0.0),
        dict(user_weight=-1.0),
        dict(user_temperature=0.0),
        dict(noise=-1.0),
        dict(modalities=[]),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        GUME(toy_data(), **arguments)
