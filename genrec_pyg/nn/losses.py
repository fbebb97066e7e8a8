r"""Losses shared by the models."""
from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from genrec_pyg.ops import info_nce
from genrec_pyg.processes import batch_rows


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
    :func:`genrec_pyg.ops.info_nce`. Where processes share a batch (:func:`genrec_pyg.processes.shared_batch`), the groups are
    those of the whole batch and the mean runs over the anchors of this process.

    Args:
        x: Anchors ``[B, d]``.
        y: Positives ``[B, d]``; those of the other rows of a group are its negatives.
        temperature: Temperature :math:`\tau`.
        group_size: Wanted rows per group.

    Returns:
        Scalar mean over all rows.
    """
    bank, first = batch_rows(y)
    num_rows = bank.size(0)
    num_groups = max(1, round(num_rows / group_size))
    length = -(-num_rows // num_groups)
    terms = []
    for begin in range(0, num_rows, length):
        low, high = max(begin - first, 0), min(begin + length - first, x.size(0))
        if low < high:
            # In one process the bank is the positives themselves, which need no second normalisation.
            candidates = None if bank is y else bank[begin:begin + length]
            terms.append(info_nce(x[low:high], y[low:high], temperature, candidates) * (high - low))
    return sum(terms) / x.size(0)
