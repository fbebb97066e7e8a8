r"""From checked arrays to the canonical graph; every reader of files ends here."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import DataError
from genrec_pyg.graph import HAS, INTERACTS, ITEM, SPLITS, USER

logger = logging.getLogger(__name__)

#: Sizes above both this and 100 per interaction indicate a corrupt id or header.
_PLAUSIBLE_SIZE = 10**6


def build_graph(
    user: np.ndarray,
    item: np.ndarray,
    split: np.ndarray | None,
    num_users: int,
    num_items: int,
    features: dict[str, np.ndarray],
    source: str,
    attributes: dict[str, np.ndarray] | None = None,
    ordered: bool = True,
) -> HeteroData:
    r"""Builds the canonical graph.

    A pair that occurs several times becomes one interaction of its earliest split (train before
    validation before test): a training positive never appears as a held-out item. Within that split
    the earliest ``time`` is kept, and among equal times the first line. How many were merged is
    logged. Interactions stay in the order they are given in.

    Args:
        user: Users ``[E]``.
        item: Items ``[E]``.
        split: 0 train, 1 validation, 2 test ``[E]``; :obj:`None` makes a graph without masks, which
            is still to be split.
        num_users: Number of users.
        num_items: Number of items.
        features: Modality to features ``[I, d_m]``, row = item.
        source: Name of the dataset for messages.
        attributes: Further columns of the interactions, such as ``time`` or ``rating``.
        ordered: Whether interactions are given in the order in which they happened. Where they are
            not, as in a matrix, edges are sorted by user and item and the graph says
            ``ordered = False``.

    Raises:
        DataError: If the training split is empty, an id is out of range or feature rows do not
            match the items.
    """
    for name, ids, size in (('user', user, num_users), ('item', item, num_items)):
        if len(ids) and (ids.min() < 0 or ids.max() >= size):
            raise DataError(
                f'{source}: {name} ids run from {ids.min()} to {ids.max()}, accepted are 0 '
                f'to {size - 1}'
            )
        if size > max(_PLAUSIBLE_SIZE, 100 * len(ids)) and not (name == 'item' and features):
            raise DataError(
                f'{source}: {size} {name}s for {len(ids)} interactions, accepted are ids numbered '
                f'from 0 without large gaps'
            )
    masked = split is not None
    split = np.zeros(len(user), dtype=np.int64) if split is None else split
    if not (split == 0).any():
        raise DataError(f'{source}: the training split has no interaction')
    attributes = attributes or {}
    keys = (
        (split, item, user) if 'time' not in attributes else (attributes['time'], split, item, user)
    )
    kept = np.lexsort(keys)  # stable: what is equal in all keys stays in the order of lines
    first = np.ones(len(user), dtype=bool)
    first[1:] = (user[kept[1:]] != user[kept[:-1]]) | (item[kept[1:]] != item[kept[:-1]])
    if not first.all():
        logger.warning(
            '%s: %d repeated interactions were merged into the earliest%s',
            source,
            int((~first).sum()),
            ' split' if masked else '',
        )
    kept = np.sort(kept[first]) if ordered else kept[first]
    data = HeteroData()
    data[USER].num_nodes, data[ITEM].num_nodes = int(num_users), int(num_items)
    store = data[INTERACTS]
    store.edge_index = torch.from_numpy(np.stack([user[kept], item[kept]]).astype(np.int64))
    for number, name in enumerate(SPLITS if masked else ()):
        store[f'{name}_mask'] = torch.from_numpy(split[kept] == number)
    for name, column in attributes.items():
        store[name] = torch.from_numpy(np.ascontiguousarray(column[kept]))
    if not ordered:
        store.ordered = False
    for name, x in features.items():
        if x.shape[0] != num_items:
            raise DataError(
                f'{source}: features of modality {name!r} have {x.shape[0]} rows, accepted are '
                f'{num_items}, one per item'
            )
        data[name].x = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
        data[ITEM, HAS, name].edge_index = torch.arange(num_items).expand(2, num_items).contiguous()
    return data


def mix(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    r"""A key ``[E]`` that orders pairs of numbers without regard to either, by the two
    multiplications of splitmix64
    (`Steele et al., OOPSLA 2014 <https://doi.org/10.1145/2660193.2660195>`_). Interactions of equal
    time have no order of their own: by item, the highest would always be the last of a session.
    """
    key = user.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + item.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        key = (key ^ (key >> np.uint64(shift))) * np.uint64(factor)
    return key


def as_raw_id(ids: np.ndarray | list[str]) -> torch.Tensor | list[str]:
    r"""Ids in the form in which a graph keeps them."""
    return torch.from_numpy(ids) if isinstance(ids, np.ndarray) else ids
