r"""Streaming InfoNCE."""
from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops.backends import prefers_triton, triton_kernels
from genrec_pyg.ops.topk import rows_per_block
from genrec_pyg.utils.precision import full_precision

#: Largest scale at which sums of exponentials of cosines fit float32 without subtracting a maximum.
_PLAIN_SCALE = 60


def unit_rows(x: Tensor, eps: float = 1e-12) -> Tensor:
    r"""l2-normalized rows of ``x`` ``[n, d]``, in float32 at least, whatever their scale.

    A row is divided by its largest magnitude first, so that squares neither overflow nor vanish. A zero row stays zero. It
    gets no gradient, and neither does a row whose entries are all within ``eps`` of zero, since the gradient grows as one
    over the norm.
    """
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    if x.size(1) == 0:
        return x
    largest = torch.linalg.vector_norm(x.detach(), torch.inf, dim=1, keepdim=True)
    scaled = x / largest.clamp(min=torch.finfo(x.dtype).tiny)
    if torch.is_grad_enabled() and x.requires_grad:
        scaled = torch.where(largest > eps, scaled, scaled.detach())
    norm = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return scaled * ((norm > 0) / norm.clamp(min=torch.finfo(x.dtype).eps))


def info_nce(x: Tensor, y: Optional[Tensor], temperature: float, bank: Optional[Tensor] = None,
             positive: Optional[Tensor] = None, block_size: int = 256) -> Tensor:
    r"""InfoNCE of l2-normalized rows, the positive in its own denominator.

    .. math::
        \frac{1}{n} \sum_k \Bigl[ -\frac{\mathbf{x}_k \cdot \mathbf{y}_k}{\tau} + \log \sum_j \exp\Bigl(
        \frac{\mathbf{x}_k \cdot \mathbf{b}_j}{\tau} \Bigr) \Bigr]

    The anchors pass in blocks, and forward takes the gradient along, so nothing of size ``n x m`` outlives a block (but in
    second derivatives). A zero row stays zero.

    Args:
        x: Anchors ``[n, d]``.
        y: Positives ``[n, d]``; :obj:`None` with a bank takes ``bank[positive]``.
        temperature: Temperature :math:`\tau`, positive.
        bank: Candidates ``[m, d]``, which must hold the positives; the rows of ``y`` by default.
        positive: Row of the bank ``[n]`` that is each anchor's positive.
        block_size: Anchors per block; fewer where the block would hold more than 2^23 cosines. Kernels in Triton have blocks
            of their own.

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
    alignment = (x * y).sum(dim=1).mean() / temperature
    return _mean_log_sum_exp(x, bank, 1 / temperature, block_size) - alignment


def _mean_log_sum_exp(x: Tensor, bank: Tensor, scale: float, block_size: int) -> Tensor:
    if prefers_triton(x) and x.dtype == bank.dtype == torch.float32 and x.numel() > 0 and bank.size(0) > 0:
        kernels = triton_kernels()
        if x.size(1) <= kernels.MAX_CHANNELS:
            return kernels.log_sum_exp(x, bank, scale).mean()
    needs_grad = tuple(torch.is_grad_enabled() and rows.requires_grad for rows in (x, bank))
    return _MeanLogSumExp.apply(x, bank, scale, rows_per_block(bank.size(0), block_size), needs_grad)


class _MeanLogSumExp(torch.autograd.Function):
    r"""Mean of the row-wise :math:`\log \sum_j \exp(s \, \mathbf{x}_k \cdot \mathbf{b}_j)` of unit rows.

    Being a mean, it knows its gradient up to one factor already in forward, while a block's exponentials are at hand: they
    are neither kept for backward nor computed again. Cosines are at most 1, so up to a scale of 60 the sum fits float32
    without subtracting a maximum.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, bank: Tensor, scale: float, block_size: int, needs_grad: tuple[bool, bool]) -> Tensor:
        total = x.new_zeros(())
        grad_x = torch.empty_like(x) if needs_grad[0] else None
        grad_bank = torch.zeros_like(bank) if needs_grad[1] else None
        with full_precision(x):  # bfloat16 cosines over a small temperature are too coarse
            for begin in range(0, x.size(0), block_size):
                rows = x[begin:begin + block_size]
                share = (scale * rows) @ bank.t()
                if scale > _PLAIN_SCALE:
                    largest = share.amax(dim=1, keepdim=True)
                    share.sub_(largest)
                    total += largest.sum()
                denominator = share.exp_().sum(dim=1, keepdim=True)
                total += denominator.log().sum()
                weight = scale / x.size(0) / denominator
                if grad_x is not None:
                    grad_x[begin:begin + block_size] = weight * (share @ bank)
                if grad_bank is not None:
                    grad_bank.addmm_(share.t(), weight * rows)
        ctx.save_for_backward(x, bank, grad_x, grad_bank)
        ctx.scale = scale
        return total / x.size(0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        x, bank, grad_x, grad_bank = ctx.saved_tensors
        if torch.is_grad_enabled():  # for second derivatives: the plain formula, which torch differentiates
            share = grad * ctx.scale / x.size(0) * torch.softmax(ctx.scale * x @ bank.t(), dim=1)
            return share @ bank, share.t() @ x, None, None, None
        return *(None if known is None else grad * known for known in (grad_x, grad_bank)), None, None, None
