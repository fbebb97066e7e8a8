r"""Exchanges among the processes of a group, counted in bytes.

Everything is made of ``all_to_all_single``: on gloo a sum by it costs a fraction of ``all_reduce``
for few numbers and of ``reduce_scatter_tensor`` for many, and summing in the order of the ranks
gives the same bits in every process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor

#: Numbers from which on a sum is made in two exchanges.
_MANY = 16_384


def in_two_steps(num_entries: int, size: int) -> bool:
    r"""Whether ``size`` processes sum ``num_entries`` by parts, see :meth:`Group.sum`."""
    return size > 2 and num_entries >= _MANY


class Traffic:
    r"""What this process has sent to others since the last :meth:`reset`.

    Attributes:
        num_bytes: Bytes sent.
        num_messages: Exchanges with at least one other process.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        r"""Starts to count again."""
        self.num_bytes = self.num_messages = 0

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(num_bytes={self.num_bytes}, num_messages={self.num_messages})'
        )


#: The count of this process.
traffic = Traffic()


class Group:
    r"""Processes that exchange tensors; with one, every operation is the identity.

    Args:
        rank: Number of this process in the group, from 0.
        size: Number of processes.
        handle: Group of :mod:`torch.distributed`; :obj:`None` is that of all processes.
    """

    def __init__(self, rank: int = 0, size: int = 1, handle: Any | None = None):
        self.rank, self.size, self.handle = rank, size, handle

    def exchange(self, x: Tensor, send: Sequence[int], receive: Sequence[int]) -> Tensor:
        r"""Gives every process a piece of ``x`` and returns the pieces from all, in the order of
        the ranks.

        Args:
            x: Entries ``[sum(send)]``, contiguous.
            send: Entries for every process.
            receive: Entries from every process.

        Returns:
            Entries ``[sum(receive)]``.
        """
        if self.size == 1:
            return x
        out = x.new_empty(sum(receive))
        traffic.num_bytes += (sum(send) - send[self.rank]) * x.element_size()
        traffic.num_messages += 1
        dist.all_to_all_single(out, x, list(receive), list(send), group=self.handle)
        return out

    def sum(self, x: Tensor) -> Tensor:
        r"""Sum of ``x`` over the processes, the same bits in all of them; without gradient.

        Few numbers go to every process at once, :math:`P - 1` copies; of many, every process sums a
        part, and the parts are gathered, :math:`2 (P - 1) / P` copies.
        """
        if self.size == 1:
            return x
        if in_two_steps(x.numel(), self.size):
            share, rest = divmod(x.numel(), self.size)
            lengths = [share + (rank < rest) for rank in range(self.size)]
            return self.gather(self.scatter_sum(x.detach().reshape(-1), lengths), lengths).view(
                x.shape
            )
        pieces = self.exchange(
            x.detach().reshape(-1).repeat(self.size),
            [x.numel()] * self.size,
            [x.numel()] * self.size,
        )
        return pieces.view(self.size, -1).sum(dim=0).view(x.shape)

    def gather(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        r"""Rows of all processes one below the other; ``sizes`` are their numbers of rows."""
        if self.size == 1:
            return x
        width = x[:1].numel() if x.size(0) else x.new_empty(1, *x.shape[1:]).numel()
        flat = x.reshape(-1).repeat(self.size)
        out = self.exchange(flat, [x.numel()] * self.size, [size * width for size in sizes])
        return out.view(sum(sizes), *x.shape[1:])

    def scatter_sum(self, x: Tensor, sizes: Sequence[int]) -> Tensor:
        r"""Own rows of the sum of ``x`` over the processes, the adjoint of :meth:`gather`."""
        if self.size == 1:
            return x
        width = x.new_empty(1, *x.shape[1:]).numel()
        own = sizes[self.rank]
        pieces = self.exchange(
            x.reshape(-1), [size * width for size in sizes], [own * width] * self.size
        )
        return pieces.view(self.size, own, *x.shape[1:]).sum(dim=0)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(rank={self.rank}, size={self.size})'
