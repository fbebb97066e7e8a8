r"""Losses of DA-MRS: feedback that is weighed, pairs of scores that agree, and graded neighbors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.ops import rows_per_block, unit_rows

#: Added to a share before its logarithm.
_EPS = 1e-9


def weighted_bpr_loss(gap: Tensor, positive_weight: Tensor, negative_weight: Tensor) -> Tensor:
    r"""BPR in both directions, weighed per triple.

    .. math::
        \frac{1}{B} \sum_k \left[ w^+_k \, \mathrm{softplus}(-g_k)
        + w^-_k \, \mathrm{softplus}(g_k) \right]

    Args:
        gap: Score of the positive minus that of the negative ``[B]``.
        positive_weight: :math:`w^+` ``[B]``.
        negative_weight: :math:`w^-` ``[B]``.
    """
    return (positive_weight * F.softplus(-gap) + negative_weight * F.softplus(gap)).mean()


def bernoulli_divergence(users: Tensor, first: Tensor, second: Tensor) -> Tensor:
    r"""Symmetric Kullback-Leibler divergence of the Bernoulli variables with logits
    :math:`a = \mathbf{u} \cdot \mathbf{x}` and :math:`b = \mathbf{u} \cdot \mathbf{y}`, averaged
    over all pairs of user and item.

    .. math::
        \mathrm{KL}(a \Vert b) + \mathrm{KL}(b \Vert a) = (\sigma(a) - \sigma(b)) \, (a - b)

    Users pass in blocks, computed again in backward where there are several.

    Args:
        users: Rows ``[n, d]``.
        first: Rows :math:`\mathbf{x}` of items ``[m, d]``.
        second: Rows :math:`\mathbf{y}` of items ``[m, d]``.
    """

    def total(rows: Tensor) -> Tensor:
        a, b = rows @ first.t(), rows @ second.t()
        return ((a.sigmoid() - b.sigmoid()) * (a - b)).sum()

    blocks = users.split(rows_per_block(4 * first.size(0)))
    terms = (
        [total(users)]
        if len(blocks) == 1
        else [checkpoint(total, rows, use_reentrant=False) for rows in blocks]
    )
    return sum(terms) / max(users.size(0) * first.size(0), 1)


def graded_neighbor_contrast(
    views: Sequence[Tensor],
    anchors: Tensor,
    num_positives: int = 10,
    temperature: float = 0.2,
    present: Sequence[Tensor] | None = None,
) -> Tensor:
    r"""Contrast of every view with positives of two grades, chosen by all views and by the view
    itself (DA-MRS: Xv et al., KDD 2024, https://arxiv.org/abs/2406.12501).

    With :math:`\pi_v(i, j)` the softmax over all items of the cosines in view ``v``, grade 1 are
    the ``p`` items of largest :math:`\sum_{v'} \pi_{v'} + \pi_v`, and grade 2 the ``p`` of largest
    :math:`\pi_v` among the others. With :math:`e_j = \exp(\cos_v(i, j) / \tau)`,

    .. math::
        \ell_{iv} = -\log \frac{\sum_{P_1} e_j}{\sum_j e_j} -
        \log \frac{\sum_{P_2} e_j}{\sum_{j \notin P_1} e_j}

    averaged over anchors and views. The choice has no gradient. Anchors pass in blocks, computed
    again in backward where there are several, so that nothing of size anchors x items is kept.

    Args:
        views: Rows of all items ``[I, d]``, one table per view.
        anchors: Items ``[n]``.
        num_positives: ``p``; at most half of the items.
        temperature: :math:`\tau`.
        present: Per view the items that it knows, boolean ``[I]``; an anchor that a view lacks
            takes no part in it. All by default.

    Raises:
        ConfigError: If ``num_positives`` is below 1 or the temperature not positive.
    """
    if num_positives < 1:
        raise ConfigError(f'num_positives: got {num_positives}, accepted are integers from 1')
    if not temperature > 0:
        raise ConfigError(f'temperature: got {temperature}, accepted are positive numbers')
    banks = [unit_rows(view) for view in views]
    num_items = banks[0].size(0)
    count = min(num_positives, num_items // 2)
    if count == 0 or anchors.numel() == 0:
        return banks[0].sum() * 0
    if present is None:
        present = [torch.ones(num_items, dtype=torch.bool, device=anchors.device)] * len(banks)

    def total(index: Tensor, *tables: Tensor) -> Tensor:
        cosines = [table[index] @ table.t() for table in tables]
        with torch.no_grad():
            shares = [
                cosine.softmax(dim=1) * known[index].unsqueeze(1)
                for cosine, known in zip(cosines, present)
            ]
            together = sum(shares)
        loss = 0
        for cosine, share, known in zip(cosines, shares, present):
            with torch.no_grad():
                first = (together + share).topk(count, dim=1).indices
                second = share.scatter(1, first, -1).topk(count, dim=1).indices
            logits = cosine / temperature
            all_items = logits.logsumexp(dim=1)
            rest = logits.scatter(1, first, -torch.inf).logsumexp(dim=1)
            grades = ((logits.gather(1, first).logsumexp(dim=1) - all_items).exp() + _EPS).log() + (
                (logits.gather(1, second).logsumexp(dim=1) - rest).exp() + _EPS
            ).log()
            loss = loss - (grades * known[index]).sum()
        return loss

    blocks = anchors.split(rows_per_block(4 * len(banks) * num_items))
    terms = (
        [total(anchors, *banks)]
        if len(blocks) == 1
        else [checkpoint(total, index, *banks, use_reentrant=False) for index in blocks]
    )
    return sum(terms) / sum(known[anchors].sum() for known in present).clamp(min=1)
