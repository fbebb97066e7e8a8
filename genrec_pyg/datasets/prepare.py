r"""From a graph of all interactions to the one that is trained on: threshold of ratings, k-core,
split.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph import HISTORY, INTERACTS, SPLITS, modality_names, read_interactions
from genrec_pyg.graph.containers import as_dense
from genrec_pyg.transforms import (
    ColdItemSplit,
    KCore,
    LeaveOneOut,
    RandomSplit,
    TemporalSplit,
    UserSplit,
)
from genrec_pyg.transforms.selection import select_edges

logger = logging.getLogger(__name__)

#: The split of data that bring none: it needs no times and no order of rows, and every user is
#: asked for.
DEFAULT_SPLIT = 'random:0.1,0.1'
#: Splits by shares of validation and test.
_SHARES = {
    'random': RandomSplit,
    'time': TemporalSplit,
    'temporal': TemporalSplit,
    'users': UserSplit,
    'cold_items': ColdItemSplit,
    'cold-items': ColdItemSplit,
}
_ACCEPTED = (
    'leave_one_out, random, time (or temporal), users, cold_items (these four also with shares of '
    'validation and test, as in random:0.1,0.1), column:NAME and none'
)


def split_column(split: str | None) -> str | None:
    r"""The column that ``split`` names, as in ``'column:NAME'``; :obj:`None` where it names
    none.
    """
    return split.partition(':')[2] if split is not None and split.startswith('column:') else None


def make_split(split: str, seed: int = 0) -> Any:
    r"""The transform that a text names.

    Args:
        split: ``'random'``, ``'time'``, ``'users'`` or ``'cold_items'``, also with shares of
            validation and test (``'random:0.1,0.1'``), ``'leave-one-out'``, or ``'none'``, which
            leaves all interactions to the training; ``'temporal'`` and ``'leave_one_out'`` mean the
            same as ``'time'`` and ``'leave-one-out'``.
        seed: Seed of random splits, whatever the seed of the training.

    Raises:
        ConfigError: On another text or shares out of range.
    """
    kind, colon, rest = split.partition(':')
    if kind in _SHARES:
        try:
            shares = [float(share) for share in rest.split(',')] if colon else [0.1, 0.1]
        except ValueError:
            shares = []
        if len(shares) != 2:
            raise ConfigError(
                f'split: got {split!r}, accepted are two shares, of validation and test, as '
                f'in {kind}:0.1,0.1'
            )
        rule = _SHARES[kind]
        return rule(*shares) if rule is TemporalSplit else rule(*shares, seed=seed)
    if split in ('leave-one-out', 'leave_one_out'):
        return LeaveOneOut()
    if split == 'none':
        return train_on_all
    raise ConfigError(f'split: got {split!r}, accepted are {_ACCEPTED}')


def train_on_all(data: HeteroData) -> HeteroData:
    r"""Leaves every interaction to the training, in place."""
    everything = torch.ones_like(read_interactions(data)[0], dtype=torch.bool)
    if f'{HISTORY}_mask' in data[INTERACTS]:
        del data[INTERACTS][f'{HISTORY}_mask']
    for name in SPLITS:
        data[INTERACTS][f'{name}_mask'] = everything if name == 'train' else ~everything
    return data


def prepare(
    data: HeteroData,
    min_rating: float | None = None,
    k_core: int = 0,
    split: str | None = None,
    seed: int = 0,
) -> HeteroData:
    r"""Filters and splits a canonical graph, in this order; the log says what each step left out.

    Args:
        data: Canonical graph.
        min_rating: Least rating of an interaction that counts as liked; others are left out.
        k_core: Least number of distinct items per user and users per item, see
            :class:`~genrec_pyg.transforms.KCore`.
        split: See :func:`make_split`; :obj:`None` keeps that of the graph.
        seed: Seed of random splits.

    Raises:
        ConfigError: On an unknown split or a number out of range.
        DataError: If the graph has no ratings, or nothing is left.
    """
    transform = None if split is None else make_split(split, seed)
    if k_core < 0:
        raise ConfigError(f'k_core: got {k_core}, accepted are integers from 0')
    if min_rating is not None:
        rating = as_dense(data[INTERACTS].get('rating'))
        kept = rated_at_least(None if rating is None else rating.numpy(), min_rating, 'graph')
        select_edges(data, INTERACTS, torch.from_numpy(kept))
    if min_rating is not None or k_core > 0:
        before = (
            read_interactions(data).size(1),
            int(data['user'].num_nodes),
            int(data['item'].num_nodes),
        )
        # Items that features describe stay without interactions, where no core is asked for.
        data = KCore((max(k_core, 1), k_core or (0 if modality_names(data) else 1)))(data)
        after = (
            read_interactions(data).size(1),
            int(data['user'].num_nodes),
            int(data['item'].num_nodes),
        )
        logger.info(
            '%d-core: %d of %d interactions, %d of %d users, %d of %d items are kept',
            k_core,
            *(number for pair in zip(after, before) for number in pair),
        )
    return data if transform is None else transform(data)


def rated_at_least(rating: np.ndarray | None, least: float, source: str) -> np.ndarray:
    r"""Places of the ratings that count as liked; the log says how many do not.

    Raises:
        DataError: If there are no ratings, or none is left.
    """
    if rating is None:
        raise DataError(
            f"{source}: {INTERACTS} has no 'rating', so min_rating={least} has nothing to compare "
            f'with; accepted is None, or a log with ratings (--columns rating=NAME)'
        )
    kept = (rating >= least).nonzero()[0]
    if kept.size == 0:
        raise DataError(
            f'{source}: no rating is at least {least}, the largest is {float(rating.max())}'
        )
    if kept.size < rating.size:
        logger.info(
            'ratings below %g: %d of %d interactions left out',
            least,
            rating.size - kept.size,
            rating.size,
        )
    return kept
