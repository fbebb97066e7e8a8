r"""Exact uniform negative sampling."""
from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor


def sample_negatives(user: Tensor, rowptr: Tensor, col: Tensor, num_items: int,
                     generator: Optional[torch.Generator] = None) -> tuple[Tensor, Tensor]:
    r"""One uniform item per entry of ``user`` that is not among the user's training items; no rejection, no loop over users.

    Args:
        user: Users ``[n]``.
        rowptr: Row offsets ``[U + 1]`` of training items.
        col: Training items, ascending within a user.
        num_items: Number of items ``I``.
        generator: Random generator; the device's global one by default.

    Returns:
        Items ``[n]`` and a boolean mask ``[n]``, false where the user has interacted with every item (the item is then 0).
    """
    rowptr = rowptr.long()
    free = num_items - (rowptr[user + 1] - rowptr[user])
    valid = free > 0
    item = absent_item(user, uniform_rank(free, generator), rowptr, col, num_items)
    return torch.where(valid, item, torch.zeros_like(item)), valid


def uniform_rank(count: Tensor, generator: Optional[torch.Generator] = None) -> Tensor:
    r"""One uniform integer in ``[0, count)`` per entry of ``count`` (int64); 0 where the count is 0."""
    draw = torch.rand(count.shape, dtype=torch.float64, device=count.device, generator=generator)
    return torch.minimum((draw * count).long(), (count - 1).clamp(min=0))


def absent_item(row: Tensor, rank: Tensor, rowptr: Tensor, col: Tensor, num_cols: int) -> Tensor:
    r"""The item of rank :math:`r` (from 0) among those that a row does not hold.

    With the :math:`j`-th item of the row :math:`c_j`, ascending, :math:`c_j - j` absent items lie below it, so the answer is
    :math:`r` plus the number of :math:`j` with :math:`c_j - j \le r`. Rows side by side these differences are one ascending
    sequence, in which a single binary search answers all queries.

    Args:
        row: Rows ``[n]``.
        rank: Ranks ``[n]``.
        rowptr: Row offsets, int64.
        col: Items, ascending within a row.
        num_cols: Number of items.
    """
    holder = torch.repeat_interleave(rowptr.diff(), output_size=col.numel())
    below = col - (torch.arange(col.numel(), device=col.device) - rowptr[holder])
    stride = num_cols + 1
    place = torch.searchsorted(holder * stride + below, row * stride + rank, right=True)
    return rank + place - rowptr[row]
