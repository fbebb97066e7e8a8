r"""Deterministic top-k with excluded entries, in blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops.backends import prefers_triton, triton_kernels

#: What the kernel ranks: it packs a score of at most 32 bits and an item into one integer.
_TRITON_TYPES = (torch.float32, torch.float16, torch.bfloat16)

#: Scores held at a time: 32 MiB in float32, which the C library still serves from memory it has,
#: without new pages.
MAX_BLOCK = 2**23


def rows_per_block(num_items: int, at_most: int = 1024) -> int:
    r"""Rows of ``num_items`` scores to hold at a time: ``at_most``, or as many as 2^23 scores
    allow, at least one.
    """
    return max(1, min(at_most, MAX_BLOCK // max(num_items, 1)))


def topk_excluding(
    scores: Tensor, k: int, rowptr: Tensor | None = None, col: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""The ``k`` largest entries of every row that are not excluded; equal scores rank by lower
    index.

    Args:
        scores: Scores ``[B, I]``, left unchanged.
        k: Entries per row; may exceed ``I``.
        rowptr: Row offsets ``[B + 1]`` of the excluded entries.
        col: Excluded columns.

    Returns:
        Scores and indices ``[B, k]``, descending. A row with fewer than ``k`` candidates is padded
        with score :math:`-\infty` and index ``I``, which is no item: padding can never count as a
        hit.

    Raises:
        ConfigError: If ``k`` is negative or the row offsets do not fit the scores.
    """
    if rowptr is not None and col is not None and col.numel() > 0:
        scores = scores.clone()
    return _topk_(scores, k, rowptr, col)


def masked_topk(
    user: Tensor,
    item: Tensor,
    k: int,
    rowptr: Tensor | None = None,
    col: Tensor | None = None,
    block_size: int = 1024,
) -> tuple[Tensor, Tensor]:
    r"""Top ``k`` inner products of embeddings, in blocks of users; in Triton no score is stored.

    Args:
        user: User embeddings ``[B, d]``.
        item: Item embeddings ``[I, d]``.
        k: Items per user.
        rowptr: Row offsets ``[B + 1]`` of items to leave out.
        col: Items to leave out.
        block_size: Users per block; fewer where the block would hold more than 2^23 scores.

    Returns:
        As :func:`topk_excluding`.

    Raises:
        ConfigError: If ``k`` or ``block_size`` is out of range or the row offsets do not fit the
            users.
    """
    if block_size < 1:
        raise ConfigError(f'block_size: got {block_size}, accepted are integers from 1')
    if rowptr is not None and rowptr.numel() != user.size(0) + 1:
        raise ConfigError(
            f'masked_topk: {rowptr.numel()} row offsets for {user.size(0)} users, accepted '
            f'is one more'
        )
    if _fits_triton(user, item, k):
        return triton_kernels().masked_topk(user, item, k, rowptr, col)
    block_size = rows_per_block(item.size(0), block_size)
    parts = []
    for begin in range(0, max(user.size(0), 1), block_size):
        end = min(begin + block_size, user.size(0))
        excluded: tuple[Tensor | None, Tensor | None] = (None, None)
        if rowptr is not None and col is not None:
            excluded = (
                rowptr[begin : end + 1] - rowptr[begin],
                col[int(rowptr[begin]) : int(rowptr[end])],
            )
        parts.append(_topk_(user[begin:end] @ item.t(), k, *excluded))
    return torch.cat([value for value, _ in parts]), torch.cat([index for _, index in parts])


def _fits_triton(user: Tensor, item: Tensor, k: int) -> bool:
    if not prefers_triton(user) or user.dtype != item.dtype or user.dtype not in _TRITON_TYPES:
        return False
    if torch.is_grad_enabled() and (user.requires_grad or item.requires_grad):
        return False  # the kernel has no gradient
    return 1 <= k <= triton_kernels().MAX_K


def _topk_(
    scores: Tensor, k: int, rowptr: Tensor | None, col: Tensor | None
) -> tuple[Tensor, Tensor]:
    r"""As :func:`topk_excluding`, but writes into ``scores``."""
    num_rows, num_items = scores.shape
    if k < 0:
        raise ConfigError(f'k: got {k}, accepted are integers from 0')
    if rowptr is not None and col is not None:
        if rowptr.numel() != num_rows + 1:
            raise ConfigError(
                f'topk: {rowptr.numel()} row offsets for {num_rows} rows of scores, accepted '
                f'is one more'
            )
        row = torch.repeat_interleave(rowptr.diff().long(), output_size=col.numel())
        scores.index_put_((row, col.long()), scores.new_tensor(-torch.inf))
    width = min(k, num_items)
    # One entry more tells whether a tie straddles the border, where torch.topk may take either.
    value, index = scores.topk(min(width + 1, num_items), dim=1)
    if num_items > width > 0:
        tied = (value[:, width - 1] == value[:, width]) & (value[:, width] > -torch.inf)
        value, index = value[:, :width], index[:, :width]
        rows = tied.nonzero().view(-1)
        if rows.numel() > 0:
            index[rows] = _lowest_of_ties(scores[rows], value[rows], index[rows])
    else:
        value, index = value[:, :width], index[:, :width]
    index, order = index.sort(dim=1)
    value, order = value.gather(1, order).sort(dim=1, descending=True, stable=True)
    index = index.gather(1, order).masked_fill(value == -torch.inf, num_items)
    if width < k:
        value = torch.cat([value, value.new_full((num_rows, k - width), -torch.inf)], dim=1)
        index = torch.cat([index, index.new_full((num_rows, k - width), num_items)], dim=1)
    return value, index


def _lowest_of_ties(scores: Tensor, value: Tensor, index: Tensor) -> Tensor:
    r"""Gives the places of a top-k that hold its lowest score to the lowest ids among all entries
    of that score.
    """
    num_items, width = scores.size(1), value.size(1)
    border = value[:, -1:]
    ids = torch.arange(num_items, device=scores.device, dtype=torch.int32)
    lowest = torch.where(scores == border, ids, num_items).topk(width, dim=1, largest=False).values
    place = torch.arange(width, device=scores.device) - (value > border).sum(dim=1, keepdim=True)
    return torch.where(place >= 0, lowest.gather(1, place.clamp(min=0)).long(), index)
