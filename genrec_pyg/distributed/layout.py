r"""Where the rows and columns of a model's tensors are.

Products with a graph are made on *channels*: a process has all rows of its block of nodes and some
columns, so that a linear propagation needs no exchange. What is computed per node (encoders, gates,
attention, normalization) and per row of a batch is made on *rows*: a process has all columns of its
share of the rows. :class:`GridLayout` moves tensors between the two; :data:`WHOLE`, the layout of
every module until a grid takes it, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from genrec_pyg.distributed.collectives import Group
from genrec_pyg.distributed.grid import Grid, even_parts, weighted_parts
from genrec_pyg.distributed.operations import (
    AllSum,
    Gather,
    Sum,
    ToColumns,
    ToRows,
    fetch,
    fetch_distinct,
)
from genrec_pyg.distributed.partitioned import PartitionedAdjacency, select_rows
from genrec_pyg.ops import Adjacency, unit_rows
from genrec_pyg.utils.collectives import Processes, shared_batch


class WholeNodes:
    r"""All nodes of a type in one process."""

    first_row = 0

    def size(self, num_nodes: int) -> int:
        r"""Nodes of the own block, of ``num_nodes`` in all."""
        return num_nodes

    def places(self, index: Tensor) -> Tensor:
        r"""Places of nodes of the own block there."""
        return index

    def to_channels(self, x: Tensor) -> Tensor:
        r"""Own columns ``[V, N, w]`` of own rows ``[V, n, d]``; the leading dimension may be
        missing.
        """
        return x

    def to_rows(self, x: Tensor, width: int) -> Tensor:
        r"""Own rows ``[V, n, width]`` of own columns ``[V, N, w]``; the leading dimension may be
        missing.
        """
        return x

    def side_by_side(self, views: Sequence[Tensor]) -> Sequence[Tensor]:
        r"""Own columns ``[N, w]`` of own rows ``[n, d]`` of several tables, in one exchange."""
        return views

    def own_rows(self, x: Tensor) -> Tensor:
        r"""Own rows of a matrix that every process has."""
        return x

    def own_block(self, x: Tensor) -> Tensor:
        r"""Rows of the own block of nodes ``[V, N, w]`` of rows of all."""
        return x


class WholeLayout:
    r"""One process with all rows and columns: every method is the identity or the plain formula."""

    def __init__(self) -> None:
        self.user = self.item = self.joint = WholeNodes()
        self.everyone = Group()

    def __reduce__(self) -> str:  # copies of a module keep the one object
        return 'WHOLE'

    def local(self, adj: Adjacency) -> Adjacency:
        r"""The part of a symmetric adjacency over users and items with which this process
        multiplies.
        """
        return adj

    def user_rows(self, block: Adjacency) -> Adjacency:
        r"""Rows of own users of a matrix ``[U, I]``."""
        return block

    def all_items(self, x: Tensor) -> Tensor:
        r"""Rows of all items ``[V, I, w]`` from those of the own block."""
        return x

    def part(self, num_rows: int) -> slice:
        r"""Own rows of a table that belongs to no nodes of the graph."""
        return slice(0, num_rows)

    def all_rows(self, x: Tensor, num_rows: int) -> Tensor:
        r"""All rows of such a table, of which ``x`` are those of :meth:`part`."""
        return x

    def views_to_rows(self, views: Sequence[Tensor], width: int) -> Sequence[Tensor]:
        r"""Own rows ``[V, n, width]`` of own columns of tables over users and items, ``[V, N, w]``
        each.
        """
        return views

    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        r"""Inner products of rows ``[..., w]`` over all columns."""
        return (x * y).sum(dim=-1)

    def unit_rows(self, x: Tensor) -> Tensor:
        r"""Own columns of rows ``[n, w]`` that are l2-normalized over all columns; a zero row stays
        zero.
        """
        return unit_rows(x)

    def cosine(self, x: Tensor, direction: Tensor) -> Tensor:
        r"""Cosines ``[n, 1]`` of rows ``[n, w]`` with the :meth:`unit_rows` ``direction``, over all
        columns.
        """
        return (unit_rows(x) * direction).sum(dim=1, keepdim=True)

    def pairs(self, users: Tensor, items: Tensor, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        r"""Rows of users, positives and negatives of the triples that this process counts."""
        return users[batch.user], items[batch.pos], items[batch.neg]

    def counted(self, batch: Any) -> Any:
        r"""Index of the triples of a batch that this process counts."""
        return slice(None)

    def columns(self, width: int) -> slice:
        r"""Own columns of ``width``."""
        return slice(0, width)

    def mean(self, x: Tensor, batch: Any, mask: Tensor | None = None) -> Tensor:
        r"""Share of this process in the mean over a batch of what it counts of it ``[k]``; with
        ``mask`` ``[B]`` over those of its triples alone.
        """
        return x.mean() if mask is None else (x * mask).sum() / mask.sum().clamp(min=1)

    def own_nodes(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        r"""Users, positives and negatives of a batch that are nodes of the own block, by their
        places there.
        """
        return batch.user, batch.pos, batch.neg

    @contextmanager
    def own_slice(self, batch: Any) -> Iterator[tuple[Any, float]]:
        r"""The rows of a batch that this process takes and their share in it; within the context
        losses know that there are others.
        """
        yield batch, 1.0

    def first_of(self, num_rows: int) -> int:
        r"""Place in a batch of ``num_rows`` of the first row of :meth:`own_slice`."""
        return 0

    def tables(
        self, views: Sequence[Tensor], num_users: int, batch: Any, further: Tensor
    ) -> tuple[list[tuple[Tensor, Tensor]], Any, Tensor]:
        r"""Rows that a batch reads.

        Args:
            views: Own rows of tables over users and items ``[n, d]``.
            num_users: Number of users ``U``.
            batch: Triples.
            further: Further items.

        Returns:
            For every view its rows of users and of items, and ``batch`` and ``further`` with the
            places of their nodes there.
        """
        return (
            [tuple(view.split([num_users, view.size(0) - num_users])) for view in views],
            batch,
            further,
        )


#: The layout of one process.
WHOLE = WholeLayout()


class GridNodes(WholeNodes):
    r"""Nodes of one type on a grid.

    Args:
        sizes: Nodes in every block.
        grid: The grid.
    """

    def __init__(self, sizes: Sequence[int], grid: Grid):
        self.grid, self.sizes = grid, list(sizes)
        self.begins = [sum(self.sizes[:block]) for block in range(len(self.sizes))]
        self.parts = even_parts(self.sizes[grid.node_block], grid.num_channel_blocks)
        self.rows = self.parts[grid.channel_block]
        self.begin = self.begins[grid.node_block]
        self.first_row = self.begin + self.rows.start

    @property
    def block(self) -> slice:
        r"""Nodes of the own block."""
        return slice(self.begin, self.begin + self.sizes[self.grid.node_block])

    def size(self, num_nodes: int) -> int:
        return self.sizes[self.grid.node_block]

    def places(self, index: Tensor) -> Tensor:
        return index - self.begin

    def to_channels(self, x: Tensor) -> Tensor:
        if self.grid.num_channel_blocks == 1:
            return x
        views = x if x.dim() == 3 else x.unsqueeze(0)
        out = ToColumns.apply(views, self.parts, self.grid.columns(x.size(-1)), self.grid.channels)
        return out if x.dim() == 3 else out[0]

    def to_rows(self, x: Tensor, width: int) -> Tensor:
        if self.grid.num_channel_blocks == 1:
            return x
        views = x if x.dim() == 3 else x.unsqueeze(0)
        out = ToRows.apply(views, self.parts, self.grid.columns(width), self.grid.channels)
        return out if x.dim() == 3 else out[0]

    def side_by_side(self, views: Sequence[Tensor]) -> Sequence[Tensor]:
        return (
            self.to_channels(torch.stack(list(views))).unbind(0)
            if self.grid.num_channel_blocks > 1
            else views
        )

    def own_rows(self, x: Tensor) -> Tensor:
        return x[self.first_row : self.first_row + self.rows.stop - self.rows.start]

    def own_block(self, x: Tensor) -> Tensor:
        return x if self.grid.num_node_blocks == 1 else x[..., self.block, :]

    def node_block(self, index: Tensor) -> tuple[Tensor, Tensor]:
        r"""Block of every node ``index`` ``[k]`` and its place there."""
        begins = torch.tensor(self.begins, device=index.device)
        block = torch.bucketize(index, begins[1:], right=True)
        return block, index - begins[block]

    def owner(self, block: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        r"""Process that has the row at ``place`` of ``block``, and the row's number there."""
        num_parts = self.grid.num_channel_blocks
        share, rest = (
            torch.tensor([function(size) for size in self.sizes], device=block.device)[block]
            for function in (lambda size: size // num_parts, lambda size: size % num_parts)
        )
        longer = rest * (share + 1)  # rows in the parts that have one more
        part = torch.where(
            place < longer, place // (share + 1), rest + (place - longer) // share.clamp(min=1)
        )
        return block * num_parts + part, place - part * share - torch.minimum(part, rest)


class GridLayout(WholeLayout):
    r"""The layout of a model on a grid: users in contiguous blocks of about equal numbers of
    interactions, items in contiguous blocks of equal length.

    Args:
        grid: The grid.
        user_degree: Interactions of every user ``[U]``.
        num_items: Number of items ``I``.
    """

    def __init__(self, grid: Grid, user_degree: Tensor, num_items: int):
        self.grid = grid
        self.everyone = grid.everyone
        blocks = grid.num_node_blocks
        # one more, so that users without any count too
        users = weighted_parts(user_degree.cpu() + 1, blocks)
        user_sizes = [part.stop - part.start for part in users]
        item_sizes = [part.stop - part.start for part in even_parts(num_items, blocks)]
        self.user, self.item = GridNodes(user_sizes, grid), GridNodes(item_sizes, grid)
        self.joint = GridNodes([a + b for a, b in zip(user_sizes, item_sizes)], grid)
        self._processes = Processes(grid.everyone.rank, grid.everyone.size)
        self._local: WeakKeyDictionary[Adjacency, Adjacency] = WeakKeyDictionary()

    def __reduce__(self) -> str:
        raise TypeError('a model cannot be copied while its work is divided among processes')

    def local(self, adj: Adjacency) -> Adjacency:
        if self.grid.num_node_blocks == 1:
            return adj
        if adj not in self._local:
            self._local[adj] = PartitionedAdjacency(
                adj, self.user.sizes, self.item.sizes, self.grid.nodes
            )
        return self._local[adj]

    def user_rows(self, block: Adjacency) -> Adjacency:
        if self.grid.num_node_blocks == 1:
            return block
        if block not in self._local:
            self._local[block] = select_rows(block, self.user.block)
        return self._local[block]

    def all_items(self, x: Tensor) -> Tensor:
        if self.grid.num_node_blocks == 1:
            return x
        if x.dim() == 2:
            return Gather.apply(x, self.item.sizes, self.grid.nodes)
        return Gather.apply(x.transpose(0, 1), self.item.sizes, self.grid.nodes).transpose(0, 1)

    def part(self, num_rows: int) -> slice:
        return even_parts(num_rows, self.everyone.size)[self.everyone.rank]

    def all_rows(self, x: Tensor, num_rows: int) -> Tensor:
        sizes = [part.stop - part.start for part in even_parts(num_rows, self.everyone.size)]
        return Gather.apply(x, sizes, self.everyone)

    def views_to_rows(self, views: Sequence[Tensor], width: int) -> Sequence[Tensor]:
        if self.grid.num_channel_blocks == 1:
            return views
        return self.joint.to_rows(torch.cat(list(views)), width).split(
            [view.size(0) for view in views]
        )

    def inner(self, x: Tensor, y: Tensor) -> Tensor:
        return Sum.apply((x * y).sum(dim=-1), self.grid.channels)

    def unit_rows(self, x: Tensor) -> Tensor:
        if self.grid.num_channel_blocks == 1:
            return super().unit_rows(x)
        square = AllSum.apply(x.square().sum(dim=1, keepdim=True), self.grid.channels)
        return x * torch.where(square > 0, torch.where(square > 0, square, 1).rsqrt(), 0)

    def cosine(self, x: Tensor, direction: Tensor) -> Tensor:
        if self.grid.num_channel_blocks == 1:
            return super().cosine(x, direction)
        product, square = AllSum.apply(
            torch.stack([(x * direction).sum(dim=1), x.square().sum(dim=1)]), self.grid.channels
        ).unsqueeze(2)
        return product * torch.where(square > 0, torch.where(square > 0, square, 1).rsqrt(), 0)

    def pairs(self, users: Tensor, items: Tensor, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        if self.grid.num_node_blocks == 1:
            return super().pairs(users, items, batch)
        own = self.counted(batch)
        user, both = batch.user[own] - self.user.begin, torch.cat([batch.pos[own], batch.neg[own]])
        rows = fetch(items, *self.item.node_block(both), self.grid.nodes)
        return users[user], *rows.chunk(2)

    def counted(self, batch: Any) -> Any:
        if self.grid.num_node_blocks == 1:
            return slice(None)
        return (
            ((batch.user >= self.user.block.start) & (batch.user < self.user.block.stop))
            .nonzero()
            .view(-1)
        )

    def columns(self, width: int) -> slice:
        return self.grid.columns(width)[self.grid.channel_block]

    def mean(self, x: Tensor, batch: Any, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            return x.sum() / (batch.user.numel() * self.grid.num_channel_blocks)
        return (x * mask[self.counted(batch)]).sum() / (
            mask.sum().clamp(min=1) * self.grid.num_channel_blocks
        )

    def own_nodes(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        def own(index: Tensor, nodes: GridNodes) -> Tensor:
            return index[(index >= nodes.block.start) & (index < nodes.block.stop)] - nodes.begin

        if self.grid.num_node_blocks == 1:
            return super().own_nodes(batch)
        return own(batch.user, self.user), own(batch.pos, self.item), own(batch.neg, self.item)

    @contextmanager
    def own_slice(self, batch: Any) -> Iterator[tuple[Any, float]]:
        num_rows = batch.user.numel()
        if num_rows < self.everyone.size:  # every process takes them all
            yield batch, 1 / self.everyone.size
            return
        part = self._processes.slice(num_rows)
        with shared_batch(self._processes, num_rows):
            yield (
                type(batch)(*(column[part] for column in batch)),
                (part.stop - part.start) / num_rows,
            )

    def first_of(self, num_rows: int) -> int:
        return 0 if num_rows < self.everyone.size else self._processes.slice(num_rows).start

    def tables(
        self, views: Sequence[Tensor], num_users: int, batch: Any, further: Tensor
    ) -> tuple[list[tuple[Tensor, Tensor]], Any, Tensor]:
        user_block, user_place = self.user.node_block(batch.user)
        items = torch.cat([batch.pos, batch.neg, further])
        item_block, item_place = self.item.node_block(items)
        item_place = item_place + torch.tensor(self.user.sizes, device=items.device)[item_block]
        owner, position = self.joint.owner(
            torch.cat([user_block, item_block]), torch.cat([user_place, item_place])
        )
        rows, place = fetch_distinct(torch.cat(list(views), dim=1), owner, position, self.everyone)
        user, pos, neg, further = place.split(
            [batch.user.numel(), batch.pos.numel(), batch.neg.numel(), further.numel()]
        )
        tables = [(table, table) for table in rows.split([view.size(1) for view in views], dim=1)]
        return tables, type(batch)(user, pos, neg), further


def set_layout(model: torch.nn.Module, layout: WholeLayout | None = None) -> None:
    r"""Gives every module of ``model`` that asks for one the layout, or takes it away."""
    for module in model.modules():
        if isinstance(getattr(type(module), 'layout', None), WholeLayout):
            if layout is None:
                vars(module).pop('layout', None)
            else:
                vars(module)['layout'] = layout
