import copy

import pytest
import torch

from genrec_pyg.datasets.prepare import make_split, prepare, split_column
from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.transforms import LeaveOneOut, RandomSplit, TemporalSplit, UserSplit

EDGES = ('user', 'interacts', 'item')


@pytest.mark.parametrize(
    'text,kind',
    [
        ('random', RandomSplit),
        ('time:0.2,0.1', TemporalSplit),
        ('temporal', TemporalSplit),
        ('users', UserSplit),
        ('leave-one-out', LeaveOneOut),
        ('leave_one_out', LeaveOneOut),
    ],
)
def test_splits_by_name(text, kind):
    found = make_split(text)
    assert type(found) is kind
    if ':' in text:
        assert (found.val, found.test) == (0.2, 0.1)


@pytest.mark.parametrize(
    'text', ['half', 'random:', 'random:0.1', 'random:a,b', 'time:0.1,0.2,0.3', '']
)
def test_other_splits_are_refused(text):
    with pytest.raises(ConfigError, match='split: got'):
        make_split(text)


def test_a_column_of_labels():
    assert (
        split_column('column:part') == 'part'
        and split_column('random') is None
        and split_column(None) is None
    )


def test_none_leaves_everything_to_the_training(demo_data):
    store = prepare(copy.deepcopy(demo_data), split='none')[EDGES]
    assert bool(store.train_mask.all()) and not bool((store.val_mask | store.test_mask).any())


def test_threshold_and_core_leave_what_fulfills_them(tiny_graph):
    data = tiny_graph
    data[EDGES].rating = torch.tensor([5.0] * 9 + [1.0] * 6)
    found = prepare(copy.deepcopy(data), min_rating=3)
    assert bool((found[EDGES].rating >= 3).all()) and found[EDGES].edge_index.size(1) == 9
    user, item = prepare(copy.deepcopy(data), k_core=2, split='none')[EDGES].edge_index
    assert int(torch.bincount(user).min()) >= 2 and int(torch.bincount(item).min()) >= 2


def test_what_cannot_be_prepared_is_named(tiny_graph):
    with pytest.raises(ConfigError, match='k_core: got -1'):
        prepare(copy.deepcopy(tiny_graph), k_core=-1)
    with pytest.raises(DataError, match="has no 'rating'"):
        prepare(copy.deepcopy(tiny_graph), min_rating=3)
    tiny_graph[EDGES].rating = torch.ones(15)
    with pytest.raises(DataError, match='no rating is at least 3, the largest is 1.0'):
        prepare(tiny_graph, min_rating=3)
