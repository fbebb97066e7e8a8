r"""Interactions in the order in which they happened."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError, DataError
from genrec_pyg.graph.containers import as_dense
from genrec_pyg.graph.schema import (
    HISTORY,
    INTERACTS,
    ITEM,
    MASKS,
    has_split,
    pair_keys,
    read_interactions,
    read_mask,
)


def read_time(data: HeteroData) -> Tensor | None:
    r"""Times ``[E]`` of the interactions, or :obj:`None` where the graph has none.

    Raises:
        DataError: If they are not one finite number per edge.
    """
    time = as_dense(data[INTERACTS].get('time'))
    if time is None:
        return None
    num_edges = read_interactions(data).size(1)
    if (
        not isinstance(time, Tensor)
        or time.numel() != num_edges
        or time.is_complex()
        or not bool(torch.isfinite(time).all())
    ):
        found = tuple(time.shape) if isinstance(time, Tensor) else type(time).__name__
        raise DataError(
            f'graph: {INTERACTS}.time is {found} or has NaN or infinity, accepted is one finite '
            f'number per edge, ({num_edges},)'
        )
    return time.reshape(-1)


def timed_edges(
    data: HeteroData, masks: Sequence[str] = ('train',), repeats: bool = False
) -> Tensor:
    r"""Interactions of some masks as sequences: ``[2, S]``, sorted by user, then time, equal times
    by the order of edges.

    Args:
        data: Canonical graph with ``time``.
        masks: Which interactions: names of splits, or ``'history'``. A mask that the graph lacks
            has none.
        repeats: Whether a pair that occurs several times stays several times; otherwise it counts
            where it occurs first.

    Raises:
        ConfigError: If a mask is unknown.
        DataError: If the graph has no ``time``, or it is not one finite number per edge.
    """
    unknown = [name for name in masks if name not in MASKS]
    if unknown:
        raise ConfigError(f'masks: got {unknown[0]!r}, accepted are {", ".join(MASKS)}')
    edge_index, time = read_interactions(data), read_time(data)
    if time is None:
        raise DataError(
            f"graph: {INTERACTS} has no 'time', from which sequences are made; accepted is one "
            f'number per edge. Where the edges stand in the order in which they happened, that is '
            f"data['user', 'interacts', 'item'].time = torch.arange(number of edges)"
        )
    chosen = torch.zeros_like(edge_index[0], dtype=torch.bool)
    for name in masks:
        mask = read_mask(data, name)
        chosen |= False if mask is None else mask.to(chosen.device)
    edge_index, time = edge_index[:, chosen], time.to(edge_index.device)[chosen]
    order = time.argsort(stable=True)
    if not repeats:
        order = order[first_positions(pair_keys(edge_index[:, order], int(data[ITEM].num_nodes)))]
    order = order[edge_index[0, order].argsort(stable=True)]
    return edge_index[:, order]


def known_masks(data: HeteroData, split: str, with_validation: bool = True) -> list[str]:
    r"""Masks of the interactions that are known when ``split`` is asked for: training interactions,
    histories of users outside the training, and at test also validation interactions unless
    ``with_validation`` is false.
    """
    found = ['train', *([HISTORY] if has_split(data, HISTORY) else [])]
    return found + (
        ['val'] if split == 'test' and with_validation and has_split(data, 'val') else []
    )


def first_positions(key: Tensor) -> Tensor:
    r"""Positions, rising, of the first occurrence of every value of ``key`` ``[n]``."""
    value, number = key.unique(return_inverse=True)
    position = torch.arange(key.numel(), device=key.device)
    first = torch.full_like(value, key.numel()).scatter_reduce_(0, number, position, 'amin')
    return first.sort().values
