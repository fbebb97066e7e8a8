import pytest
import torch
from helpers.toy_graphs import BATCH, set_tables, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.losses import bpr_loss
from genrec_pyg.nn.models import FREEDOM, MMGCF, LightGCN

CONTENT = [[[1.0], [0.0], [2.0]], [[0.0], [2.0], [-1.0]]]
TOY = TrainingGraph(
    2,
    3,
    torch.tensor([[0, 0, 1], [0, 1, 1]]),
    {name: Modality(name, torch.tensor(x), 3) for name, x in zip('ab', CONTENT)},
)


def on_toy(**arguments):
    model = MMGCF(TOY, hidden_channels=1, edge_dropout=0.0, **arguments)
    with torch.no_grad():
        for projection in model.projections.values():
            projection.linear.weight.fill_(1.0)
            projection.linear.bias.zero_()
    return set_tables(model, [[1.0], [2.0]], [[3.0], [4.0], [5.0]]).eval()


@pytest.mark.parametrize(
    'weighting, fusion, expected',
    [
        ('equal', 'mean', [1.353553, 2.162479, 1.083333]),
        ('equal', 'sum', [3.207107, 5.324958, 2.666667]),
        ('alpha', 'mean', [0.534518, 0.887493, 0.444444]),
        ('alpha', 'sum', [1.603553, 2.662479, 1.333333]),
    ],
)
def test_items_by_hand(weighting, fusion, expected):
    users, items = on_toy(weighting=weighting, fusion=fusion).embed()
    assert users.view(-1).tolist() == pytest.approx([2.192809, 2.060660], abs=1e-6)
    assert items.view(-1).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('fusion, expected', [('sum', [3, 3, 2]), ('mean', [1, 1, 2 / 3])])
def test_normalized_items_by_hand(fusion, expected):
    assert on_toy(weighting='normalized', fusion=fusion).embed()[1].view(
        -1
    ).tolist() == pytest.approx(expected)


def test_concatenated_items_by_hand():
    model = on_toy(weighting='alpha', fusion='concat')
    with torch.no_grad():
        model.item_map.weight.copy_(torch.tensor([[0.5, -1.0, 2.0]]))
        model.item_map.bias.fill_(0.1)
    assert model.embed()[1].view(-1).tolist() == pytest.approx(
        [0.151777, 2.931239, -1.483333], abs=1e-6
    )
    model = on_toy(weighting='equal', fusion='concat')
    with torch.no_grad():
        model.content_map.weight.copy_(torch.tensor([[1.0, 2.0]]))
        model.content_map.bias.zero_()
        model.item_map.weight.copy_(torch.tensor([[1.0, -1.0]]))
        model.item_map.bias.zero_()
    expected = [2.207107 - 1, 3.324958 - 4, 1.666667 - 0]
    assert model.embed()[1].view(-1).tolist() == pytest.approx(expected, abs=1e-6)


def test_penalty_by_hand():
    batch = Triples(torch.tensor([0]), torch.tensor([0]), torch.tensor([2]))
    assert on_toy(l2=1.0).loss(batch)['l2'].item() == pytest.approx(17.5)


def test_without_content_it_is_light_gcn():
    model = MMGCF(toy_data(0), hidden_channels=4, num_layers=3).double().eval()
    other = LightGCN(toy_data(0), hidden_channels=4, num_layers=3).double().eval()
    other.embedding.load_state_dict(model.embedding.state_dict())
    assert all(torch.allclose(a, b) for a, b in zip(model.embed(), other.embed()))
    model = MMGCF(toy_data(), hidden_channels=4, num_layers=3, fusion='sum').double().eval()
    model.embedding.load_state_dict(other.embedding.state_dict())
    with torch.no_grad():
        for parameter in model.projections.parameters():
            parameter.zero_()
    assert all(torch.allclose(a, b) for a, b in zip(model.embed(), other.embed()))


def test_training_is_that_of_freedom_without_item_graph_and_content():
    model = MMGCF(toy_data(0), hidden_channels=4, edge_dropout=0.5)
    other = FREEDOM(
        toy_data(), hidden_channels=4, edge_dropout=0.5, num_item_layers=0, content_weight=0.0
    )
    other.embedding.load_state_dict(model.embedding.state_dict())
    for trained in (model, other):
        torch.manual_seed(0)
        trained.start_epoch(0)
    items = other.embed()[1] - other.embedding.item  # no layer adds the row itself
    assert torch.allclose(model.embed()[1], items, atol=1e-7) and torch.equal(
        model.embed()[0], other.embed()[0]
    )


@pytest.mark.parametrize('weighting', ['equal', 'alpha', 'normalized'])
@pytest.mark.parametrize('fusion', ['mean', 'sum', 'concat'])
def test_fusing_the_batch_alone_changes_nothing_and_every_parameter_is_learned(fusion, weighting):
    model = MMGCF(
        toy_data(partial=True), hidden_channels=4, fusion=fusion, weighting=weighting
    ).double()
    model.start_epoch(0)
    users, items = model.embed()
    loss = model.loss(BATCH)['bpr']
    assert torch.allclose(loss, bpr_loss(users[BATCH.user], items[BATCH.pos], items[BATCH.neg]))
    loss.backward()
    assert all(bool(p.grad.any()) for name, p in model.named_parameters())


def test_an_item_without_content_keeps_its_own_row_in_a_mean():
    model = MMGCF(toy_data(partial=True), hidden_channels=4).eval()  # item 6 has nothing
    assert torch.allclose(model.embed()[1][6], model.propagate()[1][6])
    assert not torch.allclose(model.embed()[1][5], model.propagate()[1][5])


@pytest.mark.parametrize(
    'arguments',
    [dict(num_layers=-1), dict(fusion='x'), dict(weighting='x'), dict(edge_dropout=1.0)],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        MMGCF(toy_data(), **arguments)
