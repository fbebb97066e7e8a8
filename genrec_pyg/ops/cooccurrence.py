r"""Item-item co-occurrence in blocks."""
from __future__ import annotations

import torch
from torch import Tensor

from genrec_pyg.ops.adjacency import Adjacency


def cooccurrence(interactions: Adjacency, item: Tensor) -> Tensor:
    r"""Rows ``item`` of :math:`\mathbf{R}^{\top} \mathbf{R}`: common users of each of ``item`` ``[b]`` and every item.

    Args:
        interactions: Matrix :math:`\mathbf{R}` ``[U, I]`` without values.
        item: Items ``[b]`` of this block.

    Returns:
        Counts ``[b, I]``, in torch's default precision.
    """
    num_items = interactions.size[1]
    rowptr, user = interactions.t().select_rows(item)
    row = torch.repeat_interleave(rowptr.diff())
    pointer, other = interactions.select_rows(user)
    key = row[torch.repeat_interleave(pointer.diff())] * num_items + other
    return torch.bincount(key, minlength=item.numel() * num_items).view(item.numel(), num_items).to(torch.get_default_dtype())
