r"""Exchanges with gradients: each is the adjoint of the other's backward pass.

The loss is the **sum** of what the processes compute, so the gradient of a tensor is the sum of the
gradients in all processes that have a copy of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from genrec_pyg.distributed.collectives import Group


def rows_to_columns(
    x: Tensor, rows: Sequence[slice], columns: Sequence[slice], group: Group
) -> Tensor:
    r"""All rows and own columns from own rows and all columns.

    Args:
        x: Own rows ``[V, n, d]`` of ``V`` tables.
        rows: Rows of every process of ``group``.
        columns: Columns of every process.
        group: The processes.

    Returns:
        ``[V, N, w]``, in memory ``[N, V, w]``: the tables side by side, as products over several of
        them want it.
    """
    num_views, num_rows, _ = x.shape
    own = columns[group.rank].stop - columns[group.rank].start
    send = [num_rows * num_views * (part.stop - part.start) for part in columns]
    packed = x.new_empty(sum(send))
    for part, place in zip(columns, packed.split(send)):
        place.view(num_rows, num_views, part.stop - part.start).copy_(x[:, :, part].transpose(0, 1))
    received = group.exchange(
        packed, send, [(part.stop - part.start) * num_views * own for part in rows]
    )
    return received.view(rows[-1].stop, num_views, own).transpose(0, 1)


def columns_to_rows(
    x: Tensor, rows: Sequence[slice], columns: Sequence[slice], group: Group
) -> Tensor:
    r"""Own rows ``[V, n, d]`` and all columns from all rows and own columns ``[V, N, w]``;
    arguments as in :func:`rows_to_columns`, of which it is the inverse and the adjoint.
    """
    num_views, _, own = x.shape
    mine = rows[group.rank].stop - rows[group.rank].start
    receive = [mine * num_views * (part.stop - part.start) for part in columns]
    packed = x.transpose(0, 1).reshape(-1)
    received = group.exchange(
        packed, [(part.stop - part.start) * num_views * own for part in rows], receive
    )
    out = x.new_empty(num_views, mine, columns[-1].stop)
    for part, piece in zip(columns, received.split(receive)):
        out[:, :, part] = piece.view(mine, num_views, part.stop - part.start).transpose(0, 1)
    return out


class ToColumns(torch.autograd.Function):
    r""":func:`rows_to_columns`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *arguments: Any) -> Tensor:
        ctx.arguments = arguments
        return rows_to_columns(x, *arguments)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return columns_to_rows(grad, *ctx.arguments), None, None, None


class ToRows(torch.autograd.Function):
    r""":func:`columns_to_rows`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *arguments: Any) -> Tensor:
        ctx.arguments = arguments
        return columns_to_rows(x, *arguments)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return rows_to_columns(grad, *ctx.arguments), None, None, None


class Gather(torch.autograd.Function):
    r"""Rows of all processes, :meth:`~genrec_pyg.distributed.collectives.Group.gather`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: Sequence[int], group: Group) -> Tensor:
        ctx.sizes, ctx.group = sizes, group
        return group.gather(x, sizes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.group.scatter_sum(grad, ctx.sizes), None, None


class ScatterSum(torch.autograd.Function):
    r"""Own rows of a sum over the processes,
    :meth:`~genrec_pyg.distributed.collectives.Group.scatter_sum`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: Sequence[int], group: Group) -> Tensor:
        ctx.sizes, ctx.group = sizes, group
        return group.scatter_sum(x, sizes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.group.gather(grad, ctx.sizes), None, None


class Sum(torch.autograd.Function):
    r"""Sum over the processes, which all of them go on with in the same way.

    Its gradient is the sum of theirs, and since they are equal, one of them times the number of
    processes: nothing is sent.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.size = group.size
        return group.sum(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad * ctx.size, None


class AllSum(torch.autograd.Function):
    r"""Sum over the processes, with which each goes on in its own way: its gradient is the sum of
    theirs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return group.sum(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.group.sum(grad), None


class Fetch(torch.autograd.Function):
    r"""Rows ``wanted`` of the own table for others, and theirs for this process.

    Args:
        x: Own rows ``[n, d]``.
        wanted: Rows that the processes of ``group`` ask for, in the order of the ranks.
        send: Rows for every process.
        receive: Rows from every process.
        group: The processes.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, wanted: Tensor, send: list[int], receive: list[int], group: Group
    ) -> Tensor:
        ctx.save_for_backward(wanted)
        ctx.send, ctx.receive, ctx.group, ctx.num_rows = send, receive, group, x.size(0)
        width = x.size(1)
        rows = group.exchange(
            x.index_select(0, wanted).view(-1),
            [width * n for n in send],
            [width * n for n in receive],
        )
        return rows.view(-1, width)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        wanted, width = ctx.saved_tensors[0], grad.size(1)
        rows = ctx.group.exchange(
            grad.reshape(-1), [width * n for n in ctx.receive], [width * n for n in ctx.send]
        )
        return (
            grad.new_zeros(ctx.num_rows, width).index_add_(0, wanted, rows.view(-1, width)),
            None,
            None,
            None,
            None,
        )


def fetch(x: Tensor, owner: Tensor, position: Tensor, group: Group) -> Tensor:
    r"""Rows that others own, each asked for and sent once however often it occurs.

    Args:
        x: Own rows ``[n, d]``.
        owner: Process of ``group`` that has each wanted row ``[k]``.
        position: Its place in the table of that process ``[k]``.
        group: The processes; each asks for rows of its own.

    Returns:
        Rows ``[k, d]``.
    """
    rows, inverse = fetch_distinct(x, owner, position, group)
    return rows.index_select(0, inverse)


def fetch_distinct(
    x: Tensor, owner: Tensor, position: Tensor, group: Group
) -> tuple[Tensor, Tensor]:
    r"""As :func:`fetch`: the distinct rows ``[m, d]``, and for each wanted one its place among them
    ``[k]``.
    """
    # sorted, so by owner
    distinct, inverse = ((owner << 40) | position).unique(return_inverse=True)
    if group.size == 1:
        return x.index_select(0, distinct), inverse
    receive = torch.bincount(distinct >> 40, minlength=group.size)
    send = group.exchange(receive, [1] * group.size, [1] * group.size)
    send, receive = send.tolist(), receive.tolist()
    wanted = group.exchange(distinct & (2**40 - 1), receive, send)
    return Fetch.apply(x, wanted, send, receive, group), inverse
