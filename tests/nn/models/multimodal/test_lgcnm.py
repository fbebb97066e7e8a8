import pytest
import torch
from helpers.toy_graphs import BATCH, set_tables, toy_data
from torch_geometric.nn.models import LightGCN as PyGLightGCN

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.nn.models import LGCNM, LightGCN

#: Item 2 has no edge; its one feature is the item's share of content.
EDGES = torch.tensor([[0, 0, 1], [0, 1, 1]])


def on_toy(share, num_layers, **arguments):
    """Items start from 3, 4, 5, of which ``share`` is content."""
    starts = torch.tensor([[3.0], [4.0], [5.0]])
    graph = TrainingGraph(2, 3, EDGES, {'image': Modality('image', share * starts, 3)})
    model = LGCNM(graph, hidden_channels=1, num_layers=num_layers, **arguments)
    set_tables(model, [[1.0], [2.0]], (1 - share) * starts)
    with torch.no_grad():
        model.projections['image'].linear.weight.fill_(1.0)
    return model


@pytest.mark.parametrize('share', [0.0, 0.25, 1.0])
@pytest.mark.parametrize(
    'num_layers,expected',
    [
        (1, [2.560660, 2.414214, 1.853553, 2.957107, 2.5]),
        (2, [2.192809, 2.060660, 2.207107, 3.324958, 1.666667]),
        (3, [2.667354, 2.263325, 1.912913, 2.915133, 1.25]),
    ],
)
def test_embeddings_by_hand(share, num_layers, expected):
    users, items = on_toy(share, num_layers).embed()
    assert torch.cat([users, items]).view(-1).tolist() == pytest.approx(expected, abs=1e-6)


def test_without_content_it_is_light_gcn():
    model = LGCNM(toy_data(), hidden_channels=4, num_layers=3)
    for projection in model.projections.values():
        torch.nn.init.zeros_(projection.linear.weight)
    other = LightGCN(toy_data(), hidden_channels=4, num_layers=3)
    other.embedding.load_state_dict(model.embedding.state_dict())
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(model.embed(), other.embed()))
    assert all(
        torch.allclose(model.loss(BATCH)[name], other.loss(BATCH)[name]) for name in ('bpr', 'l2')
    )
    pyg = PyGLightGCN(15, 4, 3)
    with torch.no_grad():
        pyg.embedding.weight.copy_(model.embedding.joint())
    edges = model.graph.edge_index + torch.tensor([[0], [8]])
    found = pyg.get_embedding(torch.cat([edges, edges.flip(0)], dim=1))
    assert torch.allclose(torch.cat(model.embed()), found, atol=1e-6)


def test_without_modalities_items_start_from_their_table():
    model = LGCNM(toy_data(0), hidden_channels=4)
    assert model.item_starts() is model.embedding.item and len(list(model.parameters())) == 2


def test_concatenated_blocks_are_models_whose_scores_add_up():
    model = LGCNM(toy_data(1), hidden_channels=3, combine='concat').double()
    first, second = (LightGCN(toy_data(0), hidden_channels=3, num_layers=2) for _ in range(2))
    users = model.embedding.user.detach()
    content = model.projections['image'](model.features['image']).detach()
    set_tables(first, users[:, :3], model.embedding.item.detach())
    set_tables(second, users[:, 3:], content)
    everyone = torch.arange(8)
    assert torch.allclose(
        model.score(everyone), first.score(everyone) + second.score(everyone), atol=1e-10
    )


def test_content_replaces_the_table_of_items():
    model = LGCNM(toy_data(2), hidden_channels=3, combine='replace')
    raw = torch.cat([toy_data()[name].x for name in ('image', 'text')], dim=1)
    expected = torch.nn.functional.normalize(model.projections[''].linear(raw), dim=1)
    assert torch.allclose(model.item_starts(), expected, atol=1e-6)
    assert model.embedding.item.numel() == 0
    sum(model.loss(BATCH).values()).backward()
    assert all(
        bool(p.grad.any()) for name, p in model.named_parameters() if name != 'embedding.item'
    )
    half = BATCH.user.numel() * 2
    expected = 1e-4 * model.embedding.user[BATCH.user].square().sum() / half
    assert torch.allclose(model.loss(BATCH)['l2'], expected)
    with pytest.raises(ConfigError, match='modalities: got none, accepted for LGCNM'):
        LGCNM(toy_data(0), combine='replace')


def test_content_is_the_mean_of_what_an_item_has():
    data = toy_data(2)
    data['text'].x = data['text'].x[:6]
    data['item', 'has', 'text'].edge_index = torch.arange(6).expand(2, 6).contiguous()
    model = LGCNM(data, hidden_channels=3).double()
    image, text = (projection.linear for projection in model.projections.values())
    torch.nn.init.ones_(text.bias)
    added = model.item_starts() - model.embedding.item
    first = image(data['image'].x.double())
    assert torch.allclose(added[6], first[6])
    assert torch.allclose(added[0], (first[0] + text(data['text'].x[0].double())) / 2)


@pytest.mark.parametrize(
    'penalty,scale', [('frobenius', None), ('l2', 0.5), ('mean_square', 1 / 3)]
)
def test_shapes_of_the_penalty(penalty, scale):
    model = LGCNM(toy_data(), hidden_channels=3, l2=2.0, penalty=penalty)
    rows = [
        model.embedding.user[BATCH.user],
        model.embedding.item[BATCH.pos],
        model.embedding.item[BATCH.neg],
    ]
    expected = (
        sum(r.norm() for r in rows)
        if scale is None
        else scale * sum(r.square().sum() for r in rows)
    )
    assert model.loss(BATCH)['l2'].item() == pytest.approx(2 * expected.item() / 5)


def test_an_isolated_item_keeps_its_share():
    model = on_toy(0.5, 3)
    assert model.embed()[1][2].item() == pytest.approx(model.item_starts()[2].item() / 4)


def test_order_of_modalities_changes_nothing():
    model = LGCNM(toy_data(3, partial=True), hidden_channels=3).double()
    other = LGCNM(toy_data(3, partial=True), ['audio', 'image', 'text'], hidden_channels=3).double()
    other.load_state_dict(model.state_dict())
    assert torch.allclose(model.score(torch.arange(8)), other.score(torch.arange(8)))


@pytest.mark.parametrize(
    'arguments', [dict(combine='x'), dict(penalty='batch'), dict(num_layers=-1), dict(init='x')]
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        LGCNM(toy_data(), **arguments)
