import pytest
import torch
from helpers.toy_graphs import BATCH, set_tables, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.loader import Triples
from genrec_pyg.nn.losses import bpr_loss
from genrec_pyg.nn.models import FREEDOM, LightGCN

#: A path of four nodes; item 2 has no edge and looks like item 0.
FEATURES = torch.tensor([[2.0, 0.0], [0.0, 1.0], [4.0, 0.0]])
TOY = TrainingGraph(
    2, 3, torch.tensor([[0, 0, 1], [0, 1, 1]]), {'image': Modality('image', FEATURES, 3)}
)


def on_toy(**arguments):
    model = FREEDOM(TOY, hidden_channels=1, num_neighbors=2, **arguments).eval()
    return set_tables(model, [[1.0], [2.0]], [[3.0], [4.0], [5.0]])


def test_embeddings_by_hand():
    users, items = on_toy().embed()
    assert users.view(-1).tolist() == pytest.approx([2.192809, 2.060660], abs=1e-6)
    # Items 0 and 2 take the mean of their rows, item 1 has no neighbor of positive similarity but
    # itself.
    assert items.view(-1).tolist() == pytest.approx(
        [2.207107 + 4, 3.324958 + 4, 5 / 3 + 4], abs=1e-6
    )
    assert on_toy(num_item_layers=3).embed()[1].view(-1).tolist() == pytest.approx(
        items.view(-1).tolist()
    )


def test_content_by_hand():
    model = on_toy(content_weight=0.5, num_layers=0)
    with torch.no_grad():
        model.projections['image'].linear.weight.copy_(torch.tensor([[0.5, -1.0]]))
        model.projections['image'].linear.bias.fill_(0.25)
    terms = model.loss(Triples(torch.tensor([1]), torch.tensor([0]), torch.tensor([1])))
    # User 2, content 1.25 and -0.75.
    assert terms['bpr_image'].item() == pytest.approx(0.5 * 0.018150, abs=1e-6)
    assert terms['bpr'].item() == pytest.approx(
        torch.nn.functional.softplus(torch.tensor(-2.0 * (7 - 8))).item()
    )
    assert terms['l2'].item() == 0 and set(terms) == {'bpr', 'l2', 'bpr_image'}


def test_without_item_graph_it_is_light_gcn():
    model = FREEDOM(toy_data(), hidden_channels=4, num_layers=3, num_item_layers=0).double().eval()
    other = LightGCN(toy_data(), hidden_channels=4, num_layers=3).double()
    other.embedding.load_state_dict(model.embedding.state_dict())
    users, items = other.embed()
    expected = users, items + model.embedding.item
    assert all(torch.allclose(a, b) for a, b in zip(model.embed(), expected))


def test_an_item_without_edges_is_known_by_its_neighbors():
    model = on_toy()
    before = model.embed()[1]
    with torch.no_grad():
        model.embedding.item[0] += 1
    assert (model.embed()[1][2] - before[2]).item() == pytest.approx(0.5)


def test_training_sees_a_part_that_changes_with_the_epoch_and_evaluation_all():
    model = FREEDOM(toy_data(), hidden_channels=4, edge_dropout=0.5)
    whole = FREEDOM(toy_data(), hidden_channels=4, edge_dropout=0.0)
    whole.load_state_dict(model.state_dict())
    model.start_epoch(0)
    first = model.train().embed()[0]
    assert model.interactions().nnz == 10 and torch.equal(first, model.embed()[0])
    seen = set()
    for epoch in range(20):
        model.start_epoch(epoch)
        seen.add(tuple(model.interactions().col.tolist()))
    assert len(seen) > 5
    assert torch.equal(model.eval().embed()[0], whole.embed()[0])


def test_item_graph_is_frozen_and_no_state():
    model = FREEDOM(toy_data(), hidden_channels=4)
    assert not model.item_graph.value.requires_grad
    assert set(model.state_dict()) == {
        'embedding.user',
        'embedding.item',
        *(
            f'projections.{name}.linear.{part}'
            for name in ('image', 'text')
            for part in ('weight', 'bias')
        ),
    }


def test_projecting_the_batch_alone_changes_nothing():
    model = FREEDOM(toy_data(1), hidden_channels=4, content_weight=1.0).double().eval()
    users = model.embed()[0]
    content = model.projections['image'](model.features['image'])
    expected = bpr_loss(users[BATCH.user], content[BATCH.pos], content[BATCH.neg])
    found = model.loss(BATCH)['bpr_image']
    assert torch.allclose(found, expected, atol=1e-12)
    gradients = (
        torch.autograd.grad(loss, [model.embedding.user, *model.projections.parameters()])
        for loss in (found, expected)
    )
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(*gradients))


def test_triples_with_an_item_that_lacks_the_modality_take_no_part():
    # item 6 has no image
    model = FREEDOM(toy_data(1, partial=True), hidden_channels=4, content_weight=1.0).eval()
    has_both = (BATCH.pos != 6) & (BATCH.neg != 6)
    assert 0 < int(has_both.sum()) < BATCH.user.numel()
    rest = Triples(*(column[has_both] for column in BATCH))
    assert torch.allclose(model.loss(BATCH)['bpr_image'], model.loss(rest)['bpr_image'])


def test_order_of_modalities_changes_nothing():
    weights = {'image': 0.1, 'text': 0.7, 'audio': 0.2}
    model = FREEDOM(toy_data(3), hidden_channels=4, modality_weights=weights).double().eval()
    other = (
        FREEDOM(
            toy_data(3), ['audio', 'text', 'image'], hidden_channels=4, modality_weights=weights
        )
        .double()
        .eval()
    )
    other.load_state_dict(model.state_dict())
    assert torch.allclose(model.score(torch.arange(8)), other.score(torch.arange(8)))
    found, expected = other.loss(BATCH), model.loss(BATCH)
    assert all(torch.allclose(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    'arguments',
    [
        dict(num_layers=-1),
        dict(num_item_layers=-1),
        dict(num_neighbors=0),
        dict(edge_dropout=1.0),
        dict(content_weight=-1.0),
        dict(modality_weights={'image': 0.0}),
        dict(modalities=[]),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        FREEDOM(toy_data(), **arguments)
