import math

import pytest
import torch
import torch.nn.functional as F
from helpers.toy_graphs import BATCH, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import CLCRec
from genrec_pyg.nn.models.multimodal.clcrec import Candidates


def make(**arguments):
    return CLCRec(
        toy_data(), hidden_channels=4, encoder_channels=6, **{'num_negatives': 3, **arguments}
    ).double()


def training_items(model, user):
    return set(model.graph.edge_index[1][model.graph.edge_index[0] == user].tolist())


@pytest.mark.parametrize('negatives', ['own', 'shared'])
def test_negatives_are_warm_and_no_training_items(negatives):
    model = make(num_negatives=200, negatives=negatives)
    user = torch.arange(8)
    item, mask = model.draw_negatives(user)
    assert mask.shape == (8, 200) and bool(model.warm[item].all())
    for row in range(8):
        drawn = item[row] if item.dim() == 2 else item
        allowed = set(range(6)) - training_items(model, row)
        assert set(drawn[~mask[row]].tolist()) == allowed  # held-out items among them
        assert set(drawn[mask[row]].tolist()) == (
            set() if negatives == 'own' else training_items(model, row)
        )


def test_a_user_of_all_warm_items_has_no_negatives():
    data = toy_data(held_out=torch.tensor([[1, 2, 3], [2, 3, 4]]))
    data['user', 'interacts', 'item'].edge_index[0, :10] = torch.tensor(
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    )
    data['user', 'interacts', 'item'].edge_index[1, :10] = torch.tensor(
        [0, 1, 2, 3, 4, 5, 0, 1, 2, 0]
    )
    model = CLCRec(data, hidden_channels=4)
    batch = type(BATCH)(torch.tensor([0]), torch.tensor([1]), torch.tensor([6]))
    terms = model.loss(batch)
    assert terms['user_item'].item() == pytest.approx(0.0, abs=1e-6)
    sum(terms.values()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())


def test_equal_logits_cost_the_logarithm_of_the_list():
    model = make(num_negatives=128, content_weight=0.5, temperature=2.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    terms = model.loss(BATCH)
    assert terms['user_item'].item() == pytest.approx(4.8598 / 2, abs=1e-4)
    assert terms['item_content'].item() == pytest.approx(4.8598 / 2, abs=1e-4)


def test_one_negative_is_bpr():
    model = make(num_negatives=1, content_weight=0.0, replace=0.0, temperature=0.5)
    item = torch.tensor([[3], [4], [5], [1], [4]])
    model.draw_negatives = lambda user: Candidates(item, torch.zeros(5, 1, dtype=torch.bool))
    user, table = model.embedding.user[BATCH.user], model.embedding.item
    gap = (user * (table[BATCH.pos] - table[item[:, 0]])).sum(dim=1) / 0.5
    assert torch.allclose(model.loss(BATCH)['user_item'], F.softplus(-gap).mean())


def test_content_term_is_bounded_at_the_published_temperature():
    model = make(num_negatives=128, content_weight=1.0, temperature=2.0)
    low, high = (math.log(1 + 128 * math.exp(sign * 2 / 2.0)) for sign in (-1, 1))
    assert (low, high) == (pytest.approx(3.873, abs=1e-3), pytest.approx(5.855, abs=1e-3))
    assert low <= model.loss(BATCH)['item_content'].item() <= high


def test_content_weight_one_moves_no_user_by_contrast():
    model = make(content_weight=1.0)
    terms = model.loss(BATCH)
    (terms['item_content'] + terms['user_item']).backward()
    assert not model.embedding.user.grad.any() and bool(model.embedding.item.grad.any())


def test_penalty_is_the_mean_norm():
    model = make(l2=3.0)
    item = torch.tensor([[3, 4, 5], [4, 3, 5], [5, 1, 3], [1, 2, 0], [4, 4, 4]])
    model.draw_negatives = lambda user: Candidates(item, torch.zeros(5, 3, dtype=torch.bool))
    norm = model.embedding.item.norm(dim=1)
    expected = 1.5 * (
        model.embedding.user[BATCH.user].norm(dim=1).mean()
        + norm[torch.cat([BATCH.pos.unsqueeze(1), item], dim=1)].mean()
    )
    assert torch.allclose(model.loss(BATCH)['norm'], expected)


def test_shared_lists_cost_what_own_ones_do():
    model = make(replace=0.0, negatives='shared')
    item, mask = torch.tensor([3, 4, 5]), torch.rand(5, 3) < 0.3
    found = []
    for shared in (item, item.expand(5, 3)):
        model.draw_negatives = lambda user, shared=shared: Candidates(shared, mask)
        found.append(model.loss(BATCH))
    assert all(torch.allclose(found[0][name], found[1][name]) for name in found[0])


def test_cold_items_score_by_content():
    model = make()
    items, content = model.embed()[1], model.content()
    assert model.warm.tolist() == [True] * 6 + [False]
    assert torch.equal(items[:6], model.embedding.item[:6]) and torch.equal(items[6], content[6])
    assert torch.allclose(model.content(torch.tensor([2, 6])), content[[2, 6]])
    model = make(score='content')
    assert torch.equal(model.embed()[1], model.content())


def test_items_without_a_modality_have_a_learned_vector():
    model = CLCRec(toy_data(2, partial=True), hidden_channels=4)
    before = model.content()
    assert set(model.missing) == {'image', 'text'}
    with torch.no_grad():
        model.missing['image'].fill_(1.0)
    after = model.content()
    assert torch.equal(before[:6], after[:6]) and not torch.equal(before[6], after[6])
    assert not CLCRec(toy_data(2), hidden_channels=4).missing


@pytest.mark.parametrize(
    'arguments',
    [
        dict(num_negatives=0),
        dict(temperature=0.0),
        dict(content_weight=1.5),
        dict(replace=-0.1),
        dict(negatives='batch'),
        dict(score='cold'),
        dict(encoder_channels=0),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        CLCRec(toy_data(), **arguments)
