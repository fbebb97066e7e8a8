import pytest
import torch
from helpers.toy_graphs import BATCH, PATH, set_tables, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import LayerGCN


def on_path(users, items, **arguments):
    return set_tables(
        LayerGCN(PATH, hidden_channels=len(users[0]), **arguments).eval(), users, items
    )


@pytest.mark.parametrize(
    'num_layers,expected',
    [(1, [4.121320, 2.828427, 0.707107, 1.914214]), (2, [5.578427, 4.181981, 3.621320, 5.974874])],
)
def test_positive_scalars_by_hand(num_layers, expected):
    # All cosines are 1: the sum of the layers of linear propagation without the first.
    model = on_path([[1.0], [2.0]], [[3.0], [4.0]], num_layers=num_layers)
    assert torch.cat(model.embed()).view(-1).tolist() == pytest.approx(expected, abs=1e-6)


def test_a_node_that_disagrees_with_its_neighborhood_turns_its_sign():
    users, items = on_path([[-1.0], [2.0]], [[3.0], [4.0]], num_layers=1).embed()
    # Messages are 4.1213 and 2.8284 to the users, -0.7071 and 2 / sqrt(2) - 1 / 2 to the items.
    assert users.view(-1).tolist() == pytest.approx([-4.121320, 2.828427], abs=1e-6)
    assert items.view(-1).tolist() == pytest.approx([0.707107, 0.914214], abs=1e-6)


def test_pair_at_sixty_degrees_by_hand():
    graph = type(PATH)(1, 1, torch.zeros(2, 1, dtype=torch.long))
    model = LayerGCN(graph, hidden_channels=2, num_layers=2).eval()
    sine = 0.75**0.5
    set_tables(model, [[2.0, 0.0]], [[0.5, sine]])
    # Layer 1: each takes half of the other's row; layer 2: half of its own row comes back, along
    # itself.
    users, items = model.embed()
    assert users[0].tolist() == pytest.approx([0.25 + 1.0, sine / 2], abs=1e-6)
    assert items[0].tolist() == pytest.approx([1.0 + 0.25, sine / 2], abs=1e-6)


@pytest.mark.parametrize('num_layers', [1, 4])
def test_root_of_the_degree_is_refined_by_one(num_layers):
    root = 2**0.5
    row = torch.tensor([[0.3, -0.7]])
    model = on_path(
        torch.tensor([[root], [1.0]]) * row,
        torch.tensor([[1.0], [root]]) * row,
        num_layers=num_layers,
    )
    assert torch.allclose(torch.cat(model.embed()), num_layers * model.embedding.joint())


def test_orthogonal_neighborhood_adds_nothing():
    users, items = on_path([[1.0, 0.0], [2.0, 0.0]], [[0.0, 3.0], [0.0, 4.0]], num_layers=3).embed()
    assert not users.any() and not items.any()


def test_rotated_tables_give_the_same_scores():
    model = LayerGCN(toy_data(), hidden_channels=4).double().eval()
    expected = model.score(torch.arange(8))
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    set_tables(model, model.embedding.user @ turn, model.embedding.item @ turn)
    assert torch.allclose(model.score(torch.arange(8)), expected)


def test_a_node_without_edges_has_embedding_zero():
    model = LayerGCN(toy_data(), hidden_channels=4)
    users, items = model.eval().embed()
    assert (
        not users[7].any()
        and not items[6].any()
        and users[:7].any(dim=1).all()
        and items[:6].any(dim=1).all()
    )
    sum(model.train().loss(BATCH).values()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def test_epochs_alternate_and_evaluation_sees_the_whole_graph():
    model, drawn = LayerGCN(toy_data(), hidden_channels=4, edge_dropout=0.5), []
    model.interactions.prune = drawn.append
    for epoch in range(4):
        model.start_epoch(epoch)
    assert drawn == [False, True, False, True]
    for pruning in ('degree', 'uniform'):
        model.pruning = pruning
        model.start_epoch(0), model.start_epoch(1)
    assert drawn[4:] == [False, False, True, True]
    del model.interactions.prune
    whole = LayerGCN(toy_data(), hidden_channels=4, edge_dropout=0.0)
    whole.load_state_dict(model.state_dict())
    model.start_epoch(0)
    assert not torch.equal(model.train().embed()[0], whole.train().embed()[0])
    assert torch.equal(model.eval().embed()[0], whole.embed()[0])


@pytest.mark.parametrize(
    'arguments', [dict(num_layers=0), dict(edge_dropout=1.0), dict(pruning='random')]
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        LayerGCN(toy_data(), **arguments)
