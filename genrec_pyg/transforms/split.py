r"""Splits of the interactions into training, validation and test edges.

Every split decides on **distinct pairs** of user and item: repeated interactions of one pair share
its split, so that no held-out pair is seen in training. Edges keep their order and attributes;
``train_mask``, ``val_mask`` and ``test_mask`` are set again.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import (
    HISTORY,
    INTERACTS,
    ITEM,
    MASKS,
    SPLITS,
    USER,
    check_graph,
    read_interactions,
    read_mask,
    read_time,
)
from genrec_pyg.transforms.base import GraphTransform
from genrec_pyg.transforms.split_rules import (
    TEST,
    TRAIN,
    VAL,
    drawn_labels,
    last_labels,
    random_labels,
    time_bounds,
    user_labels,
)

logger = logging.getLogger(__name__)


class _Pairs(NamedTuple):
    user: Tensor  # [P] user of each distinct pair, sorted by user, then item
    of_edge: Tensor  # [E] pair of each edge
    num_users: int


@functional_transform('random_interaction_split')
class RandomSplit(GraphTransform):
    r"""Holds out a random share of every user's distinct items.

    A user with :math:`n` items gives :math:`\lfloor t n + \epsilon \rfloor` of them to the test
    split and :math:`\lfloor (t + v) n + \epsilon \rfloor - \lfloor t n + \epsilon \rfloor` to
    validation, :math:`\epsilon` uniform in [0, 1) per user: shares are right on average also for
    users with few items. At least one item stays in training.

    Args:
        val: Share :math:`v` of validation pairs.
        test: Share :math:`t` of test pairs; :obj:`None` keeps the ``test_mask`` of the graph and
            splits the other pairs.
        seed: Seed of the split; the global random state is neither read nor changed.

    Raises:
        ConfigError: If a share is negative or their sum is not below 1.
        DataError: If the graph is not canonical, or has no ``test_mask`` to keep.

    Examples:
        >>> from genrec_pyg.testing import toy_graph
        >>> from genrec_pyg.transforms import RandomSplit
        >>> store = RandomSplit(val=0.2, test=0.2, seed=0)(toy_graph())['user', 'interacts', 'item']
        >>> int(store.train_mask.sum() + store.val_mask.sum() + store.test_mask.sum())
        13
    """

    def __init__(self, val: float = 0.1, test: float | None = 0.1, seed: int = 0):
        _check_shares(val, test)
        self.val = val
        self.test = test
        self.seed = seed

    def forward(self, data: HeteroData) -> HeteroData:
        pairs = _distinct_pairs(data)
        kept = (
            _kept_test(data, pairs)
            if self.test is None
            else torch.zeros_like(pairs.user, dtype=torch.bool)
        )
        free = (~kept).nonzero().view(-1)
        user = pairs.user[free]
        generator = torch.Generator().manual_seed(self.seed)
        key = torch.rand(free.numel(), generator=generator, dtype=torch.float64).to(user.device)
        offset = torch.rand(pairs.num_users, generator=generator, dtype=torch.float64).to(
            user.device
        )

        degree = torch.bincount(user, minlength=pairs.num_users)
        split = torch.full_like(pairs.user, TEST)
        split[free] = random_labels(user, degree, key, offset, self.val, self.test)
        return _set_masks(data, pairs, split)


@functional_transform('leave_one_out')
class LeaveOneOut(GraphTransform):
    r"""Holds out the last item of every user for the test and the last but one for validation.

    The order is that of ``time`` (ties by the order of edges), without ``time`` that of the edges.
    A graph whose edges have no order either, such as one read from matrices (``ordered = False``),
    is refused: give a ``seed`` there. Edges of your own that are sorted by item within every user
    are taken with a warning. A repeated pair counts where it occurs first. Users with fewer than
    three distinct items keep all of them in training, as in SASRec (Kang and McAuley, ICDM 2018).

    Args:
        seed: If given, a random order with this seed takes the place of time.

    Raises:
        DataError: If the graph is not canonical, has neither ``time`` nor an order of edges, or
            ``time`` is not one finite number per edge.

    Examples:
        >>> from genrec_pyg.datasets import from_table
        >>> from genrec_pyg.transforms import LeaveOneOut
        >>> log = {'user': [0, 0, 0, 1, 1, 1], 'item': [2, 0, 1, 1, 0, 2], 'time': range(6)}
        >>> data = from_table(log, split='none')
        >>> store = LeaveOneOut()(data)['user', 'interacts', 'item']
        >>> store.edge_index[:, store.test_mask].tolist()
        [[0, 1], [1, 2]]
    """

    def __init__(self, seed: int | None = None):
        self.seed = seed

    def forward(self, data: HeteroData) -> HeteroData:
        pairs = _distinct_pairs(data)
        if self.seed is not None:
            generator = torch.Generator().manual_seed(self.seed)
            position = torch.randperm(pairs.user.numel(), generator=generator).to(pairs.user.device)
        else:
            time = _time(data, required=False)
            position = _first_position(data, pairs, time)
            if time is None:
                _check_order(data, pairs, position)
        degree = torch.bincount(pairs.user, minlength=pairs.num_users)
        return _set_masks(data, pairs, last_labels(pairs.user, degree, position))


@functional_transform('temporal_split')
class TemporalSplit(GraphTransform):
    r"""Splits at two moments: the earliest pairs train, later ones validate, the last ones test.

    The order is global, by ``time`` (ties by the order of edges); a repeated pair counts where it
    occurs first. Users and items that appear late have no training edge.

    Args:
        val: Share of validation pairs.
        test: Share of test pairs; :obj:`None` keeps the ``test_mask`` of the graph and splits the
            other pairs.

    Raises:
        ConfigError: If a share is negative or their sum is not below 1.
        DataError: If the graph is not canonical, has no ``time`` or ``time`` is not one finite
            number per edge.

    Examples:
        >>> from genrec_pyg.datasets import from_table
        >>> from genrec_pyg.transforms import TemporalSplit
        >>> log = {'user': [0, 0, 0, 1, 1, 1], 'item': [2, 0, 1, 1, 0, 2], 'time': range(6)}
        >>> data = from_table(log, split='none')
        >>> store = TemporalSplit(val=0.0, test=0.34)(data)['user', 'interacts', 'item']
        >>> store.time[store.test_mask].tolist()
        [4, 5]
    """

    def __init__(self, val: float = 0.1, test: float | None = 0.1):
        _check_shares(val, test)
        self.val = val
        self.test = test

    def forward(self, data: HeteroData) -> HeteroData:
        pairs = _distinct_pairs(data)
        order = _first_position(data, pairs, _time(data, required=True)).argsort()
        split = torch.full_like(pairs.user, TEST)
        if self.test is None:
            order = order[~_kept_test(data, pairs)[order]]
        end_train, end_val = time_bounds(order.numel(), self.val, self.test)
        split[order[:end_train]] = TRAIN
        split[order[end_train:end_val]] = VAL
        return _set_masks(data, pairs, split)


@functional_transform('user_split')
class UserSplit(GraphTransform):
    r"""Trains on some users and asks for others, whose first items are known: the inductive
    protocol of ComiRec (Cen et al., KDD 2020) and REMI (Xie et al., RecSys 2023).

    Of the users outside the training, the first :math:`\lfloor s n \rfloor` of :math:`n` distinct
    items are their history (``history_mask``), which only models that read histories can use, and
    the others are held out. The order is that of ``time`` (ties by the order of edges); a repeated
    pair counts where it occurs first.

    Args:
        val: Share of users for validation.
        test: Share of users for the test.
        input_share: Share :math:`s` of items that are history.
        seed: Seed of the choice of users; the global random state is neither read nor changed.

    Raises:
        ConfigError: If a share is negative, the sum of both is not below 1, or ``input_share`` is
            not between 0 and 1.
        DataError: If the graph is not canonical, has no ``time`` or ``time`` is not one finite
            number per edge.

    Examples:
        >>> from genrec_pyg.datasets import from_table
        >>> from genrec_pyg.transforms import UserSplit
        >>> user, item = [n // 4 for n in range(40)], [n % 7 for n in range(40)]
        >>> log = {'user': user, 'item': item, 'time': range(40)}
        >>> data = UserSplit(val=0.1, test=0.1, seed=0)(from_table(log, split='none'))
        >>> store = data['user', 'interacts', 'item']
        >>> known, new = store.edge_index[0, store.train_mask], store.edge_index[0, store.test_mask]
        >>> len(new.unique()), len(set(known.tolist()) & set(new.tolist()))
        (1, 0)
    """

    def __init__(
        self, val: float = 0.1, test: float = 0.1, input_share: float = 0.8, seed: int = 0
    ):
        _check_shares(val, test)
        if not 0 < input_share < 1:
            raise ConfigError(
                f'input_share: got {input_share!r}, accepted is a share between 0 and 1'
            )
        self.val = val
        self.test = test
        self.input_share = input_share
        self.seed = seed

    def forward(self, data: HeteroData) -> HeteroData:
        pairs = _distinct_pairs(data)
        position = _first_position(data, pairs, _time(data, required=True))
        degree = torch.bincount(pairs.user, minlength=pairs.num_users)
        active = (degree > 0).nonzero().view(-1)
        of_user = drawn_labels(active, pairs.num_users, self.val, self.test, self.seed)
        return _set_masks(
            data, pairs, user_labels(pairs.user, degree, position, of_user, self.input_share)
        )


@functional_transform('cold_item_split')
class ColdItemSplit(GraphTransform):
    r"""Holds out all interactions of a random share of the items: how well items are found that
    nobody has touched, as in CLCRec
    (`Wei et al., ACM MM 2021 <https://arxiv.org/abs/2107.05315>`_).

    Args:
        val: Share of the items, of those with an interaction, for validation.
        test: Share of the items for the test.
        seed: Seed of the choice; the global random state is neither read nor changed.

    Raises:
        ConfigError: If a share is negative or their sum is not below 1.
        DataError: If the graph is not canonical.

    Examples:
        >>> from genrec_pyg.testing import toy_graph
        >>> from genrec_pyg.transforms import ColdItemSplit
        >>> data = ColdItemSplit(val=0.2, test=0.2, seed=0)(toy_graph())
        >>> store = data['user', 'interacts', 'item']
        >>> warm, cold = store.edge_index[1, store.train_mask], store.edge_index[1, store.test_mask]
        >>> set(warm.tolist()) & set(cold.tolist())
        set()
    """

    def __init__(self, val: float = 0.1, test: float = 0.1, seed: int = 0):
        _check_shares(val, test)
        self.val = val
        self.test = test
        self.seed = seed

    def forward(self, data: HeteroData) -> HeteroData:
        pairs = _distinct_pairs(data)
        item = torch.empty_like(pairs.user).index_copy_(
            0, pairs.of_edge, read_interactions(data)[1]
        )
        of_item = drawn_labels(
            item.unique(), int(data[ITEM].num_nodes), self.val, self.test, self.seed
        )
        return _set_masks(data, pairs, of_item[item])


def _check_shares(val: float, test: float | None) -> None:
    for name, share in (('val', val), ('test', test or 0)):
        if not 0 <= share < 1:
            raise ConfigError(f'{name}: got {share!r}, accepted is a share from 0 to below 1')
    if val + (test or 0) >= 1:
        raise ConfigError(f'val and test: got {val!r} and {test!r}, accepted is a sum below 1')


def _distinct_pairs(data: HeteroData) -> _Pairs:
    check_graph(data, finite=False, disjoint=False)
    num_items = max(int(data[ITEM].num_nodes), 1)
    user, item = read_interactions(data)
    pair, of_edge = torch.unique(user * num_items + item, return_inverse=True)
    return _Pairs(pair.div(num_items, rounding_mode='floor'), of_edge, int(data[USER].num_nodes))


def _kept_test(data: HeteroData, pairs: _Pairs) -> Tensor:
    test_mask = read_mask(data, 'test')
    if test_mask is None:
        raise DataError(
            f"graph: {INTERACTS} has no 'test_mask' to keep, give test a share instead of None"
        )
    kept = torch.zeros_like(pairs.user, dtype=torch.bool)
    kept[pairs.of_edge[test_mask.to(kept.device)]] = True
    return kept


def _time(data: HeteroData, required: bool) -> Tensor | None:
    time = read_time(data)
    if time is None and required:
        raise DataError(
            f"graph: {INTERACTS} has no 'time', found {list(data[INTERACTS].keys())}; accepted is "
            f'one number per edge, or RandomSplit and LeaveOneOut, which need none'
        )
    return time


def _first_position(data: HeteroData, pairs: _Pairs, time: Tensor | None) -> Tensor:
    r"""Position ``[P]`` of each pair's first edge in the order of time, or of edges where there is
    no time.
    """
    num_edges = pairs.of_edge.numel()
    position = torch.arange(num_edges, device=pairs.of_edge.device)
    if time is not None:
        order = time.argsort(stable=True)
        position = torch.empty_like(position).scatter_(0, order, position)
    first = torch.full_like(pairs.user, num_edges)
    return first.scatter_reduce_(0, pairs.of_edge, position, reduce='amin')


def _check_order(data: HeteroData, pairs: _Pairs, position: Tensor) -> None:
    r"""Refuses edges without an order, and warns where their order is that of item ids."""
    if data[INTERACTS].get('ordered') is False:
        raise DataError(
            f"graph: {INTERACTS} has no 'time' and its edges have no order, so no item is the "
            f'last one; accepted are LeaveOneOut(seed=0), which holds out a random item, '
            f"RandomSplit, or one number 'time' per edge"
        )
    order = position.argsort()
    order = order[pairs.user[order].argsort(stable=True)]
    same_user = pairs.user[2:] == pairs.user[:-2]
    if bool(same_user.any()) and torch.equal(
        order, torch.arange(order.numel(), device=order.device)
    ):
        logger.warning(
            "%s has no 'time' and its edges are sorted by item within every user: the item of the "
            'highest number is held out; if that is not the order in which they happened, use '
            'LeaveOneOut(seed=0)',
            INTERACTS,
        )


def _set_masks(data: HeteroData, pairs: _Pairs, split: Tensor) -> HeteroData:
    of_edge = split[pairs.of_edge]
    if f'{HISTORY}_mask' in data[INTERACTS]:  # of another split
        del data[INTERACTS][f'{HISTORY}_mask']
    for code, name in enumerate(MASKS):
        if name in SPLITS or bool((of_edge == code).any()):
            data[INTERACTS][f'{name}_mask'] = of_edge == code
    return data
