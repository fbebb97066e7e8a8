r"""Objectives of a denoiser: what its logits of clean rows mean and by which loss they are
learned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.diffusion.states import SparseRows


class Objective(ABC):
    r"""Meaning of logits ``[B, I]`` and the loss that trains them.

    A new objective is a subclass with an entry in :data:`OBJECTIVES`.
    """

    #: Name in settings and in the names of loss terms.
    name: str
    #: Whether the logits are themselves an estimate of the rows, which is weighted by step.
    is_estimate: bool = False

    @abstractmethod
    def loss(self, logits: Tensor, rows: SparseRows, weight: Tensor | None = None) -> Tensor:
        r"""Loss of ``logits`` for the clean rows; ``weight`` ``[B]`` of the rows enters estimates
        only.
        """

    def probability(self, logits: Tensor, count: Tensor, log_z: Tensor | None = None) -> Tensor:
        r"""Probability ``[B, C]`` that a clean entry is one; rises with the logits of a row.

        Args:
            logits: Logits of all or some items ``[B, C]``.
            count: Ones per clean row ``[B]``.
            log_z: What :meth:`log_normalizer` returned for all items, if ``logits`` are those of
                some.
        """
        return torch.sigmoid(logits)

    def log_normalizer(self, logits: Tensor) -> Tensor | None:
        r"""Logarithm of the normalizer ``[B, 1]`` of the logits of all items, where there is
        one.
        """
        return None

    def profile(self, logits: Tensor) -> Tensor:
        r"""Clean rows ``[B, I]`` up to a factor per row that the objective leaves open."""
        return logits.sigmoid()


class Multinomial(Objective):
    r"""Multinomial likelihood
    (`Liang et al., WWW 2018, Eq. 2 <https://arxiv.org/abs/1802.05814>`_).

    With ``n`` draws from :math:`\pi = \mathrm{softmax}(\mathbf{z})` an item is present with
    probability :math:`1 - (1 - \pi_i)^n`; ``n`` is the number of ones of the row, at least one.
    """

    name = 'multinomial'

    def loss(self, logits: Tensor, rows: SparseRows, weight: Tensor | None = None) -> Tensor:
        return multinomial_loss(logits, rows)

    def probability(self, logits: Tensor, count: Tensor, log_z: Tensor | None = None) -> Tensor:
        draws = count.clamp(min=1).to(logits.dtype).unsqueeze(1)
        share = logits.softmax(dim=1) if log_z is None else (logits - log_z).exp()
        share = share.clamp(max=1 - 1e-6)
        return -torch.expm1(draws * torch.log1p(-share))

    def log_normalizer(self, logits: Tensor) -> Tensor:
        return logits.logsumexp(dim=1, keepdim=True)

    def profile(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=1)


class Focal(Objective):
    r"""Focal loss, see :func:`focal_loss`.

    Args:
        alpha: Share of the total weight that the ones receive.
    """

    name = 'focal'

    def __init__(self, alpha: float = 0.25):
        self.alpha = alpha

    def loss(self, logits: Tensor, rows: SparseRows, weight: Tensor | None = None) -> Tensor:
        return focal_loss(logits, rows, self.alpha)


class Bernoulli(Objective):
    r"""Likelihood of independent entries, see :func:`binary_cross_entropy`."""

    name = 'bce'

    def loss(self, logits: Tensor, rows: SparseRows, weight: Tensor | None = None) -> Tensor:
        return binary_cross_entropy(logits, rows)


class SquaredError(Objective):
    r"""Squared error of an estimate (the closed-form denoiser, DiffMM); a probability is the
    estimate of the expectation, cut to [0, 1].
    """

    name = 'squared'
    is_estimate = True

    def loss(self, logits: Tensor, rows: SparseRows, weight: Tensor | None = None) -> Tensor:
        return squared_error(logits, rows, weight)

    def probability(self, logits: Tensor, count: Tensor, log_z: Tensor | None = None) -> Tensor:
        return logits.clamp(0, 1)

    def profile(self, logits: Tensor) -> Tensor:
        return logits


#: Objectives by name.
OBJECTIVES: dict[str, type[Objective]] = {
    objective.name: objective for objective in (Multinomial, Focal, Bernoulli, SquaredError)
}


def multinomial_loss(logits: Tensor, rows: SparseRows) -> Tensor:
    r"""Negative multinomial log-likelihood per drawn item (Liang et al., WWW 2018, Eq. 2), mean
    over rows that have ones.

    .. math::
        -\frac{1}{|\mathbf{x}_0|} \sum_{i \in \mathbf{x}_0} \log \mathrm{softmax}(\mathbf{z})_i

    Args:
        logits: Logits ``[B, I]``.
        rows: Clean rows.
    """
    row, count = rows.row(), rows.count()
    log_likelihood = logits.log_softmax(dim=1)[row, rows.col.long()]
    return -(log_likelihood / count[row]).sum() / (count > 0).sum().clamp(min=1)


def sampled_multinomial(
    query: Tensor, keys: Tensor, rows: SparseRows, sample: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Multinomial loss with the normalizer estimated from a uniform sample of items, so that a
    step costs :math:`B (S + |\mathbf{x}_0|)` inner products instead of :math:`B I`.

    .. math::
        \hat{Z} = \sum_{i \in \mathbf{x}_0} e^{z_i} + \frac{I
        - |\mathbf{x}_0|}{|S \setminus \mathbf{x}_0|} \sum_{i \in S \setminus \mathbf{x}_0} e^{z_i}

    The ones of a row are always counted, each once, so the loss is bounded below; a sample of all
    items gives :func:`multinomial_loss` (importance sampling of Bengio and Senecal, IEEE
    Transactions on Neural Networks 2008, with a uniform proposal over the zeros).

    Args:
        query: Queries ``[B, q]``.
        keys: Keys ``[I, q]``.
        rows: Clean rows.
        sample: Distinct items ``[S]``, ascending.

    Returns:
        Loss, and the estimated probabilities of the ones ``[nnz]`` and, each standing for several
        zeros, of the sample ``[B, S]``.
    """
    row, col, count = rows.row(), rows.col.long(), rows.count()
    positive = (query[row] * keys[col]).sum(dim=1)
    others = query @ keys[sample].t()
    place = torch.searchsorted(sample, col).clamp(max=sample.numel() - 1)
    hit = sample[place] == col
    others = others.index_put((row[hit], place[hit]), others.new_tensor(-torch.inf))
    drawn = sample.numel() - torch.bincount(row[hit], minlength=rows.num_rows)
    share = (
        ((rows.num_items - count) / drawn.clamp(min=1))
        .clamp(min=1)
        .to(others.dtype)
        .log()
        .unsqueeze(1)
    )
    others = others + share
    # One padding column of -inf keeps rows without ones or without zeros defined.
    width = int(count.max()) if count.numel() else 0
    ones = others.new_full((rows.num_rows, width), -torch.inf)
    ones = ones.index_put(
        (row, torch.arange(row.numel(), device=row.device) - (count.cumsum(0) - count)[row]),
        positive,
    )
    log_z = torch.logsumexp(torch.cat([ones, others], dim=1), dim=1)
    log_likelihood = positive - log_z[row]
    loss = -(log_likelihood / count[row]).sum() / (count > 0).sum().clamp(min=1)
    return loss, log_likelihood.exp(), (others - log_z.unsqueeze(1)).exp()


def binary_cross_entropy(logits: Tensor, rows: SparseRows) -> Tensor:
    r"""Bernoulli negative log-likelihood, summed over the items of a row, mean over rows
    ``[B]``.
    """
    positive = logits[rows.row(), rows.col.long()].sum()
    return (F.softplus(logits).sum() - positive) / rows.num_rows


def squared_error(estimate: Tensor, rows: SparseRows, weight: Tensor | None = None) -> Tensor:
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


def focal_loss(
    logits: Tensor, rows: SparseRows, alpha: float = 0.25, focusing: float = 2.0
) -> Tensor:
    r"""Focal loss (Lin et al., ICCV 2017, Eq. 5) balanced by class frequency, mean over all
    entries.

    .. math::
        -\frac{1}{BI} \sum_{b, i} \begin{cases} w_1 (1 - p)^{\phi} \log p & x_0 = 1 \\
        w_0 \, p^{\phi} \log(1 - p) & x_0 = 0 \end{cases}, \qquad w_1 \propto \alpha / n_1, \quad
        w_0 \propto (1 - \alpha) / n_0, \quad n_1 w_1 + n_0 w_0 = n_1 + n_0

    Both weights are positive for every :math:`\alpha` in (0, 1).

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
    return weighted_focal(logits, rows, alpha * total / ones, (1 - alpha) * total / zeros, focusing)


def weighted_focal(
    logits: Tensor, rows: SparseRows, weight_one: float, weight_zero: float, focusing: float = 2.0
) -> Tensor:
    r"""Focal loss with weights of ones and zeros as they are given, mean over all entries
    ``[B, I]``.
    """
    all_as_zero = torch.sigmoid(logits).pow(focusing) * F.softplus(logits)
    z = logits[rows.row(), rows.col.long()]
    ones_as_zero = torch.sigmoid(z).pow(focusing) * F.softplus(z)
    ones = torch.sigmoid(-z).pow(focusing) * F.softplus(-z)
    return (
        weight_one * ones.sum() + weight_zero * (all_as_zero.sum() - ones_as_zero.sum())
    ) / logits.numel()
