r"""Streaming InfoNCE."""
from __future__ import annotations

from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(x: Tensor, y: Tensor, temperature: float, bank: Optional[Tensor] = None, positive: Optional[Tensor] = None,
             block_size: int = 4096) -> Tensor:
    r"""InfoNCE of l2-normalised rows, the positive in its own denominator.

    .. math::
        \frac{1}{n} \sum_k \Bigl[ -\frac{\mathbf{x}_k \cdot \mathbf{y}_k}{\tau} + \log \sum_j \exp\Bigl(
        \frac{\mathbf{x}_k \cdot \mathbf{b}_j}{\tau} \Bigr) \Bigr]

    The bank passes in blocks, and backward computes the softmax of a block again, so nothing of size ``n x m`` outlives a
    block. A zero row stays zero.

    Args:
        x: Anchors ``[n, d]``.
        y: Positives ``[n, d]``; :obj:`None` with a bank takes ``bank[positive]``.
        temperature: Temperature :math:`\tau`.
        bank: Candidates ``[m, d]``; the rows of ``y`` by default.
        positive: Row of the bank ``[n]`` that is each anchor's positive.
        block_size: Rows of the bank per block.
    """
    x = F.normalize(x, dim=1)
    if bank is None:
        y = bank = F.normalize(y, dim=1)
    else:
        bank = F.normalize(bank, dim=1)
        y = bank[positive] if y is None else F.normalize(y, dim=1)
    alignment = (x * y).sum(dim=1) / temperature
    return (_LogSumExp.apply(x, bank, 1 / temperature, block_size) - alignment).mean()


class _LogSumExp(torch.autograd.Function):
    r"""Row-wise :math:`\log \sum_j \exp(s \, \mathbf{x}_k \cdot \mathbf{b}_j)` of unit rows.

    Cosines are at most 1, so up to a scale of 60 the sum fits float32 without subtracting a maximum: one pass over a block
    instead of three. A bank of one block keeps its exponentials for backward, a larger one computes them again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, bank: Tensor, scale: float, block_size: int) -> Tensor:
        left, total, share = scale * x, None, None
        for block in bank.split(block_size):
            share = left @ block.t()
            if scale > 60:
                part = share.logsumexp(dim=1)
            else:
                part = share.exp_().sum(dim=1).log_()
            total = part if total is None else torch.logaddexp(total, part)
        if scale > 60 or bank.size(0) > block_size:
            share = None
        ctx.save_for_backward(x, bank, total, share)
        ctx.scale, ctx.block_size = scale, block_size
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        x, bank, total, kept = ctx.saved_tensors
        weight = (grad * ctx.scale).unsqueeze(1)
        if kept is not None:
            weight = weight * (-total).exp().unsqueeze(1)
            return weight * (kept @ bank), kept.t() @ (weight * x), None, None
        grad_x, grad_bank = torch.zeros_like(x), []
        for block in bank.split(ctx.block_size):
            share = ((ctx.scale * x) @ block.t()).sub_(total.unsqueeze(1)).exp_()
            grad_x += share @ block
            grad_bank.append(share.t() @ (weight * x))
        return weight * grad_x, torch.cat(grad_bank), None, None
