import pytest
import torch
from helpers.toy_graphs import BATCH, set_tables, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.nn.models import LATTICE, MFBPR
from genrec_pyg.ops import unit_rows

#: Item 2 has no edge.
TOY = TrainingGraph(
    2,
    3,
    torch.tensor([[0, 0, 1], [0, 1, 1]]),
    {
        'a': Modality('a', torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), 3),
        'b': Modality('b', torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.96, 0.28]]), 3),
    },
)


def on_toy(channels=2, **arguments):
    model = LATTICE(TOY, hidden_channels=channels, num_neighbors=2, **arguments).eval()
    with torch.no_grad():
        for projection in model.projections.values():
            projection.linear.weight.copy_(torch.eye(2)[:channels])
            projection.linear.bias.zero_()
    return model


def test_smoothed_items_by_hand():
    items = torch.tensor([[3.0, 0.0], [0.0, 4.0], [1.0, 1.0]])
    model = set_tables(on_toy(backbone='mf'), torch.ones(2, 2), items)
    smoothed = model.mixed_graph() @ model.embedding.item
    expected = torch.tensor(
        [[1.947712, 0.948852], [0.462544, 2.606429], [1.272726, 1.418163]], dtype=torch.float64
    )
    assert torch.allclose(smoothed, expected, atol=1e-6)
    expected = torch.tensor(
        [[0.898996, 0.437957], [0.174733, 0.984616], [0.667914, 0.744238]], dtype=torch.float64
    )
    users, found = model.embed()
    assert torch.allclose(found, items + expected, atol=1e-6) and torch.equal(
        users, model.embedding.user
    )


@pytest.mark.parametrize(
    'num_layers, users, items',
    [(1, [1.833333, 2.5], [2.5, 3.166667, 5]), (2, [2, 2.555556], [2.444444, 3, 5])],
)
def test_backbone_by_hand(num_layers, users, items):
    model = set_tables(on_toy(1, num_layers=num_layers), [[1.0], [2.0]], [[3.0], [4.0], [5.0]])
    found = model.embed()
    assert found[0].view(-1).tolist() == pytest.approx(users, abs=1e-6)
    # Rows of one column become 1 by normalization.
    assert (found[1] - 1).view(-1).tolist() == pytest.approx(items, abs=1e-6)


def test_symmetric_normalization_is_that_of_light_gcn():
    model = set_tables(on_toy(1, normalization='sym'), [[1.0], [2.0]], [[3.0], [4.0], [5.0]])
    assert model.embed()[0].view(-1).tolist() == pytest.approx([2.192809, 2.060660], abs=1e-6)


def test_projections_learn_from_every_batch_of_an_epoch():
    model = LATTICE(toy_data(), hidden_channels=4).train()
    model.start_epoch(0)
    for _ in range(3):
        model.zero_grad()
        sum(model.loss(BATCH).values()).backward()
        assert all(
            bool(p.grad.any()) for p in (*model.projections.parameters(), model.modality_logits)
        )


def test_neighbors_are_those_of_the_epoch_in_training_and_fresh_in_evaluation():
    model = LATTICE(toy_data(), hidden_channels=4, num_neighbors=3, original_weight=0.0).train()
    model.start_epoch(0)
    before = model.mixed_graph().col.clone()
    for projection in model.projections.values():
        projection.reset_parameters()
    assert torch.equal(model.mixed_graph().col, before)
    assert not torch.equal(model.eval().mixed_graph().col, before)


def test_equal_modalities_have_no_preference_and_one_has_none():
    same = {name: Modality(name, TOY.modalities['a'].x, 3) for name in 'ab'}
    model = LATTICE(
        TrainingGraph(2, 3, TOY.edge_index, same), hidden_channels=2, num_neighbors=2
    ).double()
    model.projections['b'].load_state_dict(model.projections['a'].state_dict())
    model.embed()[1].square().sum().backward()
    assert model.modality_logits.grad.tolist() == pytest.approx([0, 0], abs=1e-12)
    model = LATTICE(toy_data(1), hidden_channels=2).eval()
    before = model.mixed_graph().value.detach().clone()
    torch.nn.init.constant_(model.modality_logits, -3.0)
    assert torch.equal(model.mixed_graph().value, before)


def test_a_missing_modality_leaves_the_item_to_itself_and_others_untouched():
    data = toy_data(1, partial=True)  # item 6 has no image
    model = LATTICE(data, hidden_channels=4).eval()
    edge_index, value = model.mixed_graph().to_edge_index()
    assert value[edge_index[0] == 6].tolist() == [1.0] and not bool(
        (edge_index[1][edge_index[0] != 6] == 6).any()
    )
    items = model.embed()[1]
    assert torch.allclose(
        items[6], model.embedding.item[6] + unit_rows(model.embedding.item[6:])[0]
    )


def test_without_smoothing_it_is_factorization_with_normed_items():
    model = LATTICE(toy_data(), hidden_channels=4, backbone='mf', num_item_layers=0)
    other = MFBPR(toy_data(), hidden_channels=4)
    other.embedding.load_state_dict(model.embedding.state_dict())
    users, items = other.embed()
    assert torch.equal(model.embed()[0], users)
    assert torch.allclose(model.embed()[1], items + unit_rows(items))


@pytest.mark.parametrize(
    'arguments',
    [
        dict(num_layers=-1),
        dict(num_item_layers=-1),
        dict(num_neighbors=0),
        dict(mix='x'),
        dict(original_weight=-0.1),
        dict(backbone='x'),
        dict(normalization='x'),
        dict(modalities=[]),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        LATTICE(toy_data(), **arguments)
