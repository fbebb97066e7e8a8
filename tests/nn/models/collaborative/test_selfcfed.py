import pytest
import torch
from helpers.toy_graphs import BATCH, PATH, set_tables, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import SELFCFED, LightGCN


def on_path(users, items, weight=1.0, bias=0.0, **arguments):
    model = set_tables(SELFCFED(PATH, hidden_channels=len(users[0]), **arguments), users, items)
    with torch.no_grad():
        model.predictor.linear.weight.copy_(weight * torch.eye(len(users[0])))
        model.predictor.linear.bias.fill_(bias)
    return model


def test_loss_by_hand():
    model = on_path(
        [[3.0, 4.0], [1.0, 0.0]], [[4.0, 3.0], [0.0, -2.0]], num_layers=0, dropout=0.0, l2=0.5
    )
    batch = type(BATCH)(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([1, 0]))
    terms = model.loss(batch)  # cosines 0.96 and 0
    assert (
        terms['align_users'].item() == pytest.approx((0.04 + 1) / 4) == terms['align_items'].item()
    )
    assert terms['l2'].item() == pytest.approx(0.5 * (25 + 1 + 25 + 4) / 4)


def test_score_by_hand():
    model = on_path([[1.0], [2.0]], [[3.0], [4.0]], weight=2.0, bias=0.5, num_layers=1)
    user, item = 2.560660, 1.853553
    assert model.score(torch.tensor([0]))[0, 0].item() == pytest.approx(
        (2 * user + 0.5) * item + user * (2 * item + 0.5), abs=1e-4
    )


def test_identity_predictor_ranks_as_light_gcn():
    model = on_path([[1.0, 0.5], [-2.0, 1.0]], [[3.0, 1.0], [1.0, -1.0]])
    other = LightGCN(PATH, hidden_channels=2, num_layers=2).double()
    other.embedding.load_state_dict(model.embedding.state_dict())
    assert torch.allclose(model.score(torch.arange(2)), 2 * other.score(torch.arange(2)))


def test_targets_move_nothing():
    model = SELFCFED(toy_data(), hidden_channels=4, dropout=0.0)
    users, items = (torch.randn(8, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True))
    model.propagate = lambda x, graph: torch.cat([users, items])
    terms = model.loss(BATCH)
    gradient = torch.autograd.grad(
        terms['align_users'], (users, items), allow_unused=True, retain_graph=True
    )
    assert bool(gradient[0].any()) and (gradient[1] is None or not gradient[1].any())
    gradient = torch.autograd.grad(terms['align_items'], (users, items), allow_unused=True)
    assert (gradient[0] is None or not gradient[0].any()) and bool(gradient[1].any())


def test_negatives_are_not_looked_at():
    model = SELFCFED(toy_data(), hidden_channels=4, dropout=0.0)
    other = BATCH._replace(neg=BATCH.pos)
    assert all(
        torch.equal(a, b) for a, b in zip(model.loss(BATCH).values(), model.loss(other).values())
    )


def test_dropout_acts_in_training_alone():
    model = SELFCFED(toy_data(), hidden_channels=4, dropout=0.5)
    assert not torch.equal(
        model.train().loss(BATCH)['align_users'], model.loss(BATCH)['align_users']
    )
    assert torch.equal(model.eval().loss(BATCH)['align_users'], model.loss(BATCH)['align_users'])
    assert torch.equal(model.train().embed()[0], model.eval().embed()[0])


@pytest.mark.parametrize('arguments', [dict(num_layers=-1), dict(dropout=1.0)])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        SELFCFED(toy_data(), **arguments)
