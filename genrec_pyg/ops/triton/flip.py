r"""Flips of binary rows, drawn in the kernel by a counter-based generator: dense and sparse form
are the same draw.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from genrec_pyg.ops.triton.launch import on_device_of

#: Columns per program, a multiple of 4: one counter yields four numbers.
_BLOCK_COLUMNS = 1024


@triton.jit
def _uniform(seed_ptr, row, block, BLOCK: tl.constexpr):
    r"""Uniform numbers of the columns ``BLOCK * block`` to ``BLOCK * (block + 1)``, functions of
    seed, row and column.
    """
    counter = block * (BLOCK // 4) + tl.arange(0, BLOCK // 4)
    zero = counter * 0
    a, b, c, d = tl.philox(tl.load(seed_ptr), counter, zero + row, zero, zero)
    bits = tl.interleave(tl.interleave(a, c), tl.interleave(b, d))
    # All 32 bits: small rates need the resolution. The largest numbers would round to 1, and then
    # not every rate 1 flips.
    return tl.minimum(bits.to(tl.float32) * (2.0**-32), 1 - 2.0**-24)


@triton.jit
def _flip(seed_ptr, p01_ptr, p10_ptr, one, row, block, BLOCK: tl.constexpr):
    rate = tl.where(one, tl.load(p10_ptr + row), tl.load(p01_ptr + row))
    return one ^ (_uniform(seed_ptr, row, block, BLOCK) < rate)


@triton.jit
def _ones_after(
    seed_ptr, rowptr_ptr, col_ptr, p01_ptr, p10_ptr, row, block, num_cols, BLOCK: tl.constexpr
):
    r"""Columns of a block and whether each holds a one after the flips, for a row given by its
    ones.
    """
    column = block * BLOCK + tl.arange(0, BLOCK)
    end = tl.load(rowptr_ptr + row + 1).to(tl.int64)
    low = tl.load(rowptr_ptr + row).to(tl.int64)
    high = end
    while low < high:  # the row's first one in this block
        middle = (low + high) // 2
        before = tl.load(col_ptr + middle) < block * BLOCK
        low = tl.where(before, middle + 1, low)
        high = tl.where(before, high, middle)
    one = column < 0
    inside = low < end
    while inside:
        current = tl.load(col_ptr + low)
        one = one | (column == current)
        low += 1
        inside = (low < end) & (current < (block + 1) * BLOCK)
    return column, _flip(seed_ptr, p01_ptr, p10_ptr, one, row, block, BLOCK) & (column < num_cols)


@triton.jit
def _dense_kernel(seed_ptr, x_ptr, p01_ptr, p10_ptr, out_ptr, num_cols, BLOCK: tl.constexpr):
    row, block = tl.program_id(0), tl.program_id(1)
    column = block * BLOCK + tl.arange(0, BLOCK)
    place, inside = row.to(tl.int64) * num_cols + column, column < num_cols
    one = tl.load(x_ptr + place, mask=inside, other=0) > 0
    flipped = _flip(seed_ptr, p01_ptr, p10_ptr, one, row, block, BLOCK)
    tl.store(out_ptr + place, flipped.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _count_kernel(
    seed_ptr,
    rowptr_ptr,
    col_ptr,
    p01_ptr,
    p10_ptr,
    count_ptr,
    num_cols,
    num_blocks,
    BLOCK: tl.constexpr,
):
    row, block = tl.program_id(0), tl.program_id(1)
    _, one = _ones_after(
        seed_ptr, rowptr_ptr, col_ptr, p01_ptr, p10_ptr, row, block, num_cols, BLOCK
    )
    tl.store(count_ptr + row.to(tl.int64) * num_blocks + block, tl.sum(one.to(tl.int32), axis=0))


@triton.jit
def _write_kernel(
    seed_ptr,
    rowptr_ptr,
    col_ptr,
    p01_ptr,
    p10_ptr,
    offset_ptr,
    out_ptr,
    num_cols,
    num_blocks,
    BLOCK: tl.constexpr,
):
    row, block = tl.program_id(0), tl.program_id(1)
    column, one = _ones_after(
        seed_ptr, rowptr_ptr, col_ptr, p01_ptr, p10_ptr, row, block, num_cols, BLOCK
    )
    rank = tl.cumsum(one.to(tl.int32), axis=0) - 1
    offset = tl.load(offset_ptr + row.to(tl.int64) * num_blocks + block)
    tl.store(out_ptr + offset + rank, column.to(tl.int64), mask=one)


def flip_dense(
    x: Tensor, p01: Tensor, p10: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    r"""As :func:`genrec_pyg.ops.flip_dense`: one pass that reads ``x`` and writes the result, no
    random numbers in memory.

    Raises:
        ConfigError: If ``x`` is not on a GPU and the kernels are not interpreted.
    """
    x = x.contiguous()
    out = torch.empty_like(x)
    if x.numel() > 0:
        # Triton reads booleans as single bits, which do not compare; their bytes do.
        source, target = (t.view(torch.uint8) if t.dtype == torch.bool else t for t in (x, out))
        with on_device_of(x, _dense_kernel):
            _dense_kernel[_grid(x.size(0), x.size(1))](
                _seed(x, generator),
                source,
                _rates(p01),
                _rates(p10),
                target,
                x.size(1),
                BLOCK=_BLOCK_COLUMNS,
            )
    return out


def sample_flips(
    rowptr: Tensor,
    col: Tensor,
    num_cols: int,
    p01: Tensor,
    p10: Tensor,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""As :func:`genrec_pyg.ops.sample_flips`, and bit for bit the ones of :func:`flip_dense` for
    the same seed.

    The numbers are drawn twice, once to count the ones of every block of columns and once to write
    them where they belong, because drawing again is cheaper than keeping them. Nothing dense is
    held.

    Args:
        rowptr: Row offsets ``[B + 1]``, int64.
        col: Columns of the ones, int64, ascending within a row.
        num_cols: Number of columns ``I``.
        p01: Probability of 0 to 1 per row ``[B]``.
        p10: Probability of 1 to 0 per row ``[B]``.
        generator: Random generator; the device's global one by default.

    Raises:
        ConfigError: If ``col`` is not on a GPU and the kernels are not interpreted.
    """
    num_rows = rowptr.numel() - 1
    if num_rows == 0 or num_cols == 0:
        return torch.zeros_like(rowptr), col.new_empty(0)
    grid = _grid(num_rows, num_cols)
    source = (
        _seed(col, generator),
        rowptr.contiguous(),
        col.contiguous(),
        _rates(p01),
        _rates(p10),
    )
    count = torch.empty(num_rows * grid[1], dtype=torch.int32, device=col.device)
    with on_device_of(col, _count_kernel):
        _count_kernel[grid](*source, count, num_cols, grid[1], BLOCK=_BLOCK_COLUMNS)
        offset = torch.cat([rowptr.new_zeros(1), count.cumsum(0)])
        out = col.new_empty(int(offset[-1]))
        _write_kernel[grid](*source, offset, out, num_cols, grid[1], BLOCK=_BLOCK_COLUMNS)
    return offset[:: grid[1]].contiguous(), out


def _grid(num_rows: int, num_cols: int) -> tuple[int, int]:
    return num_rows, triton.cdiv(num_cols, _BLOCK_COLUMNS)


def _seed(like: Tensor, generator: torch.Generator | None) -> Tensor:
    # Stays on the device: reading it would wait for the device, and a CUDA graph advances the
    # generator at every replay.
    return torch.randint(2**62, (1,), device=like.device, generator=generator)


def _rates(probability: Tensor) -> Tensor:
    return probability.float().contiguous()
