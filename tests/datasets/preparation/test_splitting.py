"""Splits of staged pairs, whose blocks change nothing."""

import numpy as np
import pytest

from genrec_pyg.datasets.preparation import splitting
from genrec_pyg.datasets.preparation.splitting import label_by_time, split_blocks
from genrec_pyg.datasets.preparation.staging import Staged
from genrec_pyg.exceptions import DataError

SPLITS = ('random:0.3,0.2', 'leave_one_out', 'users:0.3,0.3', 'cold_items:0.2,0.2', 'none')


def staged(users=30, items=40, seed=0, timed=True, label=None):
    pairs = np.random.default_rng(seed).random((users, items)) < 0.3
    user, item = (number.astype(np.int32) for number in pairs.nonzero())
    row = np.random.default_rng(seed + 1).permutation(len(user))
    return Staged(user, item, row, row // 3 if timed else None, None, label)


def labels(found, split, user_kept=None, item_kept=None, seed=0):
    users = np.ones(30, bool) if user_kept is None else user_kept
    items = np.ones(40, bool) if item_kept is None else item_kept
    left = int((users[found.user] & items[found.item]).sum())
    blocks = list(split_blocks(found, users, items, left, split, seed))
    return [np.concatenate(column) for column in zip(*blocks)]


@pytest.mark.parametrize('split', SPLITS)
def test_size_of_blocks_changes_nothing(monkeypatch, split):
    found = staged()
    whole = labels(found, split, seed=3)
    monkeypatch.setattr(splitting, 'BLOCK', 7)
    assert len(list(splitting._whole_users(found.user))) > 10
    for one, other in zip(whole, labels(found, split, seed=3)):
        assert np.array_equal(one, other)
    assert set(whole[4].tolist()) == ({0} if split == 'none' else set(whole[4].tolist()))


def test_left_out_users_and_items_are_numbered_over_and_places_name_the_pairs():
    found = staged()
    user_kept, item_kept = np.arange(30) % 3 > 0, np.arange(40) % 2 == 0
    user, item, _, place, _ = labels(found, 'none', user_kept, item_kept)
    old_user, old_item = np.flatnonzero(user_kept), np.flatnonzero(item_kept)
    assert np.array_equal(old_user[user], found.user[place])
    assert np.array_equal(old_item[item], found.item[place])
    assert user.dtype == item.dtype == np.int32
    assert len(place) == (user_kept[found.user] & item_kept[found.item]).sum()


def test_the_last_two_items_of_a_user_are_held_out():
    found = Staged(
        np.array([0, 0, 0, 0, 1, 1], np.int32),
        np.array([0, 1, 2, 3, 0, 1], np.int32),
        np.arange(6),
        np.array([40, 10, 30, 20, 1, 2]),
        None,
        None,
    )
    kept = np.ones(2, bool), np.ones(4, bool)
    (block,) = split_blocks(found, *kept, 6, 'leave_one_out', 0)
    # 2 is test, 1 validation; a user of two items has neither
    assert block.label.tolist() == [2, 0, 1, 0, 0, 0]
    rows = found._replace(time=None, row=np.array([1, 3, 0, 2, 4, 5]))
    (block,) = split_blocks(rows, *kept, 6, 'leave_one_out', 0)
    assert block.label.tolist() == [0, 2, 0, 1, 0, 0]


def test_cold_items_are_whole_items():
    user, item, _, _, label = labels(staged(), 'cold_items:0.2,0.2')
    kinds = [set(label[item == one].tolist()) for one in range(40)]
    assert all(len(kind) == 1 for kind in kinds)
    assert [sum(kind == {split} for kind in kinds) for split in (0, 1, 2)] == [24, 8, 8]


def test_labels_of_the_log_are_kept():
    found = staged()
    label = (np.arange(len(found.user)) % 3).astype(np.int8)
    kept = np.arange(30) > 4
    *_, place, read = labels(found._replace(label=label), None, kept)
    assert np.array_equal(read, label[place])


def test_time_decides_by_place_in_the_whole_log():
    assert label_by_time(0, 10, 10, 'time:0.2,0.1').tolist() == [0] * 7 + [1, 1, 2]
    assert label_by_time(6, 3, 10, 'time:0.2,0.1').tolist() == [0, 1, 1]
    assert label_by_time(0, 10, 10, 'random') is None and label_by_time(0, 10, 10, None) is None
    assert labels(staged(), 'time')[4].max() == 0  # until then


@pytest.mark.parametrize('split', ['time', 'users:0.1,0.1'])
def test_splits_by_time_need_times(split):
    with pytest.raises(DataError, match='the log has no times; accepted are random'):
        labels(staged(timed=False), split)
