r"""The kernel of interactions: EASE with weighted histories and a ridge that grows with
popularity.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.closed_form.kernel import ItemKernel
from genrec_pyg.ops import (
    Adjacency,
    cooccurrence,
    leading_eigenpairs,
    rows_per_block,
    spmm,
    topk_excluding,
)

logger = logging.getLogger(__name__)

#: Share of an item's interactions that the other items may explain, at most: beyond it the weights
#: would explode.
MAX_LEVERAGE = 1 - 1e-4


class InteractionStatistics(NamedTuple):
    r"""Quantities of the training interactions that the kernel needs.

    Args:
        interactions: Matrix :math:`\mathbf{R}` ``[U, I]`` without values.
        user_weight: Weight :math:`d_u^{-2\alpha}` of every user ``[U]``.
        gram_diagonal: Diagonal of
            :math:`\mathbf{G} = \mathbf{R}^{\top} \mathrm{diag}(d_u^{-2\alpha}) \mathbf{R}` ``[I]``.
        degree: Training users per item ``[I]``, at least 1.
    """

    interactions: Adjacency
    user_weight: Tensor
    gram_diagonal: Tensor
    degree: Tensor

    @classmethod
    def of(cls, interactions: Adjacency, row_weight: float = 0.0) -> InteractionStatistics:
        r"""The statistics with :math:`\alpha` = ``row_weight``."""
        degree = interactions.row_degree().clamp(min=1).to(torch.get_default_dtype())
        user_weight = degree.pow(-2 * row_weight)
        diagonal = spmm(interactions.t(), user_weight.unsqueeze(1)).squeeze(1)
        return cls(
            interactions,
            user_weight,
            diagonal,
            interactions.t().row_degree().clamp(min=1).to(degree.dtype),
        )

    def ridge(self, l2: float, power: float = 0.0) -> Tensor:
        r"""Ridge :math:`\Lambda_{ii} = \lambda \, d_i^{2\beta} / \mathrm{mean}(d^{2\beta})`
        ``[I]``, of mean ``l2``.
        """
        shape = self.degree.pow(2 * power)
        return l2 * shape / shape.mean()

    def gram_rows(self, item: Tensor) -> Tensor:
        r"""Rows ``item`` ``[b]`` of the Gram matrix, ``[b, I]``."""
        weighted = bool((self.user_weight != 1).any())
        return cooccurrence(self.interactions, item, self.user_weight if weighted else None)

    def gram(self) -> Tensor:
        r"""The whole Gram matrix ``[I, I]``, float32."""
        num_items = self.interactions.size[1]
        matrix = torch.zeros(num_items, num_items, device=self.user_weight.device)
        for item in torch.arange(num_items, device=matrix.device).split(rows_per_block(num_items)):
            matrix[item] = self.gram_rows(item)
        return matrix

    def gram_product(self, x: Tensor) -> Tensor:
        r"""Product of the Gram matrix and ``x`` ``[I, k]``, without the matrix."""
        common = self.user_weight.unsqueeze(1) * spmm(self.interactions, x)
        return spmm(self.interactions.t(), common)


def interaction_kernel(
    statistics: InteractionStatistics,
    ridge: Tensor,
    max_items: int = 20_000,
    rank: int = 256,
    num_neighbors: int = 20,
) -> ItemKernel:
    r"""The kernel as a dense matrix up to ``max_items`` items, above as low rank plus sparse, which
    the log says.

    Args:
        statistics: Statistics of the training interactions.
        ridge: Ridge :math:`\Lambda_{ii}` ``[I]``, positive.
        max_items: Largest number of items with a dense matrix.
        rank: Rank of the factors above it.
        num_neighbors: Sparse entries per item above it.
    """
    num_items = statistics.interactions.size[1]
    if num_items <= max_items:
        return dense_interaction_kernel(statistics, ridge)
    logger.info(
        '%d items are above max_items=%d: the item-item weights are rank %d plus %d entries '
        'per item',
        num_items,
        max_items,
        rank,
        num_neighbors,
    )
    return low_rank_interaction_kernel(statistics, ridge, rank, num_neighbors)


def dense_interaction_kernel(statistics: InteractionStatistics, ridge: Tensor) -> ItemKernel:
    r"""EASE with a diagonal ridge (`Steck, WWW 2019 <https://arxiv.org/abs/1905.03375>`_, Eq. 8;
    `Steck, NeurIPS 2020 <https://proceedings.neurips.cc/paper/2020/hash/e33d974aae13e4d877477d51d8bafdc4-Abstract.html>`_).

    .. math::
        \mathbf{P} = (\mathbf{G} + \mathbf{\Lambda})^{-1}, \qquad
        B_{ij} = -P_{ij} / P_{jj} \; (i \ne j), \quad B_{jj} = 0

    Holds two matrices ``[I, I]`` at most and takes about :math:`I^3` operations.

    Raises:
        ConfigError: If the ridge is so small that the matrix is singular in float32.
    """
    matrix = inverse_gram(statistics, ridge)
    matrix.div_(-matrix.diagonal().clone()).fill_diagonal_(0)
    return ItemKernel(matrix.size(0), weight=matrix)


def inverse_gram(statistics: InteractionStatistics, ridge: Tensor) -> Tensor:
    r"""The dense inverse :math:`\mathbf{P} = (\mathbf{G} + \mathbf{\Lambda})^{-1}` ``[I, I]``.

    Raises:
        ConfigError: If the matrix is singular in float32.
    """
    # One name throughout: each step frees its input, so that two matrices are the most that is
    # held.
    matrix = statistics.gram()
    matrix.diagonal().add_(ridge)
    try:
        matrix = torch.linalg.cholesky(matrix)
    except torch.linalg.LinAlgError as error:
        raise ConfigError(
            f'l2: got {float(ridge.mean()):.4g}, with which the regularized item matrix is '
            f'singular in float32; accepted are larger numbers'
        ) from error
    return torch.cholesky_inverse(matrix)


def low_rank_interaction_kernel(
    statistics: InteractionStatistics,
    ridge: Tensor,
    rank: int = 256,
    num_neighbors: int = 20,
    num_candidates: int = 200,
    num_iterations: int = 6,
) -> ItemKernel:
    r"""The same kernel as factors plus sparse rows, without a matrix of items x items, see
    :class:`LowRankKernelPath`.

    Args:
        statistics: Statistics of the training interactions.
        ridge: Ridge :math:`\Lambda_{ii}` ``[I]``, positive.
        rank: Eigenpairs.
        num_neighbors: Sparse entries per item, 0 for none.
        num_candidates: Co-occurring items considered per item.
        num_iterations: Subspace iterations.

    Raises:
        ConfigError: If ``rank`` is below 1 or ``num_neighbors`` is negative.
    """
    if rank < 1 or num_neighbors < 0:
        raise ConfigError(
            f'rank, num_neighbors: got {rank}, {num_neighbors}, accepted are integers from 1 '
            f'and from 0'
        )
    num_items, scale = ridge.numel(), ridge.rsqrt().unsqueeze(1)
    pairs = leading_eigenpairs(
        lambda y: scale * statistics.gram_product(scale * y),
        num_items,
        min(rank, num_items),
        num_iterations,
        ridge,
    )
    return LowRankKernelPath(statistics, ridge, *pairs, num_neighbors, num_candidates).kernel(1.0)


class LowRankKernelPath:
    r"""Interaction kernels as factors plus sparse rows, for all ridges :math:`\lambda \mathbf{T}`
    of one shape.

    With :math:`\mathbf{A} = \mathbf{T}^{-1/2} \mathbf{G} \mathbf{T}^{-1/2}` the kernel is a
    function of :math:`f(\mathbf{A}) = \mathbf{A} (\lambda \mathbf{I} + \mathbf{A})^{-1}`:

    .. math::
        B_{ij} = \sqrt{T_{jj} / T_{ii}} \, \frac{f(\mathbf{A})_{ij}}{1 - f(\mathbf{A})_{jj}} \quad
        (i \ne j)

    The leading eigenpairs of :math:`\mathbf{A}` give the factors exactly. On what is left,
    :math:`\mathbf{A}_{\perp} = \mathbf{A} - \mathbf{V} \mathbf{E} \mathbf{V}^{\top}`, whose
    eigenvalues are small, :math:`f` is replaced by the one factor :math:`1 / (\lambda + \bar e)`
    with the mean eigenvalue
    :math:`\bar e = \mathrm{tr}(\mathbf{A}_{\perp}^2) / \mathrm{tr}(\mathbf{A}_{\perp})`. Per item
    the ``num_neighbors`` largest entries of this remainder among its ``num_candidates`` strongest
    co-occurrences are kept, next to the entry that makes the diagonal zero. Memory is
    ``I * (2 * rank + num_neighbors)`` numbers and blocks of 2^23.

    Args:
        statistics: Statistics of the training interactions.
        shape: :math:`T_{ii}` ``[I]``, positive.
        value: Leading eigenvalues of :math:`\mathbf{A}` ``[r]``.
        vector: Their eigenvectors ``[I, r]``.
        num_neighbors: Sparse entries per item, 0 for none.
        num_candidates: Co-occurring items considered per item.
    """

    def __init__(
        self,
        statistics: InteractionStatistics,
        shape: Tensor,
        value: Tensor,
        vector: Tensor,
        num_neighbors: int = 20,
        num_candidates: int = 200,
    ):
        self.value, self.vector = value, vector
        self.scale = shape.rsqrt().unsqueeze(1)
        self.rest, items, others = _residual_entries(
            statistics, self.scale.squeeze(1), vector * value.sqrt(), num_neighbors, num_candidates
        )
        node = torch.arange(shape.numel(), device=shape.device)
        self.edge_index = torch.stack([torch.cat([items, node]), torch.cat([others, node])])
        self.diagonal = (statistics.gram_diagonal / shape - (vector.square() @ value)).clamp(min=0)
        # tr(A^2) - sum of squares of the leading eigenvalues, by the entries and not by their
        # difference, which cancels.
        self.mean = _mean_remaining_eigenvalue(statistics, self.scale, vector, value, self.diagonal)

    def kernel(self, ridge: float) -> ItemKernel:
        r"""The kernel for :math:`\lambda` = ``ridge``."""
        num_items, scale = self.scale.size(0), self.scale
        factor = self.vector * (self.value / (ridge + self.value)).sqrt()
        damping = 1 / (ridge + self.mean)
        leverage = (factor.square().sum(dim=1) + damping * self.diagonal).clamp(max=MAX_LEVERAGE)
        query, key = scale * factor, factor / scale / (1 - leverage).unsqueeze(1)
        items, others = self.edge_index[:, : self.rest.numel()]
        weight = (
            damping
            * self.rest
            * scale.squeeze(1)[others]
            / scale.squeeze(1)[items]
            / (1 - leverage[items])
        )
        weight = torch.cat([weight, -(query * key).sum(dim=1)])
        return ItemKernel(
            num_items,
            query=query,
            key=key,
            neighbors=Adjacency.from_edge_index(self.edge_index, weight, (num_items, num_items)),
        )


def _mean_remaining_eigenvalue(
    statistics: InteractionStatistics,
    scale: Tensor,
    vector: Tensor,
    value: Tensor,
    diagonal: Tensor,
    num_probes: int = 16,
) -> float:
    r"""tr(A_perp^2) / tr(A_perp), the first by random signs (Hutchinson's estimator)."""
    generator = torch.Generator(device='cpu').manual_seed(0)
    signs = (
        torch.randint(0, 2, (diagonal.numel(), num_probes), generator=generator).to(scale) * 2 - 1
    )
    product = scale * statistics.gram_product(scale * signs) - vector @ (
        value.unsqueeze(1) * (vector.t() @ signs)
    )
    return float(product.square().sum() / num_probes / diagonal.sum().clamp(min=1e-12))


def _residual_entries(
    statistics: InteractionStatistics,
    scale: Tensor,
    factor: Tensor,
    num_neighbors: int,
    num_candidates: int,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Largest entries of :math:`\mathbf{A} - \mathbf{F} \mathbf{F}^{\top}` among the co-occurring
    items of each item, without itself: values, items and other items ``[n]``, at most
    ``num_neighbors`` per item.
    """
    num_items = scale.numel()
    found = []
    width = min(num_candidates, num_items - 1)
    rows = max(1, min(rows_per_block(num_items), 2**23 // max(width * factor.size(1), 1)))
    for item in torch.arange(num_items, device=scale.device).split(
        rows if num_neighbors > 0 else num_items
    ):
        if num_neighbors == 0:
            break
        block = statistics.gram_rows(item) * scale * scale[item].unsqueeze(1)
        value, other = topk_excluding(
            block, width, torch.arange(item.numel() + 1, device=item.device), item
        )
        present = value > 0
        other = torch.where(present, other, 0)
        value = value - torch.einsum('br,bcr->bc', factor[item], factor[other])
        value = torch.where(present, value, 0)
        best = value.abs().topk(min(num_neighbors, width), dim=1).indices
        value, other = value.gather(1, best), other.gather(1, best)
        keep = value != 0
        found.append((value[keep], item.unsqueeze(1).expand_as(other)[keep], other[keep]))
    if not found:
        empty = torch.empty(0, dtype=torch.long, device=scale.device)
        return scale.new_empty(0), empty, empty
    return tuple(torch.cat(column) for column in zip(*found))
