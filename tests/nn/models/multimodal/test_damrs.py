import pytest
import torch
from helpers.toy_graphs import BATCH, set_tables, toy_data

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import Modality, TrainingGraph
from genrec_pyg.nn.losses import bpr_loss
from genrec_pyg.nn.models import DAMRS
from genrec_pyg.nn.models.multimodal.damrs import feedback_weights

#: Item 2 has no edge; items 1 and 2 are consistent, item 0 with none.
TOY = TrainingGraph(
    2,
    3,
    torch.tensor([[0, 0, 1], [0, 1, 1]]),
    {
        'a': Modality('a', torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]), 3),
        'b': Modality('b', torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.96, 0.28]]), 3),
    },
)


def test_items_by_hand():
    model = DAMRS(TOY, hidden_channels=1, num_neighbors=2, min_common_users=1).eval()
    set_tables(model, [[1.0], [2.0]], [[3.0], [4.0], [5.0]])
    views = model.views()
    for view, expected in zip(views.smoothed, ([3, 4.5, 4.5], [3, 4.5, 4.5], [3.5, 3.5, 5])):
        assert view.view(-1).tolist() == pytest.approx(expected)
    assert views.mean.view(-1).tolist() == pytest.approx([3.166667, 4.166667, 4.666667], abs=1e-6)
    users, items = model.embed()
    assert items.view(-1).tolist() == pytest.approx([5.373773, 7.491625, 6.333333], abs=1e-6)
    assert users.view(-1).tolist() == pytest.approx([2.192809, 2.060660], abs=1e-6)


def test_weights_of_feedback_by_hand():
    positive = torch.tensor([[0.6], [0.7], [0.8]])
    for negative, expected in ((0.75, 0.05), (0.65, 0.0)):
        right, wrong = feedback_weights(positive, torch.tensor(negative))
        assert right.item() == pytest.approx(0.686139, abs=1e-6) and wrong.item() == pytest.approx(
            expected, abs=1e-6
        )


def test_with_weights_of_one_and_without_alignment_it_is_bpr():
    model = DAMRS(toy_data(), hidden_channels=4, alignment_weight=0.0, contrast_weight=0.0)
    model.feedback_weights = lambda views, batch: (torch.ones(5), torch.zeros(5))
    users, items = model.embed()
    terms = model.loss(BATCH)
    assert set(terms) == {'bpr', 'l2'}
    assert torch.allclose(
        terms['bpr'], bpr_loss(users[BATCH.user], items[BATCH.pos], items[BATCH.neg])
    )


def test_a_missing_modality_leaves_the_others_as_they_were():
    model = DAMRS(toy_data(1, partial=True), hidden_channels=4)  # item 6 has no image
    edge_index, value = model.content_graphs['image'].to_edge_index()
    assert value[edge_index[0] == 6].tolist() == [1.0] and not bool(
        (edge_index[1][edge_index[0] != 6] == 6).any()
    )
    assert bool(torch.isfinite(sum(model.loss(BATCH).values())))


@pytest.mark.parametrize(
    'arguments',
    [
        dict(num_layers=-1),
        dict(num_item_layers=-1),
        dict(num_neighbors=0),
        dict(num_co_items=0),
        dict(min_common_users=0),
        dict(alignment_weight=-1.0),
        dict(contrast_weight=-1.0),
        dict(num_positives=0),
        dict(temperature=0.0),
        dict(modalities=[]),
    ],
)
def test_bad_arguments_are_named(arguments):
    with pytest.raises(ConfigError, match=f'{next(iter(arguments))}: got'):
        DAMRS(toy_data(), **arguments)
