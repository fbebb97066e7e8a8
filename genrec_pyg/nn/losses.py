r"""Losses shared by the models."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bpr_loss(user: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    r"""Bayesian personalised ranking (Rendle et al., UAI 2009).

    .. math::
        \mathcal{L} = \frac{1}{B} \sum_k \mathrm{softplus}\left(
        \mathbf{u}_k \cdot \mathbf{i}^-_k - \mathbf{u}_k \cdot \mathbf{i}^+_k \right)

    Args:
        user: User rows ``[B, d]``.
        positive: Rows of interacted items ``[B, d]``.
        negative: Rows of sampled items ``[B, d]``.

    Returns:
        Scalar, divided by the true size of the batch.
    """
    return F.softplus((user * (negative - positive)).sum(dim=-1)).mean()


def squared_norm(*tables: Tensor) -> Tensor:
    r"""Sum of the squared entries of all ``tables``; times :math:`\lambda` it is the L2 penalty on whole tables."""
    return sum(table.square().sum() for table in tables)
