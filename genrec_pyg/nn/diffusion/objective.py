r"""Training objectives of the reverse model, from logits of the clean row."""
from __future__ import annotations

from typing import TYPE_CHECKING, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.diffusion.states import ItemViews, SparseRows, row_product
from genrec_pyg.ops import info_nce

if TYPE_CHECKING:
    from genrec_pyg.nn.diffusion.flip import FlipProcess, FlipRates

#: Accepted names of objectives.
OBJECTIVES = ('multinomial', 'focal', 'bce', 'squared')


def multinomial_loss(logits: Tensor, rows: SparseRows) -> Tensor:
    r"""Negative multinomial log-likelihood per drawn item (Liang et al., WWW 2018, Eq. 2), mean over rows that have ones.

    .. math::
        -\frac{1}{|\mathbf{x}_0|} \sum_{i \in \mathbf{x}_0} \log \mathrm{softmax}(\mathbf{z})_i

    Args:
        logits: Logits ``[B, I]``.
        rows: Clean rows.
    """
    row, count = rows.row(), rows.count()
    log_likelihood = logits.log_softmax(dim=1)[row, rows.col.long()]
    return -(log_likelihood / count[row]).sum() / (count > 0).sum().clamp(min=1)


def sampled_multinomial(query: Tensor, keys: Tensor, rows: SparseRows, sample: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Multinomial loss with the normalizer estimated from a uniform sample of items, so that a step costs
    :math:`B (S + |\mathbf{x}_0|)` inner products instead of :math:`B I`.

    .. math::
        \hat{Z} = \sum_{i \in \mathbf{x}_0} e^{z_i} + \frac{I - |\mathbf{x}_0|}{|S \setminus \mathbf{x}_0|}
        \sum_{i \in S \setminus \mathbf{x}_0} e^{z_i}

    The ones of a row are always counted, each once, so the loss is bounded below; a sample of all items gives
    :func:`multinomial_loss` (importance sampling of Bengio and Senecal, IEEE Transactions on Neural Networks 2008, with a
    uniform proposal over the zeros).

    Args:
        query: Queries ``[B, q]``.
        keys: Keys ``[I, q]``.
        rows: Clean rows.
        sample: Distinct items ``[S]``, ascending.

    Returns:
        Loss, and the estimated probabilities of the ones ``[nnz]`` and, each standing for several zeros, of the sample
        ``[B, S]``.
    """
    row, col, count = rows.row(), rows.col.long(), rows.count()
    positive = (query[row] * keys[col]).sum(dim=1)
    others = query @ keys[sample].t()
    place = torch.searchsorted(sample, col).clamp(max=sample.numel() - 1)
    hit = sample[place] == col
    others = others.index_put((row[hit], place[hit]), others.new_tensor(-torch.inf))
    drawn = sample.numel() - torch.bincount(row[hit], minlength=rows.num_rows)
    share = ((rows.num_items - count) / drawn.clamp(min=1)).clamp(min=1).to(others.dtype).log().unsqueeze(1)
    others = others + share
    # One padding column of -inf keeps rows without ones or without zeros defined.
    width = int(count.max()) if count.numel() else 0
    ones = others.new_full((rows.num_rows, width), -torch.inf)
    ones = ones.index_put((row, torch.arange(row.numel(), device=row.device) - (count.cumsum(0) - count)[row]), positive)
    log_z = torch.logsumexp(torch.cat([ones, others], dim=1), dim=1)
    log_likelihood = positive - log_z[row]
    loss = -(log_likelihood / count[row]).sum() / (count > 0).sum().clamp(min=1)
    return loss, log_likelihood.exp(), (others - log_z.unsqueeze(1)).exp()


def binary_cross_entropy(logits: Tensor, rows: SparseRows) -> Tensor:
    r"""Bernoulli negative log-likelihood, summed over the items of a row, mean over rows ``[B]``."""
    positive = logits[rows.row(), rows.col.long()].sum()
    return (F.softplus(logits).sum() - positive) / rows.num_rows


def squared_error(estimate: Tensor, rows: SparseRows, weight: Optional[Tensor] = None) -> Tensor:
    r"""Squared error of an estimate of the rows (DiffMM), mean over items and rows.

    .. math::
        \frac{1}{B} \sum_b \frac{w_b}{I} \Vert \mathbf{x}_b - \hat{\mathbf{x}}_b \Vert^2

    Args:
        estimate: Estimate ``[B, I]``.
        rows: Clean rows.
        weight: Weight of every row ``[B]``, ones by default.
    """
    row = rows.row()
    ones = estimate[row, rows.col.long()]
    error = estimate.square().sum(dim=1).index_add(0, row, 1 - 2 * ones)
    return (error if weight is None else weight * error).mean() / rows.num_items


def signal_error(estimate: Tensor, rows: SparseRows, views: ItemViews) -> Tensor:
    r"""Modality signal injection (DiffMM): the features of the estimated items are to meet the embeddings of the true ones.

    .. math::
        \frac{1}{B d} \sum_b \Vert \hat{\mathbf{x}}_b \mathbf{F}_m - \mathbf{x}_b \mathbf{E}_i \Vert^2

    Args:
        estimate: Estimate ``[B, I]``.
        rows: Clean rows.
        views: Item views with ``features`` and ``items``.
    """
    return (estimate @ views.features - row_product(rows, views.items)).square().mean()


def focal_loss(logits: Tensor, rows: SparseRows, alpha: float = 0.25, focusing: float = 2.0) -> Tensor:
    r"""Focal loss (Lin et al., ICCV 2017, Eq. 5) balanced by class frequency, mean over all entries.

    .. math::
        -\frac{1}{BI} \sum_{b, i} \begin{cases} w_1 (1 - p)^{\phi} \log p & x_0 = 1 \\
        w_0 \, p^{\phi} \log(1 - p) & x_0 = 0 \end{cases}, \qquad
        w_1 \propto \alpha / n_1, \quad w_0 \propto (1 - \alpha) / n_0, \quad n_1 w_1 + n_0 w_0 = n_1 + n_0

    Both weights are positive for every :math:`\alpha` in (0, 1). The released GenRec-V1 uses
    :func:`released_focal_loss` instead.

    Args:
        logits: Logits ``[B, I]``.
        rows: Clean rows.
        alpha: Share of the total weight that the ones receive.
        focusing: Exponent :math:`\phi`.

    Raises:
        ConfigError: If ``alpha`` is not in (0, 1).
    """
    if not 0 < alpha < 1:
        raise ConfigError(f'focal alpha: got {alpha}, accepted are numbers in (0, 1)')
    total, ones = logits.numel(), max(rows.col.numel(), 1)
    zeros = max(total - ones, 1)
    return _focal(logits, rows, alpha * total / ones, (1 - alpha) * total / zeros, focusing)


def released_focal_loss(logits: Tensor, rows: SparseRows, focusing: float = 2.0) -> Tensor:
    r"""Focal loss as the released GenRec-V1 computes it: ``a = 0.25 * #zeros / #ones`` on ones and ``1 - a`` on zeros.

    On sparse data ``a`` is far above 1, so the weight of the zeros is negative: the loss rewards predicting 1 everywhere and
    is bounded below only by the clamp of the probabilities. Kept to repeat published numbers.
    """
    ones = max(rows.col.numel(), 1)
    weight = 0.25 * (logits.numel() - ones) / ones
    return _focal(logits.clamp(-16, 16), rows, weight, 1 - weight, focusing)


def _focal(logits: Tensor, rows: SparseRows, weight_one: float, weight_zero: float, focusing: float) -> Tensor:
    all_as_zero = torch.sigmoid(logits).pow(focusing) * F.softplus(logits)
    z = logits[rows.row(), rows.col.long()]
    ones_as_zero = torch.sigmoid(z).pow(focusing) * F.softplus(z)
    ones = torch.sigmoid(-z).pow(focusing) * F.softplus(-z)
    return (weight_one * ones.sum() + weight_zero * (all_as_zero.sum() - ones_as_zero.sum())) / logits.numel()


def clean_probability(logits: Tensor, count: Tensor, objective: str, log_z: Optional[Tensor] = None) -> Tensor:
    r"""Probability ``[B, I]`` that a clean entry is one, as the objective understands its logits.

    Binary objectives: the logistic function. Squared error (the closed-form denoiser, DiffMM): its estimate of the
    expectation, cut to [0, 1]. Multinomial: with ``n`` draws from :math:`\pi = \mathrm{softmax}(\mathbf{z})` an
    item is present with probability :math:`1 - (1 - \pi_i)^n`; ``n`` is the number of ones of the row, at least one.

    Args:
        logits: Logits ``[B, I]``.
        count: Ones per clean row ``[B]``.
        objective: One of :data:`OBJECTIVES`.
        log_z: Logarithm of the multinomial normalizer ``[B, 1]``, where ``logits`` are those of some items only.
    """
    if objective == 'squared':
        return logits.clamp(0, 1)
    if objective != 'multinomial':
        return torch.sigmoid(logits)
    draws = count.clamp(min=1).to(logits.dtype).unsqueeze(1)
    share = logits.softmax(dim=1) if log_z is None else (logits - log_z).exp()
    share = share.clamp(max=1 - 1e-6)
    return -torch.expm1(draws * torch.log1p(-share))


def variational_loss(probability: Tensor, rows: SparseRows, noisy: SparseRows, t: Tensor, rates: FlipRates,
                     process: FlipProcess) -> Tensor:
    r"""Variational term :math:`\sum \mathrm{KL}(q(x_{t-1} | x_t, x_0) \Vert p_\theta(x_{t-1} | x_t))`, mean over rows.

    :math:`p_\theta` is the same posterior averaged over the prediction, so the term is zero for a perfect one. Each row is
    weighted by the curriculum :math:`\min(t / T, 0.5)`, which leaves out rows at the first step.

    Args:
        probability: Predicted :math:`p(x_0 = 1)` ``[B, I]``.
        rows: Clean rows :math:`\mathbf{x}_0`.
        noisy: Noisy rows :math:`\mathbf{x}_t`.
        t: Steps ``[B]``.
        rates: Rates of the batch.
        process: Flip process that gives the posterior.
    """
    num_steps = process.num_steps
    table = torch.zeros(num_steps, 2, 2, dtype=torch.float64)
    for step in range(1, num_steps):
        table[step] = process.posterior(step, rates)
    table = table.to(probability.device, probability.dtype)[t]  # [B, 2, 2]
    weight = (t / num_steps).clamp(max=0.5).to(probability.dtype)

    # Nearly all entries are zero before and after noise; the others are corrected where they stand.
    background = _bernoulli_kl(table[:, 0, 0:1], table[:, 0, 0:1], table[:, 0, 1:2], probability)
    loss = (weight * background.sum(dim=1)).sum()
    touched = torch.unique(torch.cat([rows.row() * rows.num_items + rows.col, noisy.row() * noisy.num_items + noisy.col]))
    row, col = touched // rows.num_items, touched % rows.num_items
    clean, state = rows.contains(row, col).long(), noisy.contains(row, col).long()
    p = probability[row, col]
    target = table[row, state, clean]
    exact = _bernoulli_kl(target, table[row, state, 0], table[row, state, 1], p)
    assumed = _bernoulli_kl(table[row, 0, 0], table[row, 0, 0], table[row, 0, 1], p)
    return (loss + (weight[row] * (exact - assumed)).sum()) / rows.num_rows


def _bernoulli_kl(target: Tensor, if_zero: Tensor, if_one: Tensor, probability: Tensor) -> Tensor:
    tiny = torch.finfo(probability.dtype).tiny
    mixed = (if_zero + (if_one - if_zero) * probability).clamp(tiny, 1 - torch.finfo(probability.dtype).eps)
    return (torch.special.xlogy(target, target) - target * mixed.log()
            + torch.special.xlogy(1 - target, 1 - target) - (1 - target) * torch.log1p(-mixed))


def modality_contrast(profile: Tensor, rows: SparseRows, views: ItemViews, temperature: float = 0.2) -> Tensor:
    r"""Modality-aware contrastive term: :math:`\sum_m \mathrm{InfoNCE}(\mathbf{x}_0 \mathbf{V}_m, \hat{\mathbf{x}}_0
    \mathbf{V}_m)` with :math:`\hat{\mathbf{x}}_0` the prediction itself, so that its gradient reaches the denoiser.

    InfoNCE normalizes rows, so the prediction may be given up to a factor per row: probabilities of binary objectives,
    expected draws of the multinomial one. In the released GenRec-V1 this term stands on a Bernoulli draw and its gradient is
    zero.

    Args:
        profile: Product :math:`\hat{\mathbf{x}}_0 \mathbf{V}` ``[B, M * d]`` of the predicted rows with all views.
        rows: Clean rows; those without a one are left out.
        views: Item views.
        temperature: Temperature.
    """
    filled = rows.count() > 0
    if not bool(filled.any()):  # the mean over zero rows is undefined
        return 0 * profile.sum()
    clean = row_product(rows, views.embedding)[filled]
    generated = profile[filled]
    terms = [info_nce(x, y, temperature) for x, y in zip(clean.chunk(views.num_modalities, dim=1),
                                                         generated.chunk(views.num_modalities, dim=1))]
    return sum(terms)

