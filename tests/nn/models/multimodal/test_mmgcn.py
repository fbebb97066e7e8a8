import pytest
import torch
from helpers.toy_graphs import BATCH, toy_data, train_steps

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.nn.models import MMGCN
from genrec_pyg.nn.models.multimodal.mmgcn import MMGCNLayer

#: Item 2 has no edge.
GRAPH = TrainingGraph(
    2,
    3,
    torch.tensor([[0, 0, 1], [0, 1, 1]]),
    {'image': Modality('image', torch.tensor([[1.0], [-1.0], [1.0]]), 3)},
)


def by_hand(**arguments):
    """Preferences 1 and -1; tables 0.1 to 0.5; messages doubled."""
    model = MMGCN(GRAPH, hidden_channels=1, num_layers=1, **arguments).double()
    layer = model.networks['image'][0]
    with torch.no_grad():
        model.preferences['image'].copy_(torch.tensor([[3.0], [-2.0]]))  # normalized to 1 and -1
        model.embedding.user.copy_(torch.tensor([[0.1], [0.2]]))
        model.embedding.item.copy_(torch.tensor([[0.3], [0.4], [0.5]]))
        layer.message.weight.fill_(2.0)
        layer.own.weight.fill_(1.0)
        layer.update.weight.fill_(1.0)
        layer.own.bias.zero_()
        layer.update.bias.zero_()
    return model


@pytest.mark.parametrize('combine', ['concat', 'add'])
def test_layer_by_hand(combine):
    """With weights of 1 both updates are the leaky ReLU of 0, -0.02 | 2, 0, 0 plus 1.1, 0.19 | 1.3,
    0.39, 1.5.
    """
    users, items = by_hand(combine=combine).embed()
    assert users.view(-1).tolist() == pytest.approx([1.1, 0.17])
    assert items.view(-1).tolist() == pytest.approx([3.3, 0.39, 1.5])


def test_layers_equal_the_plain_formula():
    model = MMGCN(toy_data(2), hidden_channels=3, num_layers=2).double()
    interactions = torch.zeros(8, 7, dtype=torch.float64).index_put(
        tuple(model.graph.edge_index), torch.tensor(1.0).double()
    )
    whole = torch.zeros(15, 15, dtype=torch.float64)
    whole[:8, 8:], whole[8:, :8] = interactions, interactions.t()
    mean = whole / whole.sum(dim=1, keepdim=True).clamp(min=1)
    phi, outputs = torch.nn.LeakyReLU(0.01), []
    for name in ('image', 'text'):
        x = torch.cat([model.preferences[name], model.features[name].x])
        x = x / x.norm(dim=1, keepdim=True)
        for layer in model.networks[name]:
            neighbors = phi(mean @ layer.message(x))
            x = phi(
                layer.update(
                    torch.cat([neighbors, phi(layer.own(x)) + model.embedding.joint()], dim=1)
                )
            )
        outputs.append(x)
    assert torch.allclose(torch.cat(model.embed()), sum(outputs) / 2)


@pytest.mark.parametrize('variant,expected', [('principled', 2 + 3), ('released', 3)])
def test_penalty_of_ones(variant, expected):
    model = MMGCN(toy_data(3), variant=variant, hidden_channels=2, l2=0.5)
    with torch.no_grad():
        for table in (*model.embedding.parameters(), *model.preferences.values()):
            table.fill_(1.0)
    assert model.loss(BATCH)['l2'].item() == pytest.approx(0.5 * expected)


@pytest.mark.parametrize('penalty', ['mean_square', 'l2', 'frobenius'])
def test_shapes_of_the_penalty(penalty):
    model = MMGCN(toy_data(1), hidden_channels=2, l2=1.0, penalty=penalty)
    items = model.embedding.item[torch.cat([BATCH.pos, BATCH.neg])]
    tables = [items, model.embedding.user[BATCH.user], model.preferences['image'][BATCH.user]]
    by_hand = {
        'mean_square': sum(t.square().mean() for t in tables),
        'l2': sum(t.square().sum() for t in tables) / 10,
        'frobenius': sum(t.norm() for t in tables) / 5,
    }[penalty]
    assert model.loss(BATCH)['l2'].item() == pytest.approx(by_hand.item())


@pytest.mark.parametrize('variant', ['principled', 'released'])
def test_tables_are_trained_unless_released(variant):
    model = MMGCN(toy_data(), variant=variant, hidden_channels=3)
    before = [
        table.detach().clone()
        for table in (*model.embedding.parameters(), *model.preferences.values())
    ]
    train_steps(model, 1)
    after = (*model.embedding.parameters(), *model.preferences.values())
    assert [torch.equal(a, b) for a, b in zip(before, after)] == [variant == 'released'] * 4
    model.reset_parameters()
    assert not any(torch.equal(a, b) for a, b in zip(before, after))


def test_equal_modalities_are_as_good_as_one():
    data = toy_data(2)
    data['text'].x = data['image'].x.clone()
    model = MMGCN(data, hidden_channels=3).double()
    state = model.state_dict()
    model.load_state_dict({key: state[key.replace('text', 'image')] for key in state})
    one = MMGCN(data, ['image'], hidden_channels=3).double()
    one.load_state_dict({key: state[key] for key in one.state_dict()})
    assert torch.allclose(model.score(torch.arange(8)), one.score(torch.arange(8)))


def test_order_of_modalities_changes_nothing():
    model = MMGCN(toy_data(3, partial=True), hidden_channels=3).double()
    other = MMGCN(toy_data(3, partial=True), ['audio', 'image', 'text'], hidden_channels=3).double()
    other.load_state_dict(model.state_dict())
    assert torch.allclose(model.score(torch.arange(8)), other.score(torch.arange(8)))
    assert torch.allclose(sum(model.loss(BATCH).values()), sum(other.loss(BATCH).values()))


def test_wide_features_are_mapped_first():
    model = MMGCN(toy_data(2, partial=True), hidden_channels=3, latent_channels=4)
    assert set(model.inputs) == {'image', 'text'} and model.preferences['image'].shape == (8, 4)
    assert model.networks['image'][0].message.weight.shape == (4, 4)
    content = model.content('image', model.features['image'])
    assert content.shape == (7, 4) and not content[6].any() and bool(content[:6].any(dim=1).all())
    assert not MMGCN(toy_data(2), latent_channels=5).inputs


def test_starts_of_the_weights():
    layers = [MMGCNLayer(200, 100, first=first) for first in (True, False)]
    for layer, expected in zip(layers, ((2 / 400) ** 0.5, (1 / 900) ** 0.5)):
        assert float(layer.message.weight.detach().std()) == pytest.approx(
            (2 / 400) ** 0.5, rel=0.05
        )
        assert float(layer.own.weight.detach().std()) == pytest.approx((2 / 300) ** 0.5, rel=0.05)
        assert float(layer.update.weight.detach().std()) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    'arguments',
    [
        dict(variant='x'),
        dict(combine='x'),
        dict(penalty='x'),
        dict(num_layers=0),
        dict(latent_channels=0),
        dict(modalities=[]),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        MMGCN(toy_data(), **arguments)
