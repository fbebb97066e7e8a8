r"""EASE, the closed-form linear autoencoder, and its weighted forms."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.closed_form import (
    HistoryTerm,
    InteractionStatistics,
    ItemKernel,
    interaction_kernel,
)
from genrec_pyg.nn.models.history import HistoryRecommender


class EASE(HistoryRecommender):
    r"""Embarrassingly shallow autoencoder (`Steck, WWW 2019 <https://arxiv.org/abs/1905.03375>`_,
    Eq. 8).

    .. math::
        \mathbf{P} = (\mathbf{R}^{\top} \mathbf{W} \mathbf{R} + \mathbf{\Lambda})^{-1}, \qquad
        B_{ij} = -\frac{P_{ij}}{P_{jj}} \; (i \ne j), \quad B_{jj} = 0, \qquad
        \mathrm{score}_{uj} = d_j^{-q} \, (\mathbf{R} \mathbf{B})_{uj}

    With the defaults :math:`\mathbf{W} = \mathbf{I}`,
    :math:`\mathbf{\Lambda} = \lambda \mathbf{I}`, :math:`q = 0` it is EASE. Three numbers make it
    more general: users of long histories count less, :math:`W_{uu} = d_u^{-2\alpha}`; the ridge
    grows with popularity, :math:`\Lambda_{ii} = \lambda d_i^{2\beta} / \mathrm{mean}(d^{2\beta})`,
    where :math:`\beta = 0.5` is the ridge of denoising by dropout (EDLAE:
    `Steck, NeurIPS 2020 <https://proceedings.neurips.cc/paper/2020/hash/e33d974aae13e4d877477d51d8bafdc4-Abstract.html>`_);
    and popular items are discounted by :math:`q`.

    Up to ``max_items`` items the matrix is dense, the exception among the models of this package;
    above, it is kept as low rank plus sparse
    (:func:`~genrec_pyg.nn.closed_form.low_rank_interaction_kernel`).

    Args:
        data: Canonical graph or training graph.
        modalities: Unused; part of the interface of models.
        l2: Mean :math:`\lambda` of the ridge, positive.
        row_weight: Power :math:`\alpha` of the user degree.
        ridge_power: Power :math:`\beta` of the item degree in the ridge.
        popularity_discount: Power :math:`q` of the item degree in the score; negative values favor
            popular items.
        max_items: Largest number of items with a dense matrix.
        rank: Rank of the factors above it.
        num_neighbors: Sparse entries per item above it.

    Raises:
        ConfigError: If ``l2`` is not positive or so small that the matrix is singular in float32.

    Examples:
        >>> from genrec_pyg.nn import EASE
        >>> from genrec_pyg.testing import toy_graph
        >>> EASE(toy_graph(), l2=10.0)
        EASE(users=8, items=7, modalities=[image, text])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        l2: float = 50.0,
        row_weight: float = 0.0,
        ridge_power: float = 0.0,
        popularity_discount: float = 0.0,
        max_items: int = 20_000,
        rank: int = 256,
        num_neighbors: int = 20,
    ):
        super().__init__(data, modalities)
        if not l2 > 0:
            raise ConfigError(f'l2: got {l2}, accepted are positive numbers')
        self.popularity_discount = popularity_discount
        self.max_items, self.rank, self.num_neighbors = max_items, rank, num_neighbors
        statistics = InteractionStatistics.of(self.interactions, row_weight)
        self.kernel = self._fit(statistics, statistics.ridge(l2, ridge_power))

    def _fit(self, statistics: InteractionStatistics, ridge: Tensor) -> ItemKernel:
        return interaction_kernel(statistics, ridge, self.max_items, self.rank, self.num_neighbors)

    @property
    def weight(self) -> Tensor | None:
        r"""The dense matrix ``[I, I]``, where there is one."""
        return self.kernel.weight

    def history_terms(self) -> tuple[HistoryTerm, ...]:
        r"""The kernel with the discount of popular items."""
        factor = None
        if self.popularity_discount != 0:
            degree = self.graph.item_degree().clamp(min=1).to(torch.get_default_dtype())
            factor = degree.pow(-self.popularity_discount)
        return (HistoryTerm(self.kernel, item_weight=factor),)
