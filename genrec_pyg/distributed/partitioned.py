r"""Products with a bipartite graph whose users are divided among processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genrec_pyg.distributed.collectives import Group
from genrec_pyg.distributed.operations import Gather, ScatterSum
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import Adjacency, spmm
from genrec_pyg.ops.adjacency import DividedAdjacency


class PartitionedAdjacency(DividedAdjacency):
    r"""Rows of the own users of a symmetric adjacency over users and items.

    .. math::
        \mathbf{y}_U = \mathbf{R}_r \, \mathcal{G}(\mathbf{x}_I) + \mathbf{D}_U \mathbf{x}_U, \qquad
        \mathbf{y}_I = \mathcal{G}^{\top}(\mathbf{R}_r^{\top} \mathbf{x}_U)
        + \mathbf{D}_I \mathbf{x}_I

    with :math:`\mathbf{R}_r` the entries between own users and all items, :math:`\mathcal{G}` the
    gathering of the items' rows of all processes, whose adjoint sums and distributes them, and
    :math:`\mathbf{D}` the diagonal. Users stay where they are.

    Args:
        adj: The whole matrix, symmetric, users first.
        user_sizes: Users of every process of ``group``.
        item_sizes: Items of every process.
        group: The processes.

    Raises:
        ConfigError: If the matrix is not known to be symmetric.
    """

    def __init__(
        self, adj: Adjacency, user_sizes: Sequence[int], item_sizes: Sequence[int], group: Group
    ):
        if not adj.symmetric:
            raise ConfigError(
                f'--grid: got blocks of nodes for a graph that is not symmetric, accepted are '
                f'blocks of channels alone, 1x{group.size}'
            )
        num_users, rank = sum(user_sizes), group.rank
        first_user, first_item = sum(user_sizes[:rank]), sum(item_sizes[:rank])
        rows = select_rows(adj, slice(first_user, first_user + user_sizes[rank]))
        row, col = rows.row(), rows.col.long()
        to_items = col >= num_users
        value = None if rows.value is None else rows.value[to_items]
        count = torch.bincount(row[to_items], minlength=user_sizes[rank])
        self.block = Adjacency(
            torch.cat([count.new_zeros(1), count.cumsum(0)]),
            col[to_items] - num_users,
            value,
            (user_sizes[rank], sum(item_sizes)),
        )
        diagonal = _diagonal(adj)
        own_items = slice(num_users + first_item, num_users + first_item + item_sizes[rank])
        self.diagonal: Tensor | None = None
        if diagonal is not None:
            self.diagonal = torch.cat(
                [diagonal[first_user : first_user + user_sizes[rank]], diagonal[own_items]]
            ).unsqueeze(1)
        self.group, self.item_sizes = group, list(item_sizes)
        num_rows = user_sizes[rank] + item_sizes[rank]
        self.size = (num_rows, num_rows)

    def spmm(self, x: Tensor, backend: str = 'auto') -> Tensor:
        r"""Rows of own users and items of the product, ``[n, w]``, from theirs of ``x``."""
        users, items = x.split([self.block.size[0], x.size(0) - self.block.size[0]])
        out = torch.cat(
            [
                spmm(self.block, Gather.apply(items, self.item_sizes, self.group), backend),
                ScatterSum.apply(spmm(self.block.t(), users, backend), self.item_sizes, self.group),
            ]
        )
        return out if self.diagonal is None else out + self.diagonal.to(x.dtype) * x

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, nnz={self.block.nnz}, group={self.group})'


def select_rows(adj: Adjacency, rows: slice) -> Adjacency:
    r"""Contiguous rows of ``adj`` with their values."""
    begin, end = int(adj.rowptr[rows.start]), int(adj.rowptr[rows.stop])
    value = None if adj.value is None else adj.value[begin:end]
    return Adjacency(
        adj.rowptr[rows.start : rows.stop + 1] - begin,
        adj.col[begin:end],
        value,
        (rows.stop - rows.start, adj.size[1]),
    )


def _diagonal(adj: Adjacency) -> Tensor | None:
    row = adj.row()
    on_it = row == adj.col
    if not bool(on_it.any()):
        return None
    value = (
        torch.ones_like(row, dtype=torch.get_default_dtype()) if adj.value is None else adj.value
    )
    return value.new_zeros(adj.size[0]).index_add(0, row[on_it], value[on_it])
