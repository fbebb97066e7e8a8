import pytest
import torch
import torch.nn.functional as F
from helpers.toy_graphs import BATCH, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import MGCN, LightGCN


def double(data, **arguments):
    torch.manual_seed(0)
    return MGCN(data, hidden_channels=4, num_neighbors=3, **arguments).double()


def test_without_modalities_it_is_light_gcn():
    model = double(toy_data(0))
    reference = LightGCN(toy_data(0), hidden_channels=4, num_layers=2).double()
    with torch.no_grad():
        reference.embedding.user.copy_(model.encoder.user_embedding)
        reference.embedding.item.copy_(model.encoder.item_embedding)
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(model.embed(), reference.embed()))
    found, expected = model.loss(BATCH), reference.loss(BATCH)
    assert set(found) == {'bpr', 'l2'} and all(
        torch.allclose(found[name], expected[name], atol=1e-12) for name in found
    )


def test_one_modality_adds_half_of_its_view():
    model = double(toy_data(1))
    [view] = model.encoder.modality_views(model.encoder.encode_modalities())
    views = model.views()
    assert torch.allclose(views.side, view / 2)
    assert torch.allclose(views.embedding, views.content + view / 2)


def test_equal_modalities_have_nothing_specific():
    """Two modalities with equal features and weights: their common part is the view itself, over M
    + 1.
    """
    data = toy_data(2)
    data['text'].x = data['image'].x.clone()
    model = double(data)
    for modules in (model.encoder.encoders, model.encoder.gates):
        modules['text'].load_state_dict(modules['image'].state_dict())
    view = model.encoder.modality_views(model.encoder.encode_modalities())[0]
    assert torch.allclose(model.views().side, view / 3)


def test_open_gates_smooth_the_item_embeddings():
    """A gate of 1 leaves the behavior alone: the view is the item table on the item graph."""
    model = double(toy_data(1))
    with torch.no_grad():
        model.encoder.gates['image'].linear.weight.zero_()
        model.encoder.gates['image'].linear.bias.fill_(50.0)
    [view] = model.encoder.modality_views(model.encoder.encode_modalities())
    (row, col), value = model.encoder.item_graphs['image'].to_edge_index()
    assert bool((torch.bincount(row, minlength=7) <= 3).all()) and bool((row == col).any())
    smoothed = (
        torch.zeros(7, 7, dtype=torch.float64).index_put((row, col), value)
        @ model.encoder.item_embedding
    )
    assert torch.allclose(view[8:], smoothed)
    assert not view[7].any()  # user 7 has no item


def test_loss_terms_by_hand():
    model = double(toy_data(2), l2=0.5, contrast_weight=0.3, temperature=0.4)
    views, terms = model.views(), model.loss(BATCH)
    users, items = views.embedding.split([8, 7])
    gap = (users[BATCH.user] * (items[BATCH.pos] - items[BATCH.neg])).sum(dim=1)
    assert torch.allclose(terms['bpr'], -F.logsigmoid(gap).mean())
    tables = model.encoder.user_embedding, model.encoder.item_embedding
    rows = tables[0][BATCH.user], tables[1][BATCH.pos], tables[1][BATCH.neg]
    assert torch.allclose(terms['l2'], 0.5 * sum(x.square().sum() for x in rows) / 2 / 5)
    expected = 0.0
    for index in (BATCH.user, 8 + BATCH.pos):
        side, content = F.normalize(views.side[index]), F.normalize(views.content[index])
        expected = expected + F.cross_entropy(side @ content.t() / 0.4, torch.arange(5))
    assert torch.allclose(terms['contrast'], 0.3 * expected)
    assert 'contrast' not in double(toy_data(2), contrast_weight=0.0).loss(BATCH)


def test_every_parameter_learns():
    model = double(toy_data(2), contrast_weight=0.1)
    sum(model.loss(BATCH).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name


@pytest.mark.parametrize(
    'arguments',
    [
        dict(num_layers=-1),
        dict(num_item_layers=-1),
        dict(num_neighbors=0),
        dict(contrast_weight=-0.1),
        dict(contrast_rows=0),
        dict(temperature=0.0),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        MGCN(toy_data(), **arguments)
