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

    Blocks of the bank pass with a running maximum; backward computes the softmax again, so nothing of size ``n x m`` outlives
    a block. A zero row stays zero.

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
    r"""Row-wise :math:`\log \sum_j \exp(s \, \mathbf{x}_k \cdot \mathbf{b}_j)`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bank: Tensor, scale: float, block_size: int) -> Tensor:
        total = None
        for block in bank.split(block_size):
            part = ((scale * x) @ block.t()).logsumexp(dim=1) if scale > 60 else ((scale * x) @ block.t()).exp_().sum(1).log_()
            total = part if total is None else torch.logaddexp(total, part)
        ctx.save_for_backward(x, bank, total)
        ctx.scale, ctx.block_size = scale, block_size
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Optional[Tensor], ...]:
        x, bank, total = ctx.saved_tensors
        grad_x, grad_bank = torch.zeros_like(x), []
        weight = (grad * ctx.scale).unsqueeze(1)
        # exp(s x.b - total) as a product with one more column, so that the block needs one pass only.
        left = torch.cat([ctx.scale * x, -total.unsqueeze(1)], dim=1)
        for block in bank.split(ctx.block_size):
            share = (left @ torch.cat([block, block.new_ones(block.size(0), 1)], dim=1).t()).exp_()
            grad_x += share @ block
            grad_bank.append(share.t() @ (weight * x))
        return weight * grad_x, torch.cat(grad_bank), None, None
