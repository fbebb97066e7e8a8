import math

import pytest
import torch
from helpers.toy_graphs import BATCH, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.models import DualGNN

X = {name: Modality(name, torch.ones(3, 2), 3) for name in ('image', 'text')}
#: Item 2 has no edge; each user is the other's only neighbor.
GRAPH = TrainingGraph(2, 3, torch.tensor([[0, 0, 1], [0, 1, 1]]), X)
#: Propagated sums of the starts (1, 2 | 3, 4, 5) and (1, -1 | 1, 0, 2).
FIRST = (6.578427, 6.181981, 6.621320, 9.974874, 5)
SECOND = (2.103553, -1.146447, 2.207107, 0.146447, 2)


def by_hand(monkeypatch, **arguments):
    model = DualGNN(GRAPH, hidden_channels=1, **arguments).double().eval()
    starts = torch.tensor([[1.0, 2, 3, 4, 5], [1, -1, 1, 0, 2]]).double().t().unsqueeze(2)
    monkeypatch.setattr(model.streams, 'starts', lambda: starts)
    with torch.no_grad():
        model.streams.weight.copy_(torch.tensor([[0.6, 0.4], [0.5, 0.5]]))
    return model


def test_embeddings_by_hand(monkeypatch):
    model = by_hand(monkeypatch)
    mixed = model.mix(model.streams()[0])
    assert mixed.view(-1).tolist() == pytest.approx([4.788477, 2.517767], abs=1e-6)
    users, items = model.embed()
    # on the only neighbor: the sum of both
    assert users.view(-1).tolist() == pytest.approx([7.306244, 7.306244], abs=1e-6)
    assert items.view(-1).tolist() == pytest.approx(
        [a + b for a, b in zip(FIRST[2:], SECOND[2:])], abs=2e-6
    )


def test_mixture_of_the_released_program_by_hand(monkeypatch):
    model = by_hand(monkeypatch, variant='released')
    with torch.no_grad():
        model.streams.weight.fill_(0.5)
    expected = [0.5 * a + b for a, b in zip(FIRST[:2], SECOND[:2])]
    assert model.mix(model.streams()[0]).view(-1).tolist() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(
    'fusion,expected',
    [
        ('mean', [(a + b) / 2 for a, b in zip(FIRST[:2], SECOND[:2])]),
        ('max', [0.6 * FIRST[0], 0.5 * FIRST[1]]),
        (
            'softmax',
            [
                (math.exp(0.1) * FIRST[0] + math.exp(-0.1) * SECOND[0])
                / (math.exp(0.1) + math.exp(-0.1)),
                (FIRST[1] + SECOND[1]) / 2,
            ],
        ),
    ],
)
def test_other_mixtures_by_hand(monkeypatch, fusion, expected):
    model = by_hand(monkeypatch, fusion=fusion)
    assert model.mix(model.streams()[0]).view(-1).tolist() == pytest.approx(expected, abs=2e-6)


def test_mixture_by_a_linear_map(monkeypatch):
    model = by_hand(monkeypatch, fusion='concat')
    with torch.no_grad():
        model.mixture.weight.copy_(torch.tensor([[2.0, -1.0]]))
        model.mixture.bias.fill_(0.5)
    expected = [
        2 * 0.6 * FIRST[0] - 0.4 * SECOND[0] + 0.5,
        2 * 0.5 * FIRST[1] - 0.5 * SECOND[1] + 0.5,
    ]
    assert model.mix(model.streams()[0]).view(-1).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize('gap,expected', [(0.0, 1.0), (1.0, 0.451941)])
def test_loss_is_in_base_2(monkeypatch, gap, expected):
    model = DualGNN(toy_data(), hidden_channels=2)
    items = torch.zeros(7, 2)
    items[BATCH.pos[1], 0] = gap
    monkeypatch.setattr(model, 'embed', lambda: (torch.ones(8, 2), items))
    triple = Triples(BATCH.user[1:2], BATCH.pos[1:2], BATCH.neg[1:2])
    assert model.loss(triple)['bpr'].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('num_modalities', [1, 2, 3])
def test_penalty_of_ones(num_modalities):
    model = DualGNN(toy_data(num_modalities), hidden_channels=2, l2=0.5)
    with torch.no_grad():
        for table in model.streams.preferences.values():
            table.fill_(1.0)
        model.streams.weight.fill_(1 / num_modalities)
    assert model.loss(BATCH)['l2'].item() == pytest.approx(
        0.5 * (num_modalities + num_modalities**-2)
    )


def test_padding_is_drawn_in_every_epoch_of_training_alone():
    model = DualGNN(toy_data(), hidden_channels=2, neighbor_padding='polya').train()
    model.start_epoch(0)
    first = model.embed()[0]
    assert torch.equal(first, model.embed()[0])
    model.start_epoch(1)
    assert not torch.equal(first, model.embed()[0])
    plain = DualGNN(toy_data(), hidden_channels=2)
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval().embed()[0], plain.eval().embed()[0])


def test_order_of_modalities_changes_nothing():
    model = DualGNN(toy_data(3), hidden_channels=3).double().eval()
    other = DualGNN(toy_data(3), ['audio', 'image', 'text'], hidden_channels=3).double().eval()
    state = model.state_dict()
    other.load_state_dict({**state, 'streams.weight': state['streams.weight'][:, [2, 0, 1]]})
    assert torch.allclose(model.score(torch.arange(8)), other.score(torch.arange(8)))
    assert all(
        torch.allclose(model.loss(BATCH)[name], other.loss(BATCH)[name]) for name in ('bpr', 'l2')
    )


def test_the_batch_is_left_as_it_is():
    model, before = DualGNN(toy_data(), hidden_channels=2), [column.clone() for column in BATCH]
    first = model.loss(BATCH)
    assert all(torch.equal(first[name], value) for name, value in model.loss(BATCH).items())
    assert all(torch.equal(a, b) for a, b in zip(before, BATCH))


@pytest.mark.parametrize(
    'arguments',
    [
        dict(variant='x'),
        dict(fusion='x'),
        dict(num_neighbors=0),
        dict(num_layers=-1),
        dict(neighbor_padding='x'),
        dict(modalities=[]),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        DualGNN(toy_data(), **arguments)
