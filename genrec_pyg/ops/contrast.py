r"""Streaming InfoNCE."""
from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops.backends import prefers_triton, triton_kernels
from genrec_pyg.precision import full_precision

#: Largest scale at which sums of exponentials of cosines fit float32 without subtracting a maximum.
_PLAIN_SCALE = 60


def unit_rows(x: Tensor, eps: float = 1e-12) -> Tensor:
    r"""l2-normalised rows of ``x`` ``[n, d]``, in float32 at least. A zero row stays zero and gets no gradient, where that of
    :func:`torch.nn.functional.normalize` would be :math:`1 / \epsilon` times the incoming one."""
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x * ((norm > eps) / norm.clamp(min=eps))


def info_nce(x: Tensor, y: Optional[Tensor], temperature: float, bank: Optional[Tensor] = None,
             positive: Optional[Tensor] = None, block_size: int = 4096) -> Tensor:
    r"""InfoNCE of l2-normalised rows, the positive in its own denominator.

    .. math::
        \frac{1}{n} \sum_k \Bigl[ -\frac{\mathbf{x}_k \cdot \mathbf{y}_k}{\tau} + \log \sum_j \exp\Bigl(
        \frac{\mathbf{x}_k \cdot \mathbf{b}_j}{\tau} \Bigr) \Bigr]

    The bank passes in blocks, and backward computes the softmax of a block again, so nothing of size ``n x m`` outlives a
    block. A zero row stays zero.

    Args:
        x: Anchors ``[n, d]``.
        y: Positives ``[n, d]``; :obj:`None` with a bank takes ``bank[positive]``.
        temperature: Temperature :math:`\tau`, positive.
        bank: Candidates ``[m, d]``, which must hold the positives; the rows of ``y`` by default.
        positive: Row of the bank ``[n]`` that is each anchor's positive.
        block_size: Rows of the bank per block; kernels in Triton have blocks of their own.

    Raises:
        ConfigError: If the temperature is not positive, or not exactly one of ``y`` and ``positive`` says what the positives
            are, one for each anchor.
    """
    if not temperature > 0:
        raise ConfigError(f'temperature: got {temperature}, accepted are positive numbers')
    if (y is None) == (positive is None) or (y is None and bank is None):
        raise ConfigError('info_nce: accepted are positives y (with or without a bank), or a bank with the rows positive')
    if (positive if y is None else y).size(0) != x.size(0):
        raise ConfigError(f'info_nce: {(positive if y is None else y).size(0)} positives for {x.size(0)} anchors, accepted is '
                          'one for each')
    x = unit_rows(x)
    if bank is None:
        y = bank = unit_rows(y)
    else:
        bank = unit_rows(bank)
        y = bank[positive] if y is None else unit_rows(y)
    alignment = (x * y).sum(dim=1) / temperature
    return (_log_sum_exp(x, bank, 1 / temperature, block_size) - alignment).mean()


def _log_sum_exp(x: Tensor, bank: Tensor, scale: float, block_size: int) -> Tensor:
    if prefers_triton(x) and x.dtype == bank.dtype == torch.float32 and x.numel() > 0 and bank.size(0) > 0:
        kernels = triton_kernels()
        if x.size(1) <= kernels.MAX_CHANNELS:
            return kernels.log_sum_exp(x, bank, scale)
    return _LogSumExp.apply(x, bank, scale, block_size)


class _LogSumExp(torch.autograd.Function):
    r"""Row-wise :math:`\log \sum_j \exp(s \, \mathbf{x}_k \cdot \mathbf{b}_j)` of unit rows.

    Cosines are at most 1, so up to a scale of 60 the sum fits float32 without subtracting a maximum: one pass over a block
    instead of three. A bank of one block keeps its exponentials for backward, a larger one computes them again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, bank: Tensor, scale: float, block_size: int) -> Tensor:
        total = share = None
        with full_precision(x):  # bfloat16 cosines over a small temperature are too coarse
            left = scale * x
            for block in bank.split(block_size):
                share = left @ block.t()
                part = share.logsumexp(dim=1) if scale > _PLAIN_SCALE else share.exp_().sum(dim=1).log_()
                total = part if total is None else torch.logaddexp(total, part)
        if scale > _PLAIN_SCALE or bank.size(0) > block_size:
            share = None
        ctx.save_for_backward(x, bank, total, share)
        ctx.scale, ctx.block_size = scale, block_size
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        x, bank, total, kept = ctx.saved_tensors
        weight = (grad * ctx.scale).unsqueeze(1)
        if torch.is_grad_enabled():  # for second derivatives: the plain formula, which torch differentiates
            share = weight * torch.softmax(ctx.scale * x @ bank.t(), dim=1)
            return share @ bank, share.t() @ x, None, None
        with full_precision(x):
            if kept is not None:
                weight = weight * (-total).exp().unsqueeze(1)
                return weight * (kept @ bank), kept.t() @ (weight * x), None, None
            grad_x, grad_bank, left = torch.zeros_like(x), [], ctx.scale * x
            for block in bank.split(ctx.block_size):
                share = (left @ block.t()).sub_(total.unsqueeze(1)).exp_()
                grad_x += share @ block
                grad_bank.append(share.t() @ (weight * x))
            return weight * grad_x, torch.cat(grad_bank), None, None
