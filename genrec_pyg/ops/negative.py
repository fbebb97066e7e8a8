r"""Exact uniform negative sampling."""
from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor


def sample_negatives(user: Tensor, rowptr: Tensor, col: Tensor, num_items: int,
                     generator: Optional[torch.Generator] = None) -> tuple[Tensor, Tensor]:
    r"""One uniform item per entry of ``user`` that is not among the user's training items; no rejection, no loop over users.

    A uniform rank :math:`r` among the :math:`I - d_u` other items is mapped to its item by bisection: with the user's items
    sorted, :math:`c_j - j` counts the other items below the ``j``-th, so the answer is :math:`r` plus the number of ``j``
    with :math:`c_j - j \le r`.

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
    begin = rowptr[user]
    free = num_items - (rowptr[user + 1] - begin)
    valid = free > 0
    draw = torch.rand(user.numel(), dtype=torch.float64, device=user.device, generator=generator)
    rank = torch.minimum((draw * free).long(), (free - 1).clamp(min=0))
    low, high = begin.clone(), rowptr[user + 1]
    offset = begin
    last = max(col.numel() - 1, 0)
    longest = int(rowptr.diff().max()) if rowptr.numel() > 1 else 0
    for _ in range(longest.bit_length()):
        middle = (low + high) // 2
        below = (low < high) & (col[middle.clamp(max=last)].long() - (middle - offset) <= rank)
        low, high = torch.where(below, middle + 1, low), torch.where(below | (low >= high), high, middle)
    item = rank + (low - offset)
    return torch.where(valid, item, torch.zeros_like(item)), valid
