r"""Deterministic top-k with excluded entries, in blocks."""
from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor


def topk_excluding(scores: Tensor, k: int, rowptr: Optional[Tensor] = None,
                   col: Optional[Tensor] = None) -> tuple[Tensor, Tensor]:
    r"""The ``k`` largest entries of every row that are not excluded; equal scores rank by lower index.

    Args:
        scores: Scores ``[B, I]``, left unchanged.
        k: Entries per row; may exceed ``I``.
        rowptr: Row offsets ``[B + 1]`` of the excluded entries.
        col: Excluded columns.

    Returns:
        Scores and indices ``[B, k]``, descending. A row with fewer than ``k`` candidates is padded with score
        :math:`-\infty` and index ``I``, which is no item: padding can never count as a hit.
    """
    num_rows, num_items = scores.shape
    if rowptr is not None and col.numel() > 0:
        row = torch.repeat_interleave(rowptr.diff().long(), output_size=col.numel())
        scores = scores.index_put((row, col.long()), scores.new_tensor(-torch.inf))
    width = min(k, num_items)
    # One entry more tells whether a tie straddles the border, where torch.topk may take either.
    probe = min(width + 1, num_items)
    value, index = scores.topk(probe, dim=1)
    if probe > width > 0:
        tied = (value[:, width - 1] == value[:, width]) & (value[:, width] > -torch.inf)
        if bool(tied.any()):
            rows = tied.nonzero().view(-1)
            order = torch.argsort(scores[rows], dim=1, descending=True, stable=True)[:, :probe]
            index[rows], value[rows] = order, scores[rows].gather(1, order)
        value, index = value[:, :width], index[:, :width]
    by_index = index.argsort(dim=1)
    value, index = value.gather(1, by_index), index.gather(1, by_index)
    by_score = value.argsort(dim=1, descending=True, stable=True)
    value, index = value.gather(1, by_score), index.gather(1, by_score)
    index = index.masked_fill(value == -torch.inf, num_items)
    if width < k:
        value = torch.cat([value, value.new_full((num_rows, k - width), -torch.inf)], dim=1)
        index = torch.cat([index, index.new_full((num_rows, k - width), num_items)], dim=1)
    return value, index


def masked_topk(user: Tensor, item: Tensor, k: int, rowptr: Optional[Tensor] = None, col: Optional[Tensor] = None,
                block_size: int = 1024) -> tuple[Tensor, Tensor]:
    r"""Top ``k`` inner products of embeddings, at most ``block_size x I`` scores at a time.

    Args:
        user: User embeddings ``[B, d]``.
        item: Item embeddings ``[I, d]``.
        k: Items per user.
        rowptr: Row offsets ``[B + 1]`` of items to leave out.
        col: Items to leave out.
        block_size: Users per block.

    Returns:
        As :func:`topk_excluding`.
    """
    parts = []
    for begin in range(0, user.size(0), block_size):
        end = min(begin + block_size, user.size(0))
        exclude = (None, None)
        if rowptr is not None:
            exclude = (rowptr[begin:end + 1] - rowptr[begin], col[int(rowptr[begin]):int(rowptr[end])])
        parts.append(topk_excluding(user[begin:end] @ item.t(), k, *exclude))
    if not parts:
        return user.new_empty(0, k), torch.empty(0, k, dtype=torch.long, device=user.device)
    return torch.cat([value for value, _ in parts]), torch.cat([index for _, index in parts])
