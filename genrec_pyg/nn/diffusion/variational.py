r"""Variational term of a two-state diffusion."""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_pyg.nn.diffusion.states import SparseRows


def variational_loss(
    probability: Tensor, rows: SparseRows, noisy: SparseRows, t: Tensor, posterior: Tensor
) -> Tensor:
    r"""Variational term
    :math:`\sum \mathrm{KL}(q(x_{t-1} | x_t, x_0) \Vert p_\theta(x_{t-1} | x_t))`, mean over rows.

    :math:`p_\theta` is the same posterior averaged over the prediction, so the term is zero for a
    perfect one. Each row is weighted by the curriculum :math:`\min(t / T, 0.5)`, which leaves out
    rows at the first step.

    Args:
        probability: Predicted :math:`p(x_0 = 1)` ``[B, I]``.
        rows: Clean rows :math:`\mathbf{x}_0`.
        noisy: Noisy rows :math:`\mathbf{x}_t`.
        t: Steps ``[B]``.
        posterior: Table ``[T, 2, 2]`` of :math:`q(x_{t-1} = 1 | x_t, x_0)`, indexed
            ``[t, x_t, x_0]``; that of the first step is not read.
    """
    table = posterior.to(probability.device, probability.dtype)[t]  # [B, 2, 2]
    weight = (t / posterior.size(0)).clamp(max=0.5).to(probability.dtype)

    # Nearly all entries are zero before and after noise; the others are corrected where they stand.
    background = _bernoulli_kl(table[:, 0, 0:1], table[:, 0, 0:1], table[:, 0, 1:2], probability)
    loss = (weight * background.sum(dim=1)).sum()
    touched = torch.unique(
        torch.cat(
            [rows.row() * rows.num_items + rows.col, noisy.row() * noisy.num_items + noisy.col]
        )
    )
    row, col = touched // rows.num_items, touched % rows.num_items
    clean, state = rows.contains(row, col).long(), noisy.contains(row, col).long()
    p = probability[row, col]
    target = table[row, state, clean]
    exact = _bernoulli_kl(target, table[row, state, 0], table[row, state, 1], p)
    assumed = _bernoulli_kl(table[row, 0, 0], table[row, 0, 0], table[row, 0, 1], p)
    return (loss + (weight[row] * (exact - assumed)).sum()) / rows.num_rows


def _bernoulli_kl(target: Tensor, if_zero: Tensor, if_one: Tensor, probability: Tensor) -> Tensor:
    tiny = torch.finfo(probability.dtype).tiny
    mixed = (if_zero + (if_one - if_zero) * probability).clamp(
        tiny, 1 - torch.finfo(probability.dtype).eps
    )
    return (
        torch.special.xlogy(target, target)
        - target * mixed.log()
        + torch.special.xlogy(1 - target, 1 - target)
        - (1 - target) * torch.log1p(-mixed)
    )
