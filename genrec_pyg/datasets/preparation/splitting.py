r"""Splits of pairs that lie in mapped files, block by block, equal to those of
:mod:`genrec_pyg.transforms`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from genrec_pyg.datasets.builder import mix
from genrec_pyg.datasets.preparation.staging import Staged
from genrec_pyg.datasets.prepare import make_split, train_on_all
from genrec_pyg.exceptions import DataError
from genrec_pyg.transforms import ColdItemSplit, LeaveOneOut, RandomSplit, TemporalSplit, UserSplit
from genrec_pyg.transforms.split_rules import (
    TEST,
    VAL,
    drawn_labels,
    last_labels,
    random_labels,
    time_bounds,
    user_labels,
)

#: Pairs of a block, which ends with a user.
BLOCK = 1 << 21


class Block(NamedTuple):
    r"""Pairs that are kept, of whole users.

    Args:
        user: Users ``[n]`` by their final numbers.
        item: Items ``[n]``.
        order: What orders pairs of equal time ``[n]``, uint64.
        place: Positions ``[n]`` among the staged pairs.
        label: Splits ``[n]``, int8; zeros where time decides.
    """

    user: np.ndarray
    item: np.ndarray
    order: np.ndarray
    place: np.ndarray
    label: np.ndarray


def split_blocks(
    staged: Staged,
    user_kept: np.ndarray,
    item_kept: np.ndarray,
    num_pairs: int,
    split: str | None,
    seed: int,
) -> Iterator[Block]:
    r"""The pairs that are kept, with their splits.

    Args:
        staged: All pairs.
        user_kept: Users that are kept ``[U]``.
        item_kept: Items that are kept ``[I]``.
        num_pairs: Pairs whose both ends are kept.
        split: Split by name, see :func:`~genrec_pyg.datasets.prepare.make_split`; :obj:`None` takes
            the labels of the log.
        seed: Its seed.

    Raises:
        DataError: If the split needs times and there are none.
    """
    rule = None if split is None else make_split(split, seed)
    if staged.time is None and isinstance(rule, (TemporalSplit, UserSplit)):
        raise DataError(
            f'split: got {split!r}, but the log has no times; accepted are random, cold_items, '
            f'leave_one_out (which takes the order of rows), or --time COLUMN'
        )
    new_user, new_item = (np.cumsum(kept, dtype=np.int64) - 1 for kept in (user_kept, item_kept))
    label = _labels(rule, staged, user_kept, item_kept, new_item, num_pairs)
    for start, end in _whole_users(staged.user):
        user, item = staged.user[start:end], staged.item[start:end]
        place = np.flatnonzero(user_kept[user] & item_kept[item])
        user, item = user[place], item[place]
        order = mix(user, item)
        place += start
        user, item = new_user[user], new_item[item]
        if rule is None:
            labels = staged.label[place]
        else:
            labels = (
                label(torch.from_numpy(user), torch.from_numpy(item), order, place)
                .to(torch.int8)
                .numpy()
            )
        yield Block(user.astype(np.int32), item.astype(np.int32), order, place, labels)


def label_by_time(first: int, count: int, num_pairs: int, split: str | None) -> np.ndarray | None:
    r"""Splits of the pairs from the ``first`` one on in the order of time, or :obj:`None` where
    time does not decide.
    """
    rule = None if split is None else make_split(split)
    if not isinstance(rule, TemporalSplit):
        return None
    end_train, end_val = time_bounds(num_pairs, rule.val, rule.test)
    place = np.arange(first, first + count)
    return np.where(place >= end_val, TEST, np.where(place >= end_train, VAL, 0)).astype(np.int8)


def _whole_users(user: np.ndarray) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(user):
        end = min(start + BLOCK, len(user))
        end = int(np.searchsorted(user, user[end - 1], side='right'))
        yield start, end
        start = end


def _labels(
    rule: Any,
    staged: Staged,
    user_kept: np.ndarray,
    item_kept: np.ndarray,
    new_item: np.ndarray,
    num_pairs: int,
) -> Any:
    r"""The function that labels the pairs of a block; it is called for one block after the
    other.
    """
    if isinstance(rule, RandomSplit):
        return _RandomLabels(rule, num_pairs, int(user_kept.sum()))
    if isinstance(rule, LeaveOneOut):
        return lambda user, item, order, place: last_labels(
            *_local(user), _position(staged, item, order, place)
        )
    if isinstance(rule, UserSplit):
        active = torch.arange(int(user_kept.sum()))
        of_user = drawn_labels(active, len(active), rule.val, rule.test, rule.seed)
        return lambda user, item, order, place: user_labels(
            *_local(user),
            _position(staged, item, order, place),
            of_user[user.unique()],
            rule.input_share,
        )
    if isinstance(rule, ColdItemSplit):
        seen = np.zeros(len(item_kept), dtype=bool)
        for start, end in _whole_users(staged.user):
            item = staged.item[start:end]
            seen[item[user_kept[staged.user[start:end]] & item_kept[item]]] = True
        of_item = drawn_labels(
            torch.from_numpy(new_item[seen]), int(item_kept.sum()), rule.val, rule.test, rule.seed
        )
        return lambda user, item, order, place: of_item[item]
    assert rule is None or rule is train_on_all or isinstance(rule, TemporalSplit)
    return lambda user, item, order, place: torch.zeros_like(user)


class _RandomLabels:
    r"""Draws as :class:`~genrec_pyg.transforms.RandomSplit` does: a number for every pair, then one
    for every user.
    """

    def __init__(self, rule: RandomSplit, num_pairs: int, num_users: int):
        self.rule = rule
        self.keys = torch.Generator().manual_seed(rule.seed)
        later = torch.Generator().manual_seed(rule.seed)
        for start in range(0, num_pairs, BLOCK):
            torch.rand(min(BLOCK, num_pairs - start), generator=later, dtype=torch.float64)
        self.offset = torch.rand(num_users, generator=later, dtype=torch.float64)

    def __call__(self, user: Tensor, item: Tensor, order: np.ndarray, place: np.ndarray) -> Tensor:
        key = torch.rand(user.numel(), generator=self.keys, dtype=torch.float64)
        local, degree = _local(user)
        return random_labels(
            local, degree, key, self.offset[user.unique()], self.rule.val, self.rule.test
        )


def _local(user: Tensor) -> tuple[Tensor, Tensor]:
    r"""Users numbered within the block, and their numbers of pairs."""
    _, local, degree = user.unique_consecutive(return_inverse=True, return_counts=True)
    return local, degree


def _position(staged: Staged, item: Tensor, order: np.ndarray, place: np.ndarray) -> Tensor:
    r"""Positions of the pairs of a block in the order in which they happened."""
    if staged.time is None:
        return torch.from_numpy(np.asarray(staged.row[place]))
    rank = np.empty(len(place), dtype=np.int64)
    rank[np.lexsort((item.numpy(), order, staged.time[place]))] = np.arange(len(place))
    return torch.from_numpy(rank)
