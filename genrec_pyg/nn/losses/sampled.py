r"""Losses of a target among sampled, shared, in-batch or all items."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus
from torch.utils.checkpoint import checkpoint

from genrec_pyg.ops import rows_per_block, softmax_against_bank
from genrec_pyg.utils.precision import full_precision, widened

#: Score of what is no candidate. Finite, so that rows without any candidate have finite gradients.
NO_CANDIDATE = -1e30


def sampled_softmax(
    positive: Tensor,
    negative: Tensor,
    log_q_positive: Tensor | None = None,
    log_q_negative: Tensor | None = None,
    mask: Tensor | None = None,
    beta: float = 0.0,
    detach_weights: bool = False,
) -> Tensor:
    r"""Cross-entropy of a target among sampled negatives, hard ones weighing more on request.

    With scores corrected by the proposal, :math:`x = s - \log q` (Bengio and Senecal, AISTATS
    2003), and the weights of REMI (Xie et al., RecSys 2023,
    https://doi.org/10.1145/3604915.3608766), which have the mean 1,

    .. math::
        \ell = -x^+ + \log \Bigl( e^{x^+} + \sum_j w_j e^{x_j} \Bigr), \qquad
        w_j = \frac{n \exp(\beta s_j)}{\sum_i \exp(\beta s_i)}

    It stays finite where the exponentials would not.

    Args:
        positive: Scores of the targets ``[...]``.
        negative: Scores of the negatives ``[..., n]``.
        log_q_positive: Log probability of the target under the proposal, broadcast to ``positive``.
        log_q_negative: Log probability of the negatives, broadcast to ``negative``; a constant
            cancels against that of the target.
        mask: Negatives that do not count, boolean, broadcast to ``negative``.
        beta: :math:`\beta`; 0 weighs all negatives alike.
        detach_weights: Whether the weights are constants for the gradient.

    Returns:
        One loss per target ``[...]``, at least float32.
    """
    positive, negative = widened(positive), widened(negative)
    target = positive if log_q_positive is None else positive - log_q_positive
    logit = negative if log_q_negative is None else negative - log_q_negative
    if mask is not None:
        mask = mask.expand_as(negative)
        logit = logit.masked_fill(mask, NO_CANDIDATE)
    if beta != 0:
        hardness = beta * negative
        count = torch.full_like(positive, negative.size(-1))
        if mask is not None:
            hardness = hardness.masked_fill(mask, NO_CANDIDATE)
            count = (~mask).sum(dim=-1).clamp(min=1).to(positive)
        weight = hardness - hardness.logsumexp(dim=-1, keepdim=True) + count.log().unsqueeze(-1)
        logit = logit + (weight.detach() if detach_weights else weight)
        if mask is not None:
            logit = logit.masked_fill(mask, NO_CANDIDATE)
    return torch.logaddexp(target, logit.logsumexp(dim=-1)) - target


def shared_negatives_softmax(
    user: Tensor, positive: Tensor, negative: Tensor, temperature: float
) -> Tensor:
    r"""Sampled softmax over cosine scores, with negatives that all rows share
    (`Wu et al., "On the Effectiveness of Sampled Softmax Loss for Item Recommendation", TOIS 2024 <https://arxiv.org/abs/2201.02327>`_).

    .. math::
        \mathcal{L} = -\frac{1}{B} \sum_k \log \frac{\exp(\cos(\mathbf{u}_k, \mathbf{i}^+_k) /
        \tau)} {\exp(\cos(\mathbf{u}_k, \mathbf{i}^+_k) / \tau)
        + \sum_{j=1}^{n} \exp(\cos(\mathbf{u}_k, \mathbf{i}_j) / \tau)}

    Args:
        user: User rows ``[B, d]``.
        positive: Rows of interacted items ``[B, d]``.
        negative: Rows of sampled items ``[n, d]``.
        temperature: Temperature :math:`\tau`.

    Returns:
        Scalar, at least float32.
    """
    return softmax_against_bank(user, positive, temperature, negative)


def softmax_over_items(query: Tensor, item: Tensor, target: Tensor) -> Tensor:
    r"""Cross-entropy of targets among all items, in blocks whose scores backward computes again:
    nothing of size ``P x I`` outlives a block.

    Args:
        query: Queries ``[P, d]``, whose scores are inner products.
        item: Rows of all items ``[I, d]``.
        target: Items ``[P]``.

    Returns:
        One loss per query ``[P]``.
    """

    def of_rows(query: Tensor, target: Tensor) -> Tensor:
        scores = query @ item.t()
        return cross_entropy(widened(scores), target, reduction='none')

    return in_row_blocks(of_rows, (query, target), item.size(0))


def in_row_blocks(
    function: Callable[..., Tensor], columns: tuple[Tensor, ...], num_candidates: int
) -> Tensor:
    r"""Results ``[P]`` of ``function`` on blocks of rows, backward computing a block again where
    there are several.

    Args:
        function: Takes rows of all ``columns``, returns one number per row.
        columns: Tensors of ``P`` rows.
        num_candidates: Scores that a row needs, which says how many rows a block has.
    """
    size = rows_per_block(num_candidates, max(columns[0].size(0), 1))
    if columns[0].size(0) <= size:
        return function(*columns)
    blocks = zip(*(column.split(size) for column in columns))
    return torch.cat([checkpoint(function, *block, use_reentrant=False) for block in blocks])


def logistic_loss(positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Binary cross-entropy of targets and negatives, both counting once per target: with all
    scores 0 it is :math:`2 \ln 2` (SASRec: Kang and McAuley, ICDM 2018, Eq. 7,
    https://arxiv.org/abs/1808.09781).

    Args:
        positive: Scores of the targets ``[P]``.
        negative: Scores of their negatives ``[P, n]``, which share the weight of one.
        mask: Negatives that do not count, boolean ``[P, n]``.

    Returns:
        Scalar mean over targets.
    """
    positive, negative = softplus(-widened(positive)), softplus(widened(negative))
    if mask is None:
        return positive.mean() + negative.mean()
    kept = ~mask
    share = (negative * kept).sum(dim=-1) / kept.sum(dim=-1).clamp(min=1)
    return positive.mean() + share.mean()


def in_batch_softmax(
    query: Tensor,
    row: Tensor,
    target: Tensor,
    window: Tensor,
    item_rows: Callable[[Tensor], Tensor],
    log_popularity: Tensor,
) -> Tensor:
    r"""Cross-entropy of targets among the items of the other windows of a batch, corrected for
    their popularity (https://github.com/westlake-repl/IDvs.MoRec, after Yi et al., RecSys 2019).

    .. math::
        \ell = -z_t + \log \Bigl( e^{z_t} + \sum_{j \in \text{batch},\, j \notin S_u} e^{z_j}
        \Bigr), \qquad z_j = \mathbf{h} \cdot \mathbf{e}_j - \log p_j

    All items :math:`S_u` of the own window are left out, later ones too; an item that occurs in
    several other places counts as often. The sum runs over distinct items, so memory is ``P`` times
    their number.

    Args:
        query: Queries :math:`\mathbf{h}` ``[P, d]``.
        row: Window of each query ``[P]``.
        target: Their targets ``[P]``, items of their windows.
        window: Items of all windows ``[B, L + 1]``, padded by ``I``.
        item_rows: Gives the rows of items.
        log_popularity: :math:`\log p` of all items ``[I]``.

    Returns:
        One loss per query ``[P]``.
    """
    num_items = log_popularity.numel()
    owner, place = (window < num_items).nonzero(as_tuple=True)
    distinct, number, count = window[owner, place].unique(return_inverse=True, return_counts=True)
    member = torch.zeros(window.size(0), distinct.numel(), dtype=torch.bool, device=window.device)
    member[owner, number] = True
    rows = item_rows(distinct)
    log_q = log_popularity[distinct] - count.log().to(log_popularity)
    column = torch.searchsorted(distinct, target.contiguous())
    log_q_target = log_popularity[target]

    def of_rows(query: Tensor, row: Tensor, column: Tensor, log_q_target: Tensor) -> Tensor:
        scores = query @ rows.t()
        positive = scores.gather(1, column.unsqueeze(1)).squeeze(1)
        return sampled_softmax(positive, scores, log_q_target, log_q, member[row])

    with full_precision(query):
        return in_row_blocks(of_rows, (widened(query), row, column, log_q_target), distinct.numel())
