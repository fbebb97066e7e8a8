import copy

import pytest
import torch

from genrec_pyg.datasets import demo_graph
from genrec_pyg.evaluation import evaluate
from genrec_pyg.evaluation import validation_search as validation
from genrec_pyg.evaluation.search_paths import PATHS
from genrec_pyg.evaluation.validation_search import ValidationRecall, tune_on_validation
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import get_model

STORE = 'user', 'interacts', 'item'


@pytest.fixture(scope='module')
def data():
    return demo_graph(num_users=200, num_items=80, num_clusters=6)


@pytest.mark.parametrize('name', ['Popularity', 'EASE'])
def test_recall_is_that_of_the_evaluator(data, name):
    model = get_model(name)(data)
    assert ValidationRecall(data, 5)(model) == pytest.approx(
        evaluate(model, data, 'val', (5,))['recall@5'], abs=1e-9
    )


def test_users_are_thinned_out(data):
    recall = ValidationRecall(data, 5, max_users=30)
    assert recall.user.numel() == recall.user.unique().numel() == 30 < recall.num_users


@pytest.mark.parametrize('name', PATHS)
def test_is_at_least_as_good_as_the_start_and_the_settings_give_the_model(data, name):
    tuned = tune_on_validation(name, data, max_seconds=20)
    recall = ValidationRecall(data)
    assert (
        tuned.chosen and tuned.recall == max(value for _, value in tuned.curve) >= tuned.curve[0][1]
    )
    assert recall(tuned.model) == pytest.approx(tuned.recall, abs=1e-6)
    again = get_model(name)(data, **tuned.settings)
    assert torch.allclose(
        again.score(torch.arange(50)), tuned.model.score(torch.arange(50)), atol=1e-5
    )
    assert f'{name}: ' in tuned.reason and str(len(tuned.curve)) in tuned.reason


@pytest.mark.parametrize('name', ['EASE', 'AddEASE', 'GraphFilter', 'ItemKNN', 'ItemKNNCBF'])
def test_nothing_of_the_test_split_takes_part(data, name):
    """Half of the test items, others, and no test split at all give the same choice and curve."""
    first = tune_on_validation(name, data, max_seconds=20)
    others, without = copy.deepcopy(data), copy.deepcopy(data)
    mask = others[STORE].test_mask
    others[STORE].test_mask = mask & (torch.arange(mask.numel()) % 2 == 0)
    item = others[STORE].edge_index[1]
    train = {tuple(pair) for pair in others[STORE].edge_index[:, ~mask].t().tolist()}
    for edge in others[STORE].test_mask.nonzero().view(-1).tolist():
        user = int(others[STORE].edge_index[0, edge])
        item[edge] = next(i for i in torch.randperm(80).tolist() if (user, i) not in train)
    del without[STORE].test_mask
    without[STORE].edge_index = without[STORE].edge_index[:, ~mask]
    for split in ('train_mask', 'val_mask'):
        without[STORE][split] = without[STORE][split][~mask]
    for changed in (others, without):
        second = tune_on_validation(name, changed, max_seconds=20)
        assert second.settings == first.settings and second.curve == first.curve


def test_pinned_settings_stay(data):
    tuned = tune_on_validation(
        'EASE',
        data,
        start={'popularity_discount': -0.1, 'row_weight': 0.25},
        pinned=('popularity_discount', 'row_weight'),
    )
    assert tuned.settings['popularity_discount'] == -0.1 and tuned.settings['row_weight'] == 0.25
    assert len({settings['l2'] for settings, _ in tuned.curve}) > 1


def test_goes_on_from_other_settings(data):
    ease = tune_on_validation('EASE', data)
    tuned = tune_on_validation('AddEASE', data, start=ease.settings, pinned=tuple(ease.settings))
    assert tuned.settings['l2'] == pytest.approx(ease.settings['l2'], rel=1e-5)
    assert tuned.recall >= ease.recall - 0.02


def test_the_best_of_several_starts_is_taken(data):
    recall, tuned = ValidationRecall(data), tune_on_validation('EASE', data)
    starts = [{**PATHS['EASE'].start, **other} for other in ({}, *PATHS['EASE'].others)]
    unit = tuned.curve[0][0]['l2'] / starts[0]['l2']
    for start in starts[:2]:  # without row weight: in the unit of the first
        model = get_model('EASE')(data, **{**start, 'l2': start['l2'] * unit})
        assert tuned.recall >= recall(model) - 1e-9


def test_time_is_kept(data):
    tuned = tune_on_validation('EASE', data, max_seconds=0.0)
    # the first fit and what needs no other
    assert len({settings['l2'] for settings, _ in tuned.curve}) == 1
    assert 'stopped when the time for it was over' in tuned.reason


def test_too_small_a_split_falls_back(data, caplog):
    small = copy.deepcopy(data)
    mask = small[STORE].val_mask
    mask[mask.nonzero().view(-1)[20:]] = False
    with caplog.at_level('INFO'):
        tuned = tune_on_validation('EASE', small, fallback={'l2': 77.0})
    assert (
        not tuned.chosen
        and tuned.settings == {'l2': 77.0}
        and tuned.curve == []
        and tuned.recall is None
    )
    assert (
        'users have validation items, fewer than the 50 on which settings are chosen' in caplog.text
    )
    del small[STORE].val_mask
    assert not tune_on_validation('ItemKNN', small).chosen


def test_many_items_are_searched_as_low_rank_plus_sparse(data, monkeypatch):
    monkeypatch.setattr(validation, 'DENSE_ITEMS', 79)
    tuned = tune_on_validation('EASE', data)
    limits = [settings['max_items'] for settings, _ in tuned.curve]
    assert set(limits[:-12]) == {0} and limits[-1] == 80  # the dense matrix at the end alone
    assert (tuned.model.weight is None) == (tuned.settings['max_items'] == 0)
    assert 80 not in [
        settings['max_items']
        for settings, _ in tune_on_validation('EASE', data, max_seconds=0.0).curve
    ]


def test_unknown_models_are_named(data):
    with pytest.raises(
        ConfigError,
        match="model: got 'LightGCN', accepted for a search in closed form are ItemKNN, EASE",
    ):
        tune_on_validation('LightGCN', data)
