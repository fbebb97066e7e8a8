r"""Kernels of item features, which score items without interactions as well."""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.closed_form.interaction import MAX_LEVERAGE, InteractionStatistics, inverse_gram
from genrec_pyg.nn.closed_form.kernel import ItemKernel, neighbor_kernel
from genrec_pyg.nn.modality.features import centered_unit_rows, modality_shares
from genrec_pyg.ops import Adjacency, unit_rows


def content_features(
    graph: TrainingGraph, weights: dict[str, float] | None = None, center: bool = True
) -> Tensor:
    r"""Features of all modalities side by side ``[I, sum d_m]``: unit rows times the root of the
    modality's share, so that inner products are weighted means of cosines. A modality of weight 0
    is left out, an item without it has zeros.

    Args:
        graph: Training graph with at least one modality.
        weights: Weight of each modality up to a common factor, see
            :func:`~genrec_pyg.nn.modality.features.modality_shares`.
        center: Whether the mean is taken off first, without which features of one sign resemble
            each other all.
    """
    shares = modality_shares('modality_weights', weights, list(graph.modalities)).tolist()
    normalize = centered_unit_rows if center else unit_rows
    parts = [
        share**0.5 * normalize(modality.item_features())
        for share, modality in zip(shares, graph.modalities.values())
        if share > 0
    ]
    return torch.cat(parts, dim=1)


def content_kernel(x: Tensor, l2: float) -> ItemKernel:
    r"""EASE on features in place of interactions, factored.

    .. math::
        \mathbf{K} = \mathbf{F}^{\top} (\mathbf{F} \mathbf{F}^{\top}
        + \lambda \mathbf{I}_d)^{-1} \mathbf{F}, \qquad
        C_{ij} = \frac{K_{ij}}{1 - K_{jj}} \; (i \ne j), \quad C_{jj} = 0

    with one column of :math:`\mathbf{F}` per item. This is the item-item part that features give in
    Add-EASE
    (`Jeunen, Van Balen, Goethals, RecSys 2020 <https://doi.org/10.1145/3383313.3418480>`_), by the
    inverse of a matrix of features x features in place of items x items.

    Args:
        x: Features ``[I, d]``, the transpose of :math:`\mathbf{F}`.
        l2: Ridge :math:`\lambda`, positive.

    Raises:
        ConfigError: If ``l2`` is not positive.
    """
    if not l2 > 0:
        raise ConfigError(f'content_l2: got {l2}, accepted are positive numbers')
    wide = x.double()
    matrix = wide.t() @ wide
    matrix.diagonal().add_(l2)
    query = torch.linalg.solve_triangular(torch.linalg.cholesky(matrix), wide.t(), upper=False).t()
    leverage = query.square().sum(dim=1).clamp(max=MAX_LEVERAGE)
    key = query / (1 - leverage).unsqueeze(1)
    node = torch.arange(x.size(0), device=x.device)
    diagonal = neighbor_kernel(
        node, node, -(query * key).sum(dim=1).to(x.dtype), x.size(0)
    ).neighbors
    return ItemKernel(
        x.size(0),
        query=query.to(x.dtype).contiguous(),
        key=key.to(x.dtype).contiguous(),
        neighbors=diagonal,
    )


def feature_prior_kernel(
    statistics: InteractionStatistics, ridge: Tensor, content: ItemKernel, strength: float
) -> ItemKernel:
    r"""EASE that is drawn to a kernel of features instead of to zero (the prior of L3AE,
    `Moon et al., CIKM 2025 <https://arxiv.org/abs/2508.13500>`_).

    .. math::
        \min_{\mathrm{diag}(\mathbf{W}) = 0} \Vert \mathbf{X} - \mathbf{X} \mathbf{W} \Vert^2
        + \Vert \mathbf{\Lambda}^{1/2} \mathbf{W} \Vert^2 + \rho \Vert \mathbf{W}
        - \mathbf{C} \Vert^2

    with the rows of :math:`\mathbf{X}` weighted as in :class:`InteractionStatistics`, solved by

    .. math::
        \mathbf{P} = (\mathbf{X}^{\top} \mathbf{X} + \mathbf{\Lambda}
        + \rho \mathbf{I})^{-1}, \qquad
        \mathbf{W} = \mathbf{I} + \rho \mathbf{P} \mathbf{C}
        - \mathbf{P} \, \mathrm{diag} \left( \frac{1
        + \rho \, \mathrm{diag}(\mathbf{P} \mathbf{C})}{\mathrm{diag}(\mathbf{P})} \right)

    Args:
        statistics: Statistics of the training interactions.
        ridge: Ridge :math:`\Lambda_{ii}` ``[I]``.
        content: Kernel :math:`\mathbf{C}` of features as factors plus a diagonal
            (:func:`content_kernel`).
        strength: Strength :math:`\rho` of the prior, from 0.

    Raises:
        ConfigError: If ``strength`` is negative.
    """
    if not strength >= 0:
        raise ConfigError(f'prior_strength: got {strength}, accepted are numbers from 0')
    inverse = inverse_gram(statistics, ridge + strength)
    diagonal = _diagonal(content.neighbors)
    # of a few columns: P C itself would be a third matrix
    product = strength * (inverse @ content.query)
    share = (product * content.key).sum(dim=1) + strength * inverse.diagonal() * diagonal
    gamma = (1 + share) / inverse.diagonal()
    weight = inverse.mul_(strength * diagonal - gamma).addmm_(product, content.key.t())
    return ItemKernel(weight.size(0), weight=weight.fill_diagonal_(0))


def _diagonal(adj: Adjacency) -> Tensor:
    r"""Diagonal ``[I]`` of a diagonal matrix."""
    diagonal = adj.value.new_zeros(adj.size[0])
    diagonal[adj.row()] = adj.value
    return diagonal
