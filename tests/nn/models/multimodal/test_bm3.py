import pytest
import torch
from helpers.toy_graphs import BATCH, set_tables, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.losses import cosine_distance
from genrec_pyg.nn.models import BM3

#: A path of four nodes and an item 2 without edges.
TOY = TrainingGraph(2, 3, torch.tensor([[0, 0, 1], [0, 1, 1]]))


def identity_predictor(model):
    with torch.no_grad():
        model.predictor.linear.weight.copy_(torch.eye(model.predictor.linear.weight.size(0)))
        model.predictor.linear.bias.zero_()
    return model


def on_toy(**arguments):
    model = BM3(TOY, hidden_channels=1, num_layers=1, **arguments)
    return identity_predictor(set_tables(model, [[1.0], [2.0]], [[3.0], [4.0], [5.0]]))


def test_rows_with_residual_by_hand():
    users, items = on_toy().encode()
    assert users.view(-1).tolist() == pytest.approx([2.560660, 2.414214], abs=1e-6)
    assert items.view(-1).tolist() == pytest.approx([4.853553, 6.957107, 7.5], abs=1e-6)


@pytest.mark.parametrize(
    'penalty,expected',
    [
        ('frobenius', 4.947401),
        ('l2', (12.385409 + 128.208317) / 6),
        ('mean_square', 12.385409 / 2 + 128.208317 / 3),
    ],
)
def test_penalty_sees_all_propagated_rows(penalty, expected):
    batch = type(BATCH)(torch.tensor([0]), torch.tensor([0]), torch.tensor([2]))
    assert on_toy(penalty=penalty, l2=0.5).loss(batch)['l2'].item() == pytest.approx(
        0.5 * expected, abs=1e-5
    )


def test_predictor_on_both_sides_of_the_score():
    model = on_toy()
    with torch.no_grad():
        model.predictor.linear.weight.fill_(2.0)
        model.predictor.linear.bias.fill_(0.5)
    assert model.score(torch.tensor([1]))[0, 2].item() == pytest.approx(
        (2 * 2.414214 + 0.5) * (2 * 7.5 + 0.5), abs=1e-4
    )


def test_identity_without_dropout_aligns_content_with_itself():
    model = identity_predictor(
        BM3(toy_data(3), hidden_channels=4, dropout=0.0, content_weight=3.0).double()
    )
    terms = model.loss(BATCH)
    item = model.encode()[1][BATCH.pos]
    for name in ('image', 'text', 'audio'):
        # of its two terms one is zero
        expected = 3 * cosine_distance(model.content(name, BATCH.pos), item)
        assert torch.allclose(terms[f'content_{name}'], expected)
    total = sum(value for name, value in terms.items() if name != 'l2')
    assert 0 <= total.item() <= 4 + 4 * 3 * 3


def test_projecting_the_batch_alone_changes_nothing():
    model = BM3(toy_data(1), hidden_channels=4, dropout=0.0).double()
    rows = model.content('image', torch.arange(7))[BATCH.pos]
    item = model.encode()[1][BATCH.pos]
    expected = 2 * (
        cosine_distance(model.predictor(rows), item) + cosine_distance(model.predictor(rows), rows)
    )
    found = model.loss(BATCH)['content_image']
    assert torch.allclose(found, expected, atol=1e-12)
    parameters = [*model.projections.parameters(), *model.predictor.parameters()]
    gradients = (torch.autograd.grad(loss, parameters) for loss in (found, expected))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(*gradients))


def test_content_moves_no_table():
    model = BM3(toy_data(2), hidden_channels=4).double()
    terms = model.loss(BATCH)
    (terms['content_image'] + terms['content_text']).backward()
    assert model.embedding.user.grad is None and model.embedding.item.grad is None
    assert all(
        bool(p.grad.any()) for p in [*model.projections.parameters(), *model.predictor.parameters()]
    )


def test_items_without_a_modality_leave_its_mean():
    # item 6 has no image
    model = BM3(toy_data(1, partial=True), hidden_channels=4, dropout=0.0).double()
    both = type(BATCH)(torch.tensor([0, 0]), torch.tensor([1, 6]), torch.tensor([3, 3]))
    alone = type(BATCH)(*(column[:1] for column in both))
    lacking = type(BATCH)(*(column[1:] for column in both))
    assert torch.allclose(model.loss(both)['content_image'], model.loss(alone)['content_image'])
    assert model.loss(lacking)['content_image'].item() == 0


def test_modalities_in_another_order_have_the_same_loss():
    model = BM3(toy_data(3), hidden_channels=4, dropout=0.0).double()
    other = BM3(toy_data(3), ['audio', 'image', 'text'], hidden_channels=4, dropout=0.0).double()
    other.load_state_dict(model.state_dict())
    found, expected = other.loss(BATCH), model.loss(BATCH)
    assert all(torch.allclose(found[name], expected[name]) for name in expected)


def test_released_features_are_trained_and_start_from_the_raw_ones():
    model = BM3(toy_data(2), hidden_channels=4, variant='released')
    assert set(model.trained_features) == {'image', 'text'}
    assert not BM3(toy_data(2), hidden_channels=4).trained_features
    frozen = model.features['image'].x.clone()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    sum(model.loss(BATCH).values()).backward()
    optimizer.step()
    changed = (model.trained_features['image'] != frozen).any(dim=1)
    assert changed[BATCH.pos].all() and torch.equal(model.features['image'].x, frozen)
    model.reset_parameters()
    assert torch.equal(model.trained_features['image'], frozen)


def test_negatives_are_not_looked_at():
    model = BM3(toy_data(), hidden_channels=4, dropout=0.0)
    other = BATCH._replace(neg=BATCH.pos)
    assert all(
        torch.equal(a, b) for a, b in zip(model.loss(BATCH).values(), model.loss(other).values())
    )


@pytest.mark.parametrize(
    'arguments',
    [
        dict(variant='paper'),
        dict(penalty='batch'),
        dict(content_weight=-1.0),
        dict(dropout=1.0),
        dict(num_layers=-1),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        BM3(toy_data(), **arguments)
