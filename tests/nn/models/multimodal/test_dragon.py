import math

import pytest
import torch
from helpers.toy_graphs import BATCH, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.models import DRAGON

A = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
B = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.96, 0.28]])
#: Item 2 has no edge; users 0 and 1 share item 1.
TOY = TrainingGraph(
    2,
    3,
    torch.tensor([[0, 0, 1], [0, 1, 1]]),
    {'image': Modality('image', A, 3), 'text': Modality('text', B, 3)},
)


def on_toy(monkeypatch, **arguments):
    """Rows that enter the graph are those given here: no encoder, and no normalization of rows of
    one column.
    """
    model = (
        DRAGON(
            TOY,
            hidden_channels=1,
            num_neighbors=2,
            modality_weights={'image': 0.1, 'text': 0.9},
            **arguments,
        )
        .double()
        .eval()
    )
    items = {'image': [3.0, 4, 5], 'text': [1.0, 0, 2]}
    users = {'image': [1.0, 2], 'text': [1.0, -1]}
    monkeypatch.setattr('genrec_pyg.nn.modality.streams.unit_rows', lambda x: x)
    with torch.no_grad():
        for name, encoder in model.streams.encoders.items():
            model.streams.preferences[name].copy_(torch.tensor(users[name]).view(2, 1))
            monkeypatch.setattr(
                encoder,
                'forward',
                lambda _, x=items[name]: torch.tensor(x, dtype=torch.float64).view(3, 1),
            )
        model.streams.weight.copy_(torch.tensor([[0.6, 0.4], [0.5, 0.5]]))
    return model


def close(found, expected):
    return torch.allclose(found, torch.tensor(expected, dtype=torch.float64), atol=2e-6)


def test_rows_and_scores_by_hand(monkeypatch):
    model = on_toy(monkeypatch)
    users, items = model.propagate()
    assert close(users, [[3.947056, 0.841421], [3.090990, -0.573223]])
    assert close(items, [[6.621320, 2.207107], [9.974874, 0.146447], [5, 2]])
    users, items = model.embed()
    assert close(users, [[7.038047, 0.268198]] * 2)
    assert close(items, [[12.680724, 4.217983], [17.462311, 1.219670], [10.978338, 4.000520]])
    assert close(model.score(torch.tensor([1])), [[90.378782, 123.227668, 78.338984]])


def test_loss_by_hand(monkeypatch):
    batch = Triples(torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    terms = on_toy(monkeypatch, l2=0.0).loss(batch)
    assert terms['bpr'].item() == pytest.approx(1) and terms['l2'].item() == 0
    model = DRAGON(TOY, hidden_channels=3, l2=0.5).double()
    with torch.no_grad():
        model.streams.weight.fill_(0.5)
        for table in model.streams.preferences.values():
            table.fill_(1.0)
    assert model.loss(batch)['l2'].item() == pytest.approx(0.5 * (2 + 0.25))
    users, items = model.embed()
    batch = Triples(torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([2, 0]))
    gap = (users[batch.user] * (items[batch.pos] - items[batch.neg])).sum(1)
    terms = model.loss(batch)
    assert terms['bpr'].item() == pytest.approx((1 + (-gap).exp()).log2().mean().item(), rel=1e-5)


def test_without_the_graphs_on_top_it_is_a_sum_of_weighted_products():
    model = DRAGON(toy_data(), hidden_channels=4, num_item_layers=0).double().eval()
    model.user_graph.weights = model.user_graph.weights.with_value(
        torch.zeros_like(model.user_graph.weights.value)
    )
    users, items = model.propagate()
    weighted = sum(
        users[:, 4 * m : 4 * m + 4] @ (2 * items[:, 4 * m : 4 * m + 4]).t() for m in range(2)
    )
    # no layer on the items: each adds its own row once more
    assert torch.allclose(model.score(torch.arange(8)), weighted)


def test_users_who_share_no_item_add_nothing():
    model = DRAGON(toy_data(), hidden_channels=4).eval()
    users = model.propagate()[0]
    found = model.embed()[0]
    assert torch.equal(found[7], users[7])  # no interaction
    # Users 0, 1 and 4 meet at items 0, 1 and 2: user 0 shares one item with each of the others.
    assert torch.allclose(found[0], users[0] + (users[1] + users[4]) / 2)


def test_weights_of_users_start_near_equal_shares():
    model = DRAGON(toy_data(3), hidden_channels=4)
    assert torch.allclose(model.streams.weight.sum(1), torch.ones(8))
    # of one logit, times the slope of the softmax at equal logits
    deviation = math.sqrt(2 / 11) / 3
    assert 0 < float((model.streams.weight - 1 / 3).detach().abs().mean()) < 2 * deviation


def test_a_missing_modality_is_a_block_of_zeros():
    # item 6 has nothing and no edge
    model = DRAGON(toy_data(2, partial=True), hidden_channels=4).eval()
    assert not bool(model.embed()[1][6].any())
    assert torch.isfinite(sum(model.loss(BATCH).values()))


@pytest.mark.parametrize(
    'arguments',
    [
        dict(num_layers=-1),
        dict(num_item_layers=-1),
        dict(num_neighbors=0),
        dict(num_co_users=0),
        dict(neighbor_padding='x'),
        dict(modality_weights={'image': 0.0}),
        dict(modalities=[]),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        DRAGON(toy_data(), **arguments)
