r"""Streaming InfoNCE."""

from __future__ import annotations

from typing import Any

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

    A row is divided by its largest magnitude first, so that squares neither overflow nor vanish. A
    zero row stays zero. It gets no gradient, and neither does a row whose entries are all within
    ``eps`` of zero, since the gradient grows as one over the norm.
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


def info_nce(
    x: Tensor,
    y: Tensor | None,
    temperature: float,
    bank: Tensor | None = None,
    positive: Tensor | None = None,
    block_size: int = 256,
) -> Tensor:
    r"""InfoNCE of l2-normalized rows, the positive in its own denominator.

    .. math::
        \frac{1}{n} \sum_k \Bigl[ -\frac{\mathbf{x}_k \cdot \mathbf{y}_k}{\tau} +
        \log \sum_j \exp\Bigl( \frac{\mathbf{x}_k \cdot \mathbf{b}_j}{\tau} \Bigr) \Bigr]

    The anchors pass in blocks, and forward takes the gradient along, so nothing of size ``n x m``
    outlives a block (but in second derivatives). A zero row stays zero.

    Args:
        x: Anchors ``[n, d]``.
        y: Positives ``[n, d]``; :obj:`None` with a bank takes ``bank[positive]``.
        temperature: Temperature :math:`\tau`, positive.
        bank: Candidates ``[m, d]``, which must hold the positives; the rows of ``y`` by default.
        positive: Row of the bank ``[n]`` that is each anchor's positive.
        block_size: Anchors per block; fewer where the block would hold more than 2^23 cosines.
            Kernels in Triton have blocks of their own.

    Raises:
        ConfigError: If the temperature is not positive, or not exactly one of ``y`` and
            ``positive`` says what the positives are, one for each anchor.
    """
    if not temperature > 0:
        raise ConfigError(f'temperature: got {temperature}, accepted are positive numbers')
    positives = positive if y is None else y
    if (
        positives is None
        or (y is not None and positive is not None)
        or (y is None and bank is None)
    ):
        raise ConfigError(
            'info_nce: accepted are positives y (with or without a bank), or a bank with the '
            'rows positive'
        )
    if positives.size(0) != x.size(0):
        raise ConfigError(
            f'info_nce: {positives.size(0)} positives for {x.size(0)} anchors, accepted is '
            f'one for each'
        )
    x = unit_rows(x)
    if bank is None:
        y = unit_rows(positives)
    else:
        bank = unit_rows(bank)
        y = bank[positives] if y is None else unit_rows(y)
    return unit_info_nce(x, y, temperature, bank, block_size)


def unit_info_nce(
    x: Tensor,
    y: Tensor,
    temperature: float,
    bank: Tensor | None = None,
    block_size: int = 256,
    excluded: Tensor | None = None,
) -> Tensor:
    r"""As :func:`info_nce`, of rows that :func:`unit_rows` has made already.

    Row ``excluded`` ``[n]`` of the bank is no candidate of an anchor: say the anchor itself, where
    the bank holds it.
    """
    alignment = (x * y).sum(dim=1).mean() / temperature
    bank = y if bank is None else bank
    total = _mean_log_sum_exp(x, bank, 1 / temperature, block_size, excluded=excluded)
    return total - alignment


def softmax_against_bank(
    x: Tensor, y: Tensor, temperature: float, bank: Tensor, block_size: int = 256
) -> Tensor:
    r"""As :func:`info_nce` with a bank of negatives that does not hold the positives: each anchor's
    own is added to it.

    Args:
        x: Anchors ``[n, d]``.
        y: Positives ``[n, d]``.
        temperature: Temperature :math:`\tau`, positive.
        bank: Negatives that all anchors share ``[m, d]``.
        block_size: As in :func:`info_nce`.

    Raises:
        ConfigError: If the temperature is not positive.
    """
    if not temperature > 0:
        raise ConfigError(f'temperature: got {temperature}, accepted are positive numbers')
    x, y, bank = unit_rows(x), unit_rows(y), unit_rows(bank)
    positive = (x * y).sum(dim=1) / temperature
    return _mean_log_sum_exp(x, bank, 1 / temperature, block_size, positive) - positive.mean()


def _mean_log_sum_exp(
    x: Tensor,
    bank: Tensor,
    scale: float,
    block_size: int,
    own: Tensor | None = None,
    excluded: Tensor | None = None,
) -> Tensor:
    if (
        excluded is None
        and prefers_triton(x)
        and x.dtype == bank.dtype == torch.float32
        and x.numel() > 0
        and bank.size(0) > 0
    ):
        kernels = triton_kernels()
        if x.size(1) <= kernels.MAX_CHANNELS:
            total = kernels.log_sum_exp(x, bank, scale)
            return (total if own is None else torch.logaddexp(total, own)).mean()
    needs_grad = tuple(
        torch.is_grad_enabled() and given is not None and given.requires_grad
        for given in (x, bank, own)
    )
    return _MeanLogSumExp.apply(
        x, bank, own, excluded, scale, rows_per_block(bank.size(0), block_size), needs_grad
    )


class _MeanLogSumExp(torch.autograd.Function):
    r"""Mean of the row-wise
    :math:`\log (\exp(o_k) + \sum_j \exp(s \, \mathbf{x}_k \cdot \mathbf{b}_j))` of unit rows, the
    first term where there are ``own`` logits, which are at most ``s``; a sum leaves out the row
    of the bank that ``excluded`` names for it.

    Being a mean, it knows its gradient up to one factor already in forward, while a block's
    exponentials are at hand: they are neither kept for backward nor computed again. Cosines are at
    most 1, so up to a scale of 60 the sum fits float32 without subtracting a maximum.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bank: Tensor,
        own: Tensor | None,
        excluded: Tensor | None,
        scale: float,
        block_size: int,
        needs_grad: tuple[bool, bool, bool],
    ) -> Tensor:
        total = x.new_zeros(())
        grad_x = torch.empty_like(x) if needs_grad[0] else None
        grad_bank = torch.zeros_like(bank) if needs_grad[1] else None
        grad_own = torch.empty_like(own) if own is not None and needs_grad[2] else None
        with full_precision(x):  # bfloat16 cosines over a small temperature are too coarse
            for begin in range(0, x.size(0), block_size):
                block = slice(begin, begin + block_size)
                rows = x[block]
                share = (scale * rows) @ bank.t()
                if excluded is not None:
                    share.scatter_(1, excluded[block].unsqueeze(1), -torch.inf)
                extra = None if own is None else own[block].unsqueeze(1)
                if scale > _PLAIN_SCALE:
                    largest = (
                        share.amax(dim=1, keepdim=True)
                        if bank.size(0) > 0
                        else rows.new_full((1, 1), -torch.inf)
                    )
                    if extra is not None:
                        largest = torch.maximum(largest, extra)
                        extra = extra - largest
                    share.sub_(largest)
                    total += largest.expand(rows.size(0), 1).sum()
                denominator = share.exp_().sum(dim=1, keepdim=True)
                if extra is not None:
                    extra = extra.exp()
                    denominator += extra
                total += denominator.log().sum()
                weight = scale / x.size(0) / denominator
                if grad_x is not None:
                    grad_x[block] = weight * (share @ bank)
                if grad_bank is not None:
                    grad_bank.addmm_(share.t(), weight * rows)
                if grad_own is not None and extra is not None:
                    grad_own[block] = (extra / denominator).squeeze(1) / x.size(0)
        ctx.save_for_backward(x, bank, own, excluded, grad_x, grad_bank, grad_own)
        ctx.scale = scale
        return total / x.size(0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, bank, own, excluded, *known = ctx.saved_tensors
        # for second derivatives: the plain formula, which torch differentiates
        if torch.is_grad_enabled():
            logit = ctx.scale * x @ bank.t()
            if excluded is not None:
                logit = logit.scatter(1, excluded.unsqueeze(1), -torch.inf)
            if own is not None:
                logit = torch.cat([logit, own.unsqueeze(1)], dim=1)
            share = grad / x.size(0) * torch.softmax(logit, dim=1)
            of_bank = ctx.scale * share[:, : bank.size(0)]
            return (
                of_bank @ bank,
                of_bank.t() @ x,
                None if own is None else share[:, -1],
                None,
                None,
                None,
                None,
            )
        gradients = (None if found is None else grad * found for found in known)
        return *gradients, None, None, None, None
