r"""Exact uniform negative sampling."""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_pyg.ops.adjacency import Adjacency

#: Odd multiplier of Fibonacci hashing, 2^64 over the golden ratio, as a signed number (Knuth, TAOCP
#: vol. 3, section 6.4).
_MULTIPLIER = 0x9E3779B97F4A7C15 - 2**64
#: Slots of the filter per training edge, so that it sends at most one draw in 16 to the search in
#: vain, and its largest size.
_SLOTS_PER_EDGE, _MOST_SLOTS = 16, 2**26


class NegativeSampler:
    r"""Draws uniform items that users have no training edge with: exact, without a loop over users
    or repeated rejection.

    A uniform item that the user does not hold is kept; any other is replaced by a uniform one of
    those that the user does not hold. Both give every such item the same probability,
    :math:`1 / (I - n)` for a user of :math:`n` items:
    :math:`\frac{1}{I} + \frac{n}{I} \cdot \frac{1}{I - n}`. Whether an item is held is first asked
    of a filter of one hash (Bloom, CACM 1970), which is small enough for the processor's cache and
    lets few draws through to a binary search.

    Args:
        interactions: Training interactions ``U x I``.

    Examples:
        >>> import torch
        >>> from genrec_pyg.ops import Adjacency, NegativeSampler
        >>> known = Adjacency.from_edge_index(torch.tensor([[0, 0, 1], [0, 1, 2]]), size=(2, 3))
        >>> NegativeSampler(known)(torch.tensor([0, 0]))[0]  # user 0 lacks item 2 only
        tensor([2, 2])
    """

    def __init__(self, interactions: Adjacency):
        self.interactions = interactions
        self.num_items = interactions.size[1]
        self._rowptr, col = interactions.rowptr.long(), interactions.col.long()
        user = torch.repeat_interleave(self._rowptr.diff(), output_size=col.numel())
        self._held = user * self.num_items + col
        self._order = absent_order(self._rowptr, col, self.num_items)
        slots = min(_SLOTS_PER_EDGE * max(col.numel(), 1), _MOST_SLOTS)
        self._bits = (slots - 1).bit_length()
        self._filter = torch.zeros(2**self._bits, dtype=torch.bool, device=col.device)
        self._filter[self._slot(self._held)] = True

    def __call__(
        self, user: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""One item per entry of ``user``.

        Args:
            user: Users ``[n]``.
            generator: Random generator; the device's global one by default.

        Returns:
            Items ``[n]``, int64, and a boolean mask ``[n]``, false where the user has interacted
            with every item (the item is then 0).
        """
        item = torch.randint(self.num_items, user.shape, device=user.device, generator=generator)
        valid = torch.ones_like(user, dtype=torch.bool)
        key = torch.add(item, user, alpha=self.num_items)
        place = self._filter.index_select(0, self._slot(key)).nonzero().view(-1)
        suspect = key[place]
        found = torch.searchsorted(self._held, suspect).clamp(max=max(self._held.numel() - 1, 0))
        place = place[self._held[found] == suspect]
        holder = user[place]
        free = self.num_items - (self._rowptr[holder + 1] - self._rowptr[holder])
        replaced = absent_item(
            holder, uniform_rank(free, generator), self._rowptr, self._order, self.num_items
        )
        item[place] = replaced.where(free > 0, torch.zeros_like(replaced))
        valid[place] = free > 0
        return item, valid

    def _slot(self, key: Tensor) -> Tensor:
        # The product wraps around; its highest bits are the best mixed.
        return (
            (key * _MULTIPLIER)
            .bitwise_right_shift_(64 - self._bits)
            .bitwise_and_(2**self._bits - 1)
        )

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.interactions})'


def uniform_rank(count: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""One uniform integer in ``[0, count)`` per entry of ``count`` (int64); 0 where the count is
    0.
    """
    draw = torch.rand(count.shape, dtype=torch.float64, device=count.device, generator=generator)
    return torch.minimum((draw * count).long(), (count - 1).clamp(min=0))


def absent_order(rowptr: Tensor, col: Tensor, num_cols: int) -> Tensor:
    r"""For every item of every row the number of items below it that the row does not hold,
    ascending over all rows.

    With the :math:`j`-th item of a row :math:`c_j`, ascending, that number is :math:`c_j - j`; row
    :math:`r` adds :math:`r (I + 1)`, so that rows side by side are one ascending sequence
    ``[nnz]``.

    Args:
        rowptr: Row offsets, int64.
        col: Items, int64, ascending within a row.
        num_cols: Number of items ``I``.
    """
    holder = torch.repeat_interleave(rowptr.diff(), output_size=col.numel())
    return (
        holder * (num_cols + 1)
        + col
        - torch.arange(col.numel(), device=col.device)
        + rowptr[holder]
    )


def absent_item(row: Tensor, rank: Tensor, rowptr: Tensor, order: Tensor, num_cols: int) -> Tensor:
    r"""The item of rank :math:`r` (from 0) among those that a row does not hold: :math:`r` plus the
    number of :math:`j` with :math:`c_j - j \le r`, which a single binary search finds for all
    queries.

    Args:
        row: Rows ``[n]``.
        rank: Ranks ``[n]``.
        rowptr: Row offsets, int64.
        order: :func:`absent_order` of the rows.
        num_cols: Number of items.
    """
    place = torch.searchsorted(order, row * (num_cols + 1) + rank, right=True)
    return rank + place - rowptr[row]
