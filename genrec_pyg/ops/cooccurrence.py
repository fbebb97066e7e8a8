r"""Co-occurrence by sparse products in blocks: common users of items, common items of users."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops.adjacency import Adjacency

#: Products of entries that a block of :func:`cooccurrence_graph` takes at a time: more rows than
#: one never exceed it.
_BLOCK_PAIRS = 1 << 21


def cooccurrence(
    interactions: Adjacency, item: Tensor, user_weight: Tensor | None = None
) -> Tensor:
    r"""Rows ``item`` of :math:`\mathbf{R}^{\top} \mathbf{W} \mathbf{R}`: common users of each of
    ``item`` ``[b]`` and every item, counted or weighted by a diagonal :math:`\mathbf{W}`.

    Args:
        interactions: Matrix :math:`\mathbf{R}` ``[U, I]`` without values.
        item: Items ``[b]`` of this block.
        user_weight: Weight of every user ``[U]``; ones by default.

    Returns:
        Counts or sums of weights ``[b, I]``, in torch's default precision; sums are taken in
        float64.
    """
    num_items = interactions.size[1]
    rowptr, user = interactions.t().select_rows(item)
    row = torch.repeat_interleave(rowptr.diff())
    pointer, other = interactions.select_rows(user)
    common = torch.repeat_interleave(pointer.diff())
    key = row[common] * num_items + other
    weight = None if user_weight is None else user_weight.double()[user][common]
    counts = torch.bincount(key, weight, minlength=item.numel() * num_items)
    return counts.view(item.numel(), num_items).to(torch.get_default_dtype())


def cooccurrence_graph(interactions: Adjacency, k: int, min_count: int = 1) -> Adjacency:
    r"""For every row of :math:`\mathbf{R}` the ``k`` other rows with which it shares most columns.

    The graph of users by common items is that of :math:`\mathbf{R}`, the graph of items by common
    users that of its transpose. Rows of :math:`\mathbf{R} \mathbf{R}^{\top}` are made in blocks as
    a sparse product (:mod:`scipy.sparse`) of cost :math:`\sum_j d_j^2` over columns; nothing of
    size ``n x n`` is held.

    Args:
        interactions: Matrix :math:`\mathbf{R}` ``[n, m]``; its values are not read.
        k: Neighbors per row at most; equal counts rank by lower id.
        min_count: Fewest common columns of neighbors.

    Returns:
        Counts ``[n, n]``, of the default type, without diagonal. Rows that share too little with
        all others are empty.

    Raises:
        ConfigError: If ``k`` or ``min_count`` is less than 1.
    """
    for name, number in (('k', k), ('min_count', min_count)):
        if number < 1:
            raise ConfigError(f'{name}: got {number}, accepted are integers from 1')
    matrix = _ones(interactions)
    transposed = _ones(interactions.t())
    rows, columns, counts = [], [], []
    for begin, end in _row_blocks(matrix @ np.diff(transposed.indptr).astype(np.int64)):
        block = (matrix[begin:end] @ transposed).tocoo()
        row, column, count = block.row + begin, block.col, block.data
        keep = (row != column) & (count >= min_count)
        row, column, count = row[keep], column[keep], count[keep]
        order = np.lexsort((column, -count, row))
        row = row[order]
        rank = np.arange(row.size) - np.searchsorted(row, row)
        best = rank < k
        rows.append(row[best])
        columns.append(column[order][best])
        counts.append(count[order][best])
    edge_index = torch.from_numpy(
        np.stack([np.concatenate(rows), np.concatenate(columns)]).astype(np.int64)
    )
    count = torch.from_numpy(np.concatenate(counts)).to(torch.get_default_dtype())
    size = (interactions.size[0], interactions.size[0])
    return Adjacency.from_edge_index(edge_index, count, size).to(interactions.device)


def _ones(matrix: Adjacency) -> sp.csr_matrix:
    rowptr, col = matrix.rowptr.cpu().numpy(), matrix.col.cpu().numpy()
    return sp.csr_matrix((np.ones(col.size, dtype=np.int32), col, rowptr), shape=matrix.size)


def _row_blocks(pairs: np.ndarray) -> Iterator[tuple[int, int]]:
    r"""First and last plus one of consecutive rows with at most :data:`_BLOCK_PAIRS` ``pairs``
    ``[n]`` together.
    """
    total, begin = np.concatenate([[0], np.cumsum(pairs)]), 0
    while begin < pairs.size or begin == 0:
        end = int(np.searchsorted(total, total[begin] + _BLOCK_PAIRS, side='right')) - 1
        end = min(max(end, begin + 1), pairs.size)
        yield begin, end
        if end >= pairs.size:
            return
        begin = end
