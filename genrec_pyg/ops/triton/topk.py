r"""Exact ranking of inner products that are never stored."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from genrec_pyg.ops.triton.launch import dot_precision, num_splits, on_device_of

#: Largest ``k``: the best entries of every row stay in registers.
MAX_K = 128

#: Users per program, and channels per product of tiles.
_BLOCK_USERS, _BLOCK_CHANNELS = 16, 32

#: Fewest items per block; a block has as many as are kept.
_MIN_KEPT = 32

#: Key of a score of minus infinity: smaller than that of every other score.
_LOWEST: tl.constexpr = tl.constexpr(-2139095041 * 2**32)


@triton.jit
def _key(score, item):
    r"""Integers that sort as (score, then lower item) does: the bits of the score, made monotone,
    over the inverted item.
    """
    bits = tl.where(score == 0, 0.0, score).to(tl.int32, bitcast=True)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (bits.to(tl.int64) << 32) | (0x7FFFFFFF - item).to(tl.int64)


@triton.jit
def _is_excluded(col_ptr, begin, end, item):
    r"""Whether the entries ``begin`` to ``end`` of each row, ascending, hold the item: bisection
    for a whole tile at once.
    """
    low, high = begin + tl.zeros_like(item), end + tl.zeros_like(item)
    longest = tl.max(end - begin)
    while longest > 0:
        middle = (low + high) // 2
        searching = low < high
        below = searching & (tl.load(col_ptr + middle, mask=searching, other=0) < item)
        low = tl.where(below, middle + 1, low)
        high = tl.where(below, high, tl.where(searching, middle, high))
        longest = longest // 2
    return (low < end) & (tl.load(col_ptr + low, mask=low < end, other=-1) == item)


@triton.jit
def _topk_kernel(
    user_ptr,
    item_ptr,
    rowptr_ptr,
    col_ptr,
    out_ptr,
    num_users,
    num_items,
    channels,
    blocks_per_split,
    BLOCK_U: tl.constexpr,
    BLOCK_C: tl.constexpr,
    KEPT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    r"""Keys of the ``KEPT`` best items of ``BLOCK_U`` users among the item blocks of one split."""
    user = tl.program_id(0) * BLOCK_U + tl.arange(0, BLOCK_U)
    split = tl.program_id(1)
    present = user < num_users
    user_place = user.to(tl.int64)[:, None] * channels
    best = tl.full([BLOCK_U, KEPT], _LOWEST, dtype=tl.int64)
    for block in range(split * blocks_per_split, (split + 1) * blocks_per_split):
        item = block * KEPT + tl.arange(0, KEPT)
        exists = item < num_items
        item_place = item.to(tl.int64)[None, :] * channels
        score = tl.zeros([BLOCK_U, KEPT], dtype=tl.float32)
        for start in range(0, channels, BLOCK_C):
            channel = start + tl.arange(0, BLOCK_C)
            inside = channel < channels
            left = tl.load(
                user_ptr + user_place + channel[None, :],
                mask=present[:, None] & inside[None, :],
                other=0,
            )
            right = tl.load(
                item_ptr + item_place + channel[:, None],
                mask=inside[:, None] & exists[None, :],
                other=0,
            )
            score = tl.dot(
                left.to(tl.float32), right.to(tl.float32), score, input_precision=PRECISION
            )
        # Rounded as the product of the inputs' type is, so that what ties there ties here.
        score = score.to(user_ptr.dtype.element_ty).to(tl.float32)
        key = tl.where(exists[None, :] & present[:, None], _key(score, item[None, :]), _LOWEST)
        if tl.max((key > tl.min(best, axis=1)[:, None]).to(tl.int32)) > 0:
            if rowptr_ptr is not None:
                begin = tl.load(rowptr_ptr + user, mask=present, other=0).to(tl.int64)
                end = tl.load(rowptr_ptr + user + 1, mask=present, other=0).to(tl.int64)
                tile = item[None, :].to(tl.int64) + tl.zeros([BLOCK_U, KEPT], dtype=tl.int64)
                key = tl.where(
                    _is_excluded(col_ptr, begin[:, None], end[:, None], tile), _LOWEST, key
                )
            # The larger of a descending and an ascending list, place by place, are the best of
            # both.
            best = tl.sort(tl.maximum(best, tl.sort(key)), descending=True)
    place = (user.to(tl.int64)[:, None] * tl.num_programs(1) + split) * KEPT + tl.arange(0, KEPT)[
        None, :
    ]
    tl.store(out_ptr + place, best, mask=present[:, None])


def masked_topk(
    user: Tensor, item: Tensor, k: int, rowptr: Tensor | None = None, col: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""As :func:`genrec_pyg.ops.masked_topk`, but no score leaves the registers; ``k`` from 1 to
    :data:`MAX_K`.

    Scores and items travel as one sortable integer, so that ties, the blocks of items, and the
    splits of their range that fill the device cannot change the result. Nothing is read back, so
    the call may be recorded as a CUDA graph.

    Args:
        user: User embeddings ``[B, d]``, float32, float16 or bfloat16.
        item: Item embeddings ``[I, d]`` of the same type.
        k: Items per user.
        rowptr: Row offsets ``[B + 1]`` of items to leave out.
        col: Items to leave out, in any order.

    Raises:
        ConfigError: If ``user`` is not on a GPU and the kernels are not interpreted.
    """
    num_users, num_items = user.size(0), item.size(0)
    kept = max(triton.next_power_of_2(k), _MIN_KEPT)
    num_blocks, num_groups = triton.cdiv(num_items, kept), triton.cdiv(num_users, _BLOCK_USERS)
    per_split = max(triton.cdiv(num_blocks, num_splits(num_groups, num_blocks)), 1)
    splits = max(triton.cdiv(num_blocks, per_split), 1)
    if rowptr is None or col is None or col.numel() == 0:
        rowptr = col = None
    else:
        rowptr = rowptr.long().contiguous()
        col = _ascending(rowptr, col.long(), num_items)
    keys = torch.empty(num_users, splits * kept, dtype=torch.int64, device=user.device)
    if num_users > 0:
        with on_device_of(user, _topk_kernel):
            _topk_kernel[num_groups, splits](
                user.contiguous(),
                item.contiguous(),
                rowptr,
                col,
                keys,
                num_users,
                num_items,
                user.size(1),
                per_split,
                BLOCK_U=_BLOCK_USERS,
                BLOCK_C=_BLOCK_CHANNELS,
                KEPT=kept,
                PRECISION=dot_precision(user.dtype),
            )
    keys = keys.topk(k, dim=1).values
    bits = keys >> 32
    value = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).int().view(torch.float32)
    index = (0x7FFFFFFF - (keys & 0xFFFFFFFF)).masked_fill(value == -torch.inf, num_items)
    return value.to(user.dtype), index


def _ascending(rowptr: Tensor, col: Tensor, num_items: int) -> Tensor:
    r"""``col`` with the entries of every row in order, in the places of that row. The offsets may
    be those of some rows of a larger matrix: what lies before and behind stays there.
    """
    row = torch.searchsorted(rowptr, torch.arange(col.numel(), device=col.device), right=True)
    return (row * num_items + col).sort().values - row * num_items
