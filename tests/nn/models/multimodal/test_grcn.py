import pytest
import torch
from helpers.toy_graphs import BATCH, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.nn.models import GRCN
from genrec_pyg.nn.models.multimodal.grcn import ContentNetwork
from genrec_pyg.ops import Adjacency

#: Item 2 has no edge.
EDGES = torch.tensor([[0, 0, 1], [0, 1, 1]])
INTERACTIONS = Adjacency.from_edge_index(EDGES, size=(2, 3))
PREFERENCES = torch.tensor([[1.0, 0], [0, 1]])
CONTENT = torch.tensor([[1.0, 0], [0, 1], [0.5**0.5, 0.5**0.5]])


def close(found, expected):
    return torch.allclose(found, torch.tensor(expected).to(found.dtype), atol=1e-6)


def test_attention_and_content_by_hand():
    out = ContentNetwork(INTERACTIONS, 0)(PREFERENCES, CONTENT)
    assert close(out.to_users, [0.731059, 0.268941, 1]) and close(
        out.to_items, [1, 0.268941, 0.731059]
    )
    assert close(out.users, [[1.731059, 0.268941], [0, 2]])
    assert close(out.items, [[2, 0], [0.268941, 1.731059], [0.707107, 0.707107]])


def test_a_step_of_routing_by_hand():
    network = ContentNetwork(INTERACTIONS, 1)
    out = network(PREFERENCES, CONTENT)
    routed = torch.tensor([[0.988145, 0.153521], [0, 1]])
    expected = ContentNetwork(INTERACTIONS, 0)(routed, CONTENT)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(out, expected))
    assert not torch.allclose(
        out.users, ContentNetwork(INTERACTIONS, 2)(PREFERENCES, CONTENT).users, atol=1e-3
    )


def by_hand(**arguments):
    x = {'image': Modality('image', CONTENT, 3)}
    model = GRCN(
        TrainingGraph(2, 3, EDGES, x),
        hidden_channels=1,
        content_channels=2,
        num_iterations=0,
        **arguments,
    ).double()
    with torch.no_grad():
        model.preferences['image'].copy_(PREFERENCES)
        model.projections['image'].linear.weight.copy_(torch.eye(2))
        model.projections['image'].linear.bias.zero_()
        for table in model.embedding.parameters():
            table.fill_(5.0)  # normalized to 1
    return model


def test_weights_and_rows_by_hand():
    model = by_hand()
    assert all(bool((table == 1).all()) for table in (model.user_confidence, model.item_confidence))
    with torch.no_grad():
        model.user_confidence.copy_(torch.tensor([[0.5], [-1.0]]))
        model.item_confidence.copy_(torch.tensor([[2.0], [1], [3]]))
    to_users, to_items = model.edge_weights(model.content())
    assert close(to_users, [1.462117, 0.268941, 1]) and close(to_items, [0.5, 0.134471, 0])
    users, items = model.embed()
    assert close(users[:, 0], [3.498282, 2.134471]) and close(items[:, 0], [2.365529, 1.367247, 1])
    assert close(users[:, 1:], [[1.731059, 0.268941], [0, 2]])


def two(weighting='confidence', **arguments):
    model = GRCN(
        toy_data(2, **arguments), hidden_channels=2, content_channels=3, weighting=weighting
    ).double()
    with torch.no_grad():
        for table in (model.user_confidence, model.item_confidence):
            if table is not None:
                table.normal_()
    return model


@pytest.mark.parametrize('weighting', ['confidence', 'max', 'mean'])
def test_weights_of_several_modalities_equal_the_plain_formula(weighting):
    model = two(weighting)
    content = model.content()
    user, item = model.graph.edge_index
    for found, parts, source, table in zip(
        model.edge_weights(content),
        ([c.to_users for c in content.values()], [c.to_items for c in content.values()]),
        (item, user),
        (model.item_confidence, model.user_confidence),
    ):
        attention = torch.stack(parts, dim=1)
        expected = {
            'confidence': lambda a=attention, s=source, t=table: (a * t[s]).amax(dim=1).relu(),
            'max': lambda a=attention: a.amax(dim=1),
            'mean': lambda a=attention: a.mean(dim=1),
        }[weighting]()
        assert torch.allclose(found, expected)


def test_attention_sums_to_one_over_every_node_with_edges():
    for part in two().content().values():
        user, item = two().graph.edge_index
        for alpha, target, size in ((part.to_users, user, 8), (part.to_items, item, 7)):
            sums = alpha.new_zeros(size).index_add(0, target, alpha)
            assert torch.allclose(
                sums, (torch.bincount(target, minlength=size) > 0).double(), atol=1e-6
            )


@pytest.mark.parametrize('weighting', ['confidence', 'mean'])
def test_items_without_a_modality_take_no_part_in_it(weighting):
    """Item 0 has no text: its edges weigh by its image alone, and no user looks at it in the text
    network.
    """
    data = toy_data(2)
    links = torch.stack([torch.arange(1, 7), torch.arange(6)])
    data['text'].x, data['item', 'has', 'text'].edge_index = data['text'].x[1:], links
    model = GRCN(data, hidden_channels=2, content_channels=3, weighting=weighting).double()
    content = model.content()
    user, item = model.graph.edge_index
    has_text = item != 0
    assert (
        content['text'].to_users.shape == (int(has_text.sum()),)
        and not content['text'].items[0].any()
    )
    to_users, to_items = model.edge_weights(content)
    assert torch.allclose(to_users[~has_text], content['image'].to_users[~has_text])
    assert torch.allclose(to_items[~has_text], content['image'].to_items[~has_text])
    alone = user == 6  # its only item is 5, which has both
    assert close(to_users[alone], [1.0])


def test_edges_of_an_item_without_any_modality_weigh_as_in_a_mean():
    data = toy_data(2)
    links = torch.stack([torch.arange(1, 7), torch.arange(6)])
    for name in ('image', 'text'):
        data[name].x, data['item', 'has', name].edge_index = data[name].x[1:], links
    model = GRCN(data, hidden_channels=2).double()
    to_users, to_items = model.edge_weights(model.content())
    user, item = model.graph.edge_index
    assert torch.allclose(to_users[item == 0], 1 / torch.bincount(user)[user[item == 0]].double())
    assert torch.allclose(to_items[item == 0], torch.full((2,), 0.5).double())
    assert bool(torch.isfinite(torch.cat(model.embed())).all())


@pytest.mark.parametrize('num_modalities', [1, 2, 3])
@pytest.mark.parametrize('variant', ['principled', 'released'])
def test_penalty_of_ones(variant, num_modalities):
    model = GRCN(toy_data(num_modalities), variant=variant, hidden_channels=2, l2=0.5)
    with torch.no_grad():
        for table in (*model.embedding.parameters(), *model.preferences.values()):
            table.fill_(1.0)
    expected = 2 + num_modalities + (variant == 'released')
    assert model.loss(BATCH)['l2'].item() == pytest.approx(0.5 * expected)


def test_what_the_released_variant_stands_for():
    model = GRCN(toy_data(), variant='released', hidden_channels=2)
    assert all(network.num_iterations == 0 for network in model.networks.values())
    assert bool((model.item_confidence < 0).any())
    chosen = GRCN(toy_data(), variant='released', num_iterations=2, confidence_init='ones')
    assert all(network.num_iterations == 2 for network in chosen.networks.values())
    assert bool((chosen.item_confidence == 1).all())


def test_a_node_without_confidence_is_silent_for_ever():
    model = by_hand(variant='released')
    with torch.no_grad():
        model.user_confidence.copy_(torch.tensor([[1.0], [-1.0]]))
    gradient = torch.autograd.grad(model.embed()[1].square().sum(), model.user_confidence)[0]
    assert bool(gradient[0].any()) and not gradient[1].any()


def test_order_of_modalities_changes_nothing():
    model, names = GRCN(toy_data(3), hidden_channels=2).double(), ['audio', 'image', 'text']
    other = GRCN(toy_data(3), names, hidden_channels=2).double()
    state = model.state_dict()
    with torch.no_grad():
        for table in ('user_confidence', 'item_confidence'):
            state[table].uniform_()
    other.load_state_dict(
        {
            **state,
            **{
                table: state[table][:, [2, 0, 1]]
                for table in ('user_confidence', 'item_confidence')
            },
        }
    )
    assert torch.allclose(model.score(torch.arange(8)), other.score(torch.arange(8)))


@pytest.mark.parametrize(
    'arguments',
    [
        dict(variant='x'),
        dict(weighting='x'),
        dict(confidence_init='x'),
        dict(penalty='x'),
        dict(num_layers=-1),
        dict(num_iterations=-1),
        dict(content_channels=0),
        dict(modalities=[]),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        GRCN(toy_data(), **arguments)
