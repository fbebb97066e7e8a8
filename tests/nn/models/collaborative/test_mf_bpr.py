import math

import pytest
import torch
from helpers.toy_graphs import BATCH, set_tables, toy_data

from genrec_pyg.loader import Triples
from genrec_pyg.nn.models import MFBPR, LightGCN

ONE = Triples(torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))


def test_loss_by_hand():
    model = MFBPR(toy_data(), hidden_channels=2, l2=0.1)
    items = torch.zeros(7, 2)
    items[0, 0] = items[1, 1] = 1
    users = torch.zeros(8, 2)
    users[0, 0] = 1
    set_tables(model, users, items)
    terms = model.loss(ONE)
    assert float(terms['bpr']) == pytest.approx(0.3133, abs=1e-4)
    assert float(terms['l2']) == pytest.approx(0.15)
    gradient = torch.autograd.grad(terms['bpr'], model.embedding.user)[0]
    assert gradient[0].tolist() == pytest.approx([-0.2689, 0.2689], abs=1e-4)


def test_equal_scores_give_log_two():
    model = set_tables(MFBPR(toy_data(), hidden_channels=2), torch.ones(8, 2), torch.ones(7, 2))
    assert float(model.loss(ONE)['bpr']) == pytest.approx(math.log(2))


@pytest.mark.parametrize('penalty_rows', ['batch', 'table'])
def test_is_light_gcn_without_layers(penalty_rows):
    first = MFBPR(toy_data(), hidden_channels=4, penalty_rows=penalty_rows, init='normal')
    second = LightGCN(toy_data(), hidden_channels=4, num_layers=0, penalty_rows=penalty_rows)
    second.load_state_dict(first.state_dict())
    found, expected = first.loss(BATCH), second.loss(BATCH)
    assert found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name]) for name in found
    )


def test_item_bias_is_added_to_the_score():
    model = MFBPR(toy_data(), hidden_channels=4, item_bias=True)
    plain = model.score(torch.arange(8))
    assert not model.item_bias.any()
    with torch.no_grad():
        model.item_bias[3] = 2.5
    assert torch.allclose(
        model.score(torch.arange(8)) - plain, torch.tensor([0, 0, 0, 2.5, 0, 0, 0]), atol=1e-6
    )
    model.reset_parameters()
    assert not model.item_bias.any()
