r"""Log-sum-exp of inner products and its gradients, block by block."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from genrec_pyg.ops.triton.launch import dot_precision, num_splits, on_device_of

#: Most columns: whole rows of both sides and of the gradient stay in registers.
MAX_CHANNELS = 256

#: Entries per tile of either side: more do not fit the shared memory of smaller devices.
_TILE = 1 << 12


@triton.jit
def _rows(ptr, row, num_rows, channel, channels):
    return tl.load(
        ptr + row.to(tl.int64)[:, None] * channels + channel[None, :],
        mask=(row < num_rows)[:, None] & (channel < channels)[None, :],
        other=0,
    )


@triton.jit
def _log_sum_exp_kernel(
    x_ptr,
    bank_ptr,
    out_ptr,
    num_rows,
    num_bank,
    channels,
    factor,
    blocks_per_split,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    row, channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, BLOCK_D)
    split = tl.program_id(1)
    x = _rows(x_ptr, row, num_rows, channel, channels)
    highest = tl.full([BLOCK], -float('inf'), dtype=tl.float32)
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for block in range(
        split * blocks_per_split,
        tl.minimum((split + 1) * blocks_per_split, tl.cdiv(num_bank, BLOCK)),
    ):
        other = block * BLOCK + tl.arange(0, BLOCK)
        bank = _rows(bank_ptr, other, num_bank, channel, channels)
        logit = tl.dot(x, tl.trans(bank), input_precision=PRECISION) * factor
        logit = tl.where((other < num_bank)[None, :], logit, -float('inf'))
        # finite: every block has at least one row of the bank
        raised = tl.maximum(highest, tl.max(logit, axis=1))
        total = total * tl.exp(highest - raised) + tl.sum(tl.exp(logit - raised[:, None]), axis=1)
        highest = raised
    tl.store(
        out_ptr + split.to(tl.int64) * num_rows + row, highest + tl.log(total), mask=row < num_rows
    )


@triton.jit
def _gradient_kernel(
    own_ptr,
    other_ptr,
    total_ptr,
    weight_ptr,
    out_ptr,
    num_own,
    num_other,
    channels,
    factor,
    blocks_per_split,
    ANCHORS_OWN: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    r"""Sum over the other side of probability times weight times row. Normalizer and weight belong
    to the anchors, which are the own side for their gradient and the other side for that of the
    bank.
    """
    own, channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, BLOCK_D)
    split = tl.program_id(1)
    mine = _rows(own_ptr, own, num_own, channel, channels)
    gradient = tl.zeros([BLOCK, BLOCK_D], dtype=tl.float32)
    for block in range(
        split * blocks_per_split,
        tl.minimum((split + 1) * blocks_per_split, tl.cdiv(num_other, BLOCK)),
    ):
        other = block * BLOCK + tl.arange(0, BLOCK)
        theirs = _rows(other_ptr, other, num_other, channel, channels)
        logit = tl.dot(mine, tl.trans(theirs), input_precision=PRECISION) * factor
        if ANCHORS_OWN:
            total = tl.load(total_ptr + own, mask=own < num_own, other=0)[:, None]
            weight = tl.load(weight_ptr + own, mask=own < num_own, other=0)[:, None]
        else:
            total = tl.load(total_ptr + other, mask=other < num_other, other=0)[None, :]
            weight = tl.load(weight_ptr + other, mask=other < num_other, other=0)[None, :]
        # Beyond the end of either side the logit is 0, whose exponential may overflow.
        valid = (own < num_own)[:, None] & (other < num_other)[None, :]
        share = tl.exp(tl.where(valid, logit - total, -float('inf'))) * weight
        gradient += tl.dot(share, theirs, input_precision=PRECISION)
    place = (split.to(tl.int64) * num_own + own.to(tl.int64))[:, None] * channels + channel[None, :]
    tl.store(
        out_ptr + place, gradient, mask=(own < num_own)[:, None] & (channel < channels)[None, :]
    )


def _shape(num_rows: int, num_other: int, channels: int) -> tuple[tuple[int, int], dict[str, Any]]:
    r"""Grid ``(row blocks, splits of the other side)`` and what both kernels share."""
    width = max(triton.next_power_of_2(channels), 16)
    block = min(_TILE // width, 32)
    groups, blocks = triton.cdiv(num_rows, block), triton.cdiv(num_other, block)
    per_split = triton.cdiv(blocks, num_splits(groups, blocks))
    sizes = {
        'blocks_per_split': per_split,
        'BLOCK': block,
        'BLOCK_D': width,
        'PRECISION': dot_precision(torch.float32),
    }
    return (groups, triton.cdiv(blocks, per_split)), sizes


@torch.library.custom_op('genrec_pyg::triton_log_sum_exp', mutates_args=())
def log_sum_exp(x: Tensor, bank: Tensor, factor: float) -> Tensor:
    r"""Row-wise :math:`\log \sum_j \exp(s \, \mathbf{x}_k \cdot \mathbf{b}_j)`, differentiable
    once.

    Forward keeps a running maximum and sum per row; backward computes the probabilities of a tile
    again. Nothing of size ``n x m`` exists, and no sum is atomic.

    Args:
        x: Anchors ``[n, d]``, float32, :math:`n \ge 1`, :math:`d \le` :data:`MAX_CHANNELS`.
        bank: Candidates ``[m, d]``, float32, :math:`m \ge 1`.
        factor: Scale :math:`s`.

    Raises:
        ConfigError: If ``x`` is not on a GPU and the kernels are not interpreted.
    """
    grid, sizes = _shape(x.size(0), bank.size(0), x.size(1))
    part = x.new_empty(grid[1], x.size(0))
    with on_device_of(x, _log_sum_exp_kernel):
        _log_sum_exp_kernel[grid](
            x.contiguous(),
            bank.contiguous(),
            part,
            x.size(0),
            bank.size(0),
            x.size(1),
            factor,
            **sizes,
        )
    return part.logsumexp(dim=0)


@log_sum_exp.register_fake
def _(x, bank, factor):
    return x.new_empty(x.size(0))


@torch.library.custom_op('genrec_pyg::triton_log_sum_exp_backward', mutates_args=())
def _gradients(
    x: Tensor, bank: Tensor, total: Tensor, weight: Tensor, factor: float
) -> tuple[Tensor, Tensor]:
    x, bank, total, weight = (t.contiguous() for t in (x, bank, total, weight))
    found = []
    with on_device_of(x, _gradient_kernel):
        for own, other, anchors_own in ((x, bank, True), (bank, x, False)):
            grid, sizes = _shape(own.size(0), other.size(0), own.size(1))
            part = own.new_empty(grid[1], *own.shape)
            _gradient_kernel[grid](
                own,
                other,
                total,
                weight,
                part,
                own.size(0),
                other.size(0),
                own.size(1),
                factor,
                ANCHORS_OWN=anchors_own,
                **sizes,
            )
            found.append(part.sum(dim=0))
    return found[0], found[1]


@_gradients.register_fake
def _(x, bank, total, weight, factor):
    return torch.empty_like(x), torch.empty_like(bank)


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, bank, factor = inputs
    ctx.save_for_backward(x, bank, output)
    ctx.factor = factor


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, bank, total = ctx.saved_tensors
    return *torch.ops.genrec_pyg.triton_log_sum_exp_backward(
        x, bank, total, grad * ctx.factor, ctx.factor
    ), None


log_sum_exp.register_autograd(_backward, setup_context=_setup)
