import copy

import pytest
import torch

from genrec_pyg.evaluation import evaluate
from genrec_pyg.nn.interest import HeldOutLists
from genrec_pyg.nn.interest.held_out import CandidateScores
from genrec_pyg.nn.models import get_model


def test_recall_is_that_of_the_evaluator(demo_data):
    held_out = HeldOutLists(demo_data)
    model = get_model('EASE')(demo_data)
    expected = evaluate(model, demo_data, 'val', (20,))['recall@20']
    assert held_out.recall(model.score) == pytest.approx(expected, abs=1e-6)
    candidates = held_out.candidates([model.score, lambda user: model.score(user).neg()], depth=25)
    assert candidates.recall([1.0, 0.0]) == pytest.approx(expected, abs=1e-6)
    assert candidates.recall([0.0, 0.0]) == 0.0


def test_mixtures_among_candidates_are_those_of_all_items(demo_data):
    held_out = HeldOutLists(demo_data)
    ease, popularity = get_model('EASE')(demo_data).score, get_model('Popularity')(demo_data).score
    candidates = held_out.candidates([ease, popularity], depth=80)  # all items
    for weight in (0.3, 0.9):
        mixed = held_out.recall(lambda user, w=weight: (1 - w) * ease(user) + w * popularity(user))
        assert candidates.recall([1 - weight, weight]) == pytest.approx(mixed, abs=1e-6)


def test_nothing_of_the_test_split_is_read(demo_data):
    changed = copy.deepcopy(demo_data)
    store = changed['user', 'interacts', 'item']
    store.edge_index = store.edge_index[:, ~store.test_mask]
    for name in ('train_mask', 'val_mask'):
        store[name] = store[name][~demo_data['user', 'interacts', 'item'].test_mask]
    del store['test_mask']
    first, second = HeldOutLists(demo_data), HeldOutLists(changed)
    assert torch.equal(first.user, second.user) and torch.equal(
        first.held_out.col, second.held_out.col
    )
    assert torch.equal(first.known.col, second.known.col)


def test_many_users_are_thinned_out_and_few_do_not_suffice(demo_data):
    assert HeldOutLists(demo_data).suffices
    few = HeldOutLists(demo_data, max_users=10)
    assert few.user.numel() == 10 and not few.suffices
    assert torch.equal(few.user, few.user.unique())


def test_no_validation_split(demo_data):
    data = copy.deepcopy(demo_data)
    data['user', 'interacts', 'item'].val_mask[:] = False
    held_out = HeldOutLists(data)
    assert held_out.user.numel() == 0 and not held_out.suffices


def test_of_equal_scores_the_lower_item_is_listed():
    """Candidates stand in order of items, so a mixture breaks ties as a whole list does."""
    score = torch.tensor([[[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [3.0, 2.0, 1.0, 0.0]]])
    for relevant, expected in (([0, 1, 0, 0], 3), ([0, 0, 1, 0], 0), ([1, 0, 0, 0], 3)):
        hits = torch.tensor([relevant] * 3, dtype=torch.bool)
        found = CandidateScores(score, hits, torch.ones(3), k=2).recall([1.0])
        assert found == pytest.approx(expected / 3)


def test_users_without_training_interactions_choose_nothing(demo_data):
    data = copy.deepcopy(demo_data)
    store = data['user', 'interacts', 'item']
    lost = store.edge_index[0] == 5
    assert 5 in HeldOutLists(data).user
    store.train_mask &= ~lost
    assert 5 not in HeldOutLists(data).user
