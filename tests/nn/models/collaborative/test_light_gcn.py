import pytest
import torch
import torch_geometric.nn
from helpers.toy_graphs import BATCH, PATH, set_tables, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph, training_graph
from genrec_pyg.nn.models import MFBPR, SGL, LightGCN


def on_path(**arguments):
    return set_tables(
        LightGCN(PATH, hidden_channels=1, **arguments), [[1.0], [2.0]], [[3.0], [4.0]]
    )


@pytest.mark.parametrize(
    'num_layers,expected',
    [(1, [2.5607, 2.4142, 1.8536, 2.9571]), (2, [2.1928, 2.0607, 2.2071, 3.3250])],
)
def test_path_by_hand(num_layers, expected):
    assert torch.cat(on_path(num_layers=num_layers).embed()).view(-1).tolist() == pytest.approx(
        expected, abs=5e-5
    )


def test_root_of_the_degree_is_a_fixed_point():
    for num_layers in (1, 2, 5):
        model = set_tables(
            LightGCN(PATH, hidden_channels=1, num_layers=num_layers),
            [[2**0.5], [1.0]],
            [[1.0], [2**0.5]],
        )
        assert torch.allclose(torch.cat(model.embed()), model.embedding.joint())


def test_complete_graph_sends_the_mean_of_the_other_side():
    edges = torch.cartesian_prod(torch.arange(3), torch.arange(4)).t()
    model = LightGCN(TrainingGraph(3, 4, edges), hidden_channels=2, num_layers=1)
    users, items = (table.detach() for table in (model.embedding.user, model.embedding.item))
    found = model.embed()
    assert torch.allclose(
        2 * found[0] - users, (4 / 3) ** 0.5 * items.mean(dim=0).expand(3, 2), atol=1e-6
    )
    assert torch.allclose(
        2 * found[1] - items, (3 / 4) ** 0.5 * users.mean(dim=0).expand(4, 2), atol=1e-6
    )


@pytest.mark.parametrize('num_layers', [0, 1, 2, 3])
def test_equals_torch_geometric(num_layers):
    graph = training_graph(toy_data())
    model = LightGCN(graph, hidden_channels=6, num_layers=num_layers, init='normal')
    theirs = torch_geometric.nn.LightGCN(15, 6, num_layers)
    with torch.no_grad():
        theirs.embedding.weight.copy_(model.embedding.joint())
    edges = graph.edge_index + torch.tensor([[0], [8]])
    expected = theirs.get_embedding(torch.cat([edges, edges.flip(0)], dim=1))
    assert torch.allclose(torch.cat(model.embed()), expected, atol=1e-6)
    layer = torch_geometric.nn.LGConv()(
        model.embedding.joint(), torch.cat([edges, edges.flip(0)], dim=1)
    )
    assert torch.allclose(model.interactions.adjacency @ model.embedding.joint(), layer, atol=1e-6)


def test_isolated_nodes_keep_their_share():
    model = LightGCN(toy_data(), hidden_channels=4, num_layers=3)
    users, items = model.embed()
    assert torch.allclose(users[7], model.embedding.user[7] / 4) and torch.allclose(
        items[6], model.embedding.item[6] / 4
    )


def test_layer_weights():
    model = LightGCN(toy_data(), hidden_channels=4, num_layers=2)
    equal = LightGCN(toy_data(), hidden_channels=4, num_layers=2, learn_layer_weights=True)
    equal.load_state_dict(model.state_dict(), strict=False)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(model.embed(), equal.embed()))
    sum(equal.loss(BATCH).values()).backward()
    assert bool(equal.layer_weights.grad.any())
    last = LightGCN(toy_data(), hidden_channels=4, num_layers=2, layer_weights=[0.0, 0.0, 1.0])
    last.load_state_dict(model.state_dict())
    matrix = last.interactions.adjacency
    assert torch.allclose(
        torch.cat(last.embed()), matrix @ (matrix @ last.embedding.joint()), atol=1e-6
    )
    assert [name for name, _ in last.named_parameters()] == ['embedding.user', 'embedding.item']
    last.reset_parameters()
    assert last.layer_weights.tolist() == [0, 0, 1]


def test_edge_dropout_acts_in_training_alone():
    model = LightGCN(toy_data(), hidden_channels=4, edge_dropout=0.5)
    whole = LightGCN(toy_data(), hidden_channels=4)
    whole.load_state_dict(model.state_dict())
    assert not torch.equal(model.train().embed()[0], model.embed()[0])
    assert torch.equal(model.eval().embed()[0], whole.embed()[0])


@pytest.mark.parametrize(
    'arguments',
    [
        dict(num_layers=-1),
        dict(edge_dropout=1.0),
        dict(layer_weights=[1.0]),
        dict(penalty_rows='l1'),
        dict(init='ones'),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        LightGCN(toy_data(), **arguments)


def test_sampled_rows_are_those_of_the_graph_where_all_neighbors_are_taken():
    torch.manual_seed(0)
    model = LightGCN(
        training_graph(toy_data()), hidden_channels=4, num_layers=2, layer_weights=[0.5, 0.3, 0.2]
    ).double()
    expected = model.loss(BATCH)
    sum(expected.values()).backward()
    grads = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    model.sample_neighbors(100)
    found = model.loss(BATCH)
    sum(found.values()).backward()
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {name: float(value) for name, value in expected.items()}
    )
    for parameter, grad in zip(model.parameters(), grads):
        torch.testing.assert_close(parameter.grad, grad)
    model.sample_neighbors(1)
    assert float(model.loss(BATCH)['bpr']) != pytest.approx(float(expected['bpr']), abs=1e-9)
    model.sample_neighbors(None)
    assert float(model.loss(BATCH)['bpr']) == float(expected['bpr'])


def test_where_nothing_is_sampled():
    graph = training_graph(toy_data())
    with pytest.raises(ConfigError, match=r"edge_dropout: got 0\.5 with neighborhood 'sampled'"):
        LightGCN(graph, hidden_channels=2, edge_dropout=0.5).sample_neighbors(3)
    for model in (SGL(graph, hidden_channels=2), MFBPR(graph, hidden_channels=2)):
        with pytest.raises(
            ConfigError,
            match=f"neighborhood: got 'sampled' for {type(model).__name__}, accepted is 'full'",
        ):
            model.sample_neighbors(3)
        model.sample_neighbors(None)
