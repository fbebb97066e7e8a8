import pytest
import torch
from helpers.toy_graphs import BATCH, set_tables, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models import NGCF

PAIR = TrainingGraph(1, 1, torch.zeros(2, 1, dtype=torch.long))


def on_pair(user, item, **arguments):
    width = len(user)
    model = NGCF(
        PAIR, hidden_channels=width, layer_channels=[width], bias=False, dropout=0.0, **arguments
    )
    set_tables(model, [user], [item])
    with torch.no_grad():
        model.convs[0].weight1.copy_(torch.eye(width))
        model.convs[0].weight2.copy_(torch.eye(width))
    return model


def test_symmetric_graph_by_hand():
    model = on_pair([1.0, 0.0], [0.0, 1.0])
    for row in model.embed():
        assert row[0, 2:].tolist() == pytest.approx([0.7071, 0.7071], abs=1e-4)
    assert float(model.score(torch.tensor([0]))) == pytest.approx(1.0)


def test_self_loops_by_hand():
    model = on_pair([1.0, 0.0], [0.0, 1.0], adj='rw_self')
    users, items = model.embed()
    assert users[0, 2:].tolist() == pytest.approx([0.8944, 0.4472], abs=1e-4)
    assert items[0, 2:].tolist() == pytest.approx([0.4472, 0.8944], abs=1e-4)
    assert float(model.score(torch.tensor([0]))) == pytest.approx(0.8)


def test_activation_of_the_sum():
    model = on_pair([-1.0], [2.0])
    h = model.convs[0](model.embedding.joint(), model.interactions.adjacency)
    assert float(h[0]) == pytest.approx(-0.2)


def test_penalty_on_final_rows_would_regularize_no_weight():
    model = NGCF(
        toy_data(), hidden_channels=4, layer_channels=[4], bias=False, dropout=0.0
    ).double()
    loss = sum(x.square().sum() for x in model.embed()) / 2
    tables = model.embedding.user, model.embedding.item
    gradient = torch.autograd.grad(loss, (*tables, *model.convs.parameters()))
    assert all(torch.allclose(g, table, atol=1e-9) for g, table in zip(gradient, tables))
    assert all(float(g.abs().max()) < 1e-9 for g in gradient[2:])


def test_messages_per_edge_give_the_same_layer():
    model = NGCF(toy_data(), hidden_channels=4, layer_channels=[3]).double()
    conv, matrix, h = model.convs[0], model.interactions.adjacency, model.embedding.joint()
    (row, col), weight = matrix.to_edge_index()
    message = h[col] @ conv.weight1 + (h[col] * h[row]) @ conv.weight2
    total = (h @ conv.weight1).index_add(0, row, weight.unsqueeze(1) * message) + conv.bias
    assert torch.allclose(conv(h, matrix), torch.nn.functional.leaky_relu(total, 0.2))
    assert torch.allclose(conv(h, torch.stack([col, row]), weight), conv(h, matrix))


@pytest.mark.parametrize('adj', ['sym', 'rw_self'])
def test_masks_act_in_training_alone(adj):
    model = NGCF(toy_data(), hidden_channels=4, adj=adj, dropout=0.0, edge_dropout=0.5)
    assert not torch.equal(model.train().embed()[0], model.embed()[0])
    assert torch.equal(model.eval().embed()[0], model.embed()[0])
    sum(model.train().loss(BATCH).values()).backward()
    model = NGCF(toy_data(), hidden_channels=4, dropout=0.5)
    assert not torch.equal(model.train().embed()[0], model.embed()[0])


def test_widths_and_weight_penalty():
    model = NGCF(toy_data(), hidden_channels=4, layer_channels=[3, 2], weight_l2=0.5)
    assert model.embed()[0].shape == (8, 9) and model.embed()[1].shape == (7, 9)
    expected = sum(
        float(p.square().sum()) for name, p in model.named_parameters() if 'weight' in name
    )
    assert float(model.loss(BATCH)['l2_weights'].detach()) == pytest.approx(0.25 * expected)


@pytest.mark.parametrize(
    'arguments',
    [
        dict(adj='rw'),
        dict(layer_channels=[0]),
        dict(dropout=1.0),
        dict(edge_dropout=-0.1),
        dict(weight_l2=-1.0),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        NGCF(toy_data(), **arguments)
