r"""Sparse times dense products: one program per row, or an equal share of rows and entries per
program.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from genrec_pyg.ops.triton.launch import on_device_of

#: Entries of the longest row above which every program gets an equal share of rows and entries
#: instead of one row: a single program would still sum that row when all others are done.
_LONG_ROW = 512

#: Bounds of that share, and how many shares are wanted.
_MIN_SHARE, _MAX_SHARE, _SHARES = 32, 256, 2048

#: Entries that a program gathers at a time.
_BLOCK_EDGES = 16

#: Whether a pattern has a long row, by the place of its offsets. The weak reference does not keep
#: their memory, but keeps its number from coming back with another pattern, whose order of
#: summation would then depend on what ran before.
_SKEWED: dict[tuple[int, int, int], tuple[StorageWeakRef, bool]] = {}


@triton.jit
def _root(degree, dtype: tl.constexpr):
    return tl.rsqrt(tl.maximum(degree, 1).to(dtype))


@triton.jit
def _gather_sum(
    col_ptr,
    value_ptr,
    colptr_ptr,
    x_ptr,
    begin,
    end,
    channel,
    inside,
    channels,
    BLOCK_E: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    r"""Weighted sum ``[BLOCK_D]`` of the rows of x that the entries ``begin`` to ``end`` name."""
    dtype: tl.constexpr = x_ptr.dtype.element_ty
    total = tl.zeros([BLOCK_D], dtype=dtype)
    for edge in range(begin, end, BLOCK_E):
        index = edge + tl.arange(0, BLOCK_E)
        valid = index < end
        col = tl.load(col_ptr + index, mask=valid, other=0).to(tl.int64)
        message = tl.load(
            x_ptr + col[:, None] * channels + channel[None, :],
            mask=valid[:, None] & inside[None, :],
            other=0,
        )
        if value_ptr is not None:
            message *= tl.load(value_ptr + index, mask=valid, other=0)[:, None]
        if colptr_ptr is not None:
            first = tl.load(colptr_ptr + col, mask=valid, other=0)
            message *= _root(tl.load(colptr_ptr + col + 1, mask=valid, other=0) - first, dtype)[
                :, None
            ]
        total += tl.sum(message, axis=0)
    return total


@triton.jit
def _write_row(
    colptr_ptr, add_ptr, out_ptr, total, row, degree, channel, inside, channels, scale: tl.constexpr
):
    if colptr_ptr is not None:
        total *= _root(degree, total.dtype)
    place = row * channels + channel
    if add_ptr is not None:
        total += tl.load(add_ptr + place, mask=inside, other=0)
    tl.store(out_ptr + place, total * scale, mask=inside)


@triton.jit
def _row_kernel(
    rowptr_ptr,
    col_ptr,
    value_ptr,
    colptr_ptr,
    x_ptr,
    add_ptr,
    out_ptr,
    channels,
    scale: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = channel < channels
    begin = tl.load(rowptr_ptr + row).to(tl.int64)
    end = tl.load(rowptr_ptr + row + 1).to(tl.int64)
    total = _gather_sum(
        col_ptr,
        value_ptr,
        colptr_ptr,
        x_ptr,
        begin,
        end,
        channel,
        inside,
        channels,
        BLOCK_E,
        BLOCK_D,
    )
    _write_row(
        colptr_ptr, add_ptr, out_ptr, total, row, end - begin, channel, inside, channels, scale
    )


@triton.jit
def _rows_ended(rowptr_ptr, position, num_rows):
    r"""Rows that end before ``position`` of the walk that takes the entries of a row one by one,
    then the row's end.

    The end of row r is at place ``r + rowptr[r + 1]``, which grows with r: bisection.
    """
    low = position * 0
    high = low + num_rows
    while low < high:
        middle = (low + high) // 2
        ended = middle + tl.load(rowptr_ptr + middle + 1).to(tl.int64) < position
        low = tl.where(ended, middle + 1, low)
        high = tl.where(ended, high, middle)
    return low


@triton.jit
def _share_kernel(
    rowptr_ptr,
    col_ptr,
    value_ptr,
    colptr_ptr,
    x_ptr,
    add_ptr,
    out_ptr,
    carry_ptr,
    num_rows,
    length,
    channels,
    scale: tl.constexpr,
    SHARE: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    r"""Walks places ``SHARE * p`` to ``SHARE * (p + 1)``: writes the rows that end there, as far as
    their entries lie there, and leaves the sum over the entries of the row that does not end in
    ``carry[p]``.
    """
    part = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = channel < channels
    first = part * SHARE
    last = tl.minimum(first + SHARE, length)
    first_row = _rows_ended(rowptr_ptr, first, num_rows)
    last_row = _rows_ended(rowptr_ptr, last, num_rows)
    first_edge, last_edge = first - first_row, last - last_row
    for row in range(first_row, last_row):
        begin = tl.load(rowptr_ptr + row).to(tl.int64)
        end = tl.load(rowptr_ptr + row + 1).to(tl.int64)
        start = tl.maximum(begin, first_edge)
        total = _gather_sum(
            col_ptr,
            value_ptr,
            colptr_ptr,
            x_ptr,
            start,
            end,
            channel,
            inside,
            channels,
            BLOCK_E,
            BLOCK_D,
        )
        _write_row(
            colptr_ptr, add_ptr, out_ptr, total, row, end - begin, channel, inside, channels, scale
        )
    begin = tl.maximum(tl.load(rowptr_ptr + last_row).to(tl.int64), first_edge)
    total = _gather_sum(
        col_ptr,
        value_ptr,
        colptr_ptr,
        x_ptr,
        begin,
        last_edge,
        channel,
        inside,
        channels,
        BLOCK_E,
        BLOCK_D,
    )
    tl.store(carry_ptr + part * channels + channel, total, mask=inside)


@triton.jit
def _carry_kernel(
    rowptr_ptr,
    colptr_ptr,
    carry_ptr,
    out_ptr,
    num_rows,
    length,
    channels,
    scale: tl.constexpr,
    SHARE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    r"""Adds to the first row that ends in a share what the shares before have carried for it:
    always in the same order.
    """
    part = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = channel < channels
    first = part * SHARE
    row = _rows_ended(rowptr_ptr, first, num_rows)
    if row < num_rows:
        begin = tl.load(rowptr_ptr + row).to(tl.int64)
        end = tl.load(rowptr_ptr + row + 1).to(tl.int64)
        if (begin < first - row) & (row + end < tl.minimum(first + SHARE, length)):
            total = tl.zeros([BLOCK_D], dtype=carry_ptr.dtype.element_ty)
            for before in range((row + begin) // SHARE, part, BLOCK_P):
                index = before + tl.arange(0, BLOCK_P)
                total += tl.sum(
                    tl.load(
                        carry_ptr + index[:, None] * channels + channel[None, :],
                        mask=(index < part)[:, None] & inside[None, :],
                        other=0,
                    ),
                    axis=0,
                )
            if colptr_ptr is not None:
                total *= _root(end - begin, total.dtype)
            place = out_ptr + row * channels + channel
            tl.store(place, tl.load(place, mask=inside, other=0) + total * scale, mask=inside)


def spmm(  # noqa: D417
    rowptr: Tensor,
    col: Tensor,
    value: Tensor | None,
    size: tuple[int, int],
    x: Tensor,
    add: Tensor | None = None,
    scale: float = 1.0,
    balanced: bool | None = None,
) -> Tensor:
    r"""The :class:`~genrec_pyg.ops.backends.Kernel` of Triton. Equal inputs give equal bits: no sum
    is atomic, and no block size is chosen by timing.

    Patterns without a long row take one program per row. Else the walk over all rows and entries is
    cut into equal shares, one per program, and a second launch completes the rows that lie in
    several.

    Args:
        rowptr, col, value, size, x, add, scale: As a :class:`~genrec_pyg.ops.backends.Kernel` takes
            them.
        balanced: Whether programs take equal shares; :obj:`None` decides by the longest row, which
            is read once per pattern.

    Raises:
        ConfigError: If ``x`` is not on a GPU and the kernels are not interpreted.
    """
    return _product(rowptr, col, value, None, size, x, add, scale, balanced)


def normalized_spmm(
    rowptr: Tensor,
    col: Tensor,
    colptr: Tensor,
    size: tuple[int, int],
    x: Tensor,
    add: Tensor | None = None,
    scale: float = 1.0,
) -> Tensor:
    r"""As :func:`spmm` with :math:`\mathbf{D}_r^{-1/2} \mathbf{A} \mathbf{D}_c^{-1/2}` of ones,
    whose degrees are read off the offsets of rows and columns, so that no value is ever stored.

    Args:
        rowptr: Row offsets ``[M + 1]``.
        col: Columns ``[nnz]``.
        colptr: Row offsets of the transpose ``[N + 1]``, those of the rows where the pattern is
            symmetric.
        size: Shape ``(M, N)``.
        x: Dense ``[N, d]``, contiguous, float32 or float64.
        add: Dense ``[M, d]``.
        scale: Factor.

    Raises:
        ConfigError: If ``x`` is not on a GPU and the kernels are not interpreted.
    """
    return _product(rowptr, col, None, colptr, size, x, add, scale)


def _product(
    rowptr: Tensor,
    col: Tensor,
    value: Tensor | None,
    colptr: Tensor | None,
    size: tuple[int, int],
    x: Tensor,
    add: Tensor | None,
    scale: float,
    balanced: bool | None = None,
) -> Tensor:
    channels, length = x.size(1), size[0] + col.numel()
    out = x.new_empty(size[0], channels)
    if out.numel() == 0:
        return out
    x, add = x.contiguous(), None if add is None else add.contiguous()
    block = _channel_block(channels)
    sizes = {'BLOCK_D': block, 'num_warps': 1 if block <= 64 else 2}
    num_blocks = triton.cdiv(channels, block)
    with on_device_of(x, _row_kernel):
        if not (_is_skewed(rowptr) if balanced is None else balanced):
            _row_kernel[size[0], num_blocks](
                rowptr,
                col,
                value,
                colptr,
                x,
                add,
                out,
                channels,
                float(scale),
                BLOCK_E=_BLOCK_EDGES,
                **sizes,
            )
            return out
        share = min(
            max(triton.next_power_of_2(triton.cdiv(length, _SHARES)), _MIN_SHARE), _MAX_SHARE
        )
        grid = (triton.cdiv(length, share), num_blocks)
        carry = x.new_empty(grid[0], channels)
        _share_kernel[grid](
            rowptr,
            col,
            value,
            colptr,
            x,
            add,
            out,
            carry,
            size[0],
            length,
            channels,
            float(scale),
            SHARE=share,
            BLOCK_E=_BLOCK_EDGES,
            **sizes,
        )
        _carry_kernel[grid](
            rowptr,
            colptr,
            carry,
            out,
            size[0],
            length,
            channels,
            float(scale),
            SHARE=share,
            BLOCK_P=_BLOCK_EDGES,
            **sizes,
        )
    return out


def _channel_block(channels: int) -> int:
    if channels <= 64:
        return triton.next_power_of_2(channels)
    # 192 channels are three blocks of 64 rather than two of 128, a quarter of which were idle.
    return 128 if 2 * triton.cdiv(channels, 128) == triton.cdiv(channels, 64) else 64


def _is_skewed(rowptr: Tensor) -> bool:
    storage = StorageWeakRef(rowptr.untyped_storage())
    key = (storage.cdata, int(rowptr.storage_offset()), rowptr.numel())
    if key not in _SKEWED:
        if rowptr.is_cuda and torch.cuda.is_current_stream_capturing():
            # the longest row cannot be read while a CUDA graph is recorded; equal shares suit every
            # pattern
            return True
        for known in [known for known, (memory, _) in _SKEWED.items() if memory.expired()]:
            del _SKEWED[known]
        _SKEWED[key] = storage, bool(rowptr.diff().max() > _LONG_ROW)
    return _SKEWED[key][1]
