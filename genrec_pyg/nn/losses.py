r"""Losses shared by the models."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from genrec_pyg.ops import info_nce


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


def grouped_info_nce(x: Tensor, y: Tensor, temperature: float, group_size: int) -> Tensor:
    r"""In-batch InfoNCE within groups of rows, so that its cost grows linearly with the batch.

    Rows are cut into equal groups of about ``group_size`` in the order of the batch, which is random; with one group it is
    :func:`genrec_pyg.ops.info_nce`.

    Args:
        x: Anchors ``[B, d]``.
        y: Positives ``[B, d]``; those of the other rows of a group are its negatives.
        temperature: Temperature :math:`\tau`.
        group_size: Wanted rows per group.

    Returns:
        Scalar mean over all rows.
    """
    num_groups = max(1, round(x.size(0) / group_size))
    terms = [info_nce(a, b, temperature) * a.size(0) for a, b in zip(x.chunk(num_groups), y.chunk(num_groups))]
    return sum(terms) / x.size(0)
