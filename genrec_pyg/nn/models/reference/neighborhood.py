r"""Base class of the models of nearest items."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.closed_form import HistoryTerm, ItemKernel, nearest_items
from genrec_pyg.nn.models.history import HistoryRecommender
from genrec_pyg.ops import Adjacency, rows_per_block


class NeighborhoodRecommender(HistoryRecommender):
    r"""Scores an item by its similarities to the items of a history.

    .. math::
        \mathrm{score}(u, j) = \sum_{i \in \mathbf{R}_u} w_{ji}

    A subclass sets ``neighbors``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use.
        k: Neighbors per item.
        shrink: Shrinkage.
        block_size: Items per block; fewer where the block would hold more than 2^23 similarities.

    Attributes:
        neighbors: Similarities :math:`w_{ji}` ``[I, I]``, sparse.

    Raises:
        ConfigError: If ``k`` or ``block_size`` is below 1 or ``shrink`` negative.
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None,
        k: int,
        shrink: float,
        block_size: int,
    ):
        super().__init__(data, modalities)
        for name, value in (('k', k), ('block_size', block_size)):
            if value < 1:
                raise ConfigError(f'{name}: got {value}, accepted are integers from 1')
        if not shrink >= 0:
            raise ConfigError(f'shrink: got {shrink}, accepted are numbers from 0')
        self.k, self.shrink, self.block_size = k, shrink, rows_per_block(self.num_items, block_size)

    def nearest(
        self,
        similarity: Callable[[Tensor], Tensor],
        include_self: bool = False,
        positive: bool = True,
    ) -> Adjacency:
        r"""The ``k`` largest similarities of every item ``[I, I]``; arguments as in
        :func:`~genrec_pyg.nn.closed_form.nearest_items`.
        """
        return nearest_items(
            similarity,
            self.num_items,
            self.k,
            self.block_size,
            include_self,
            positive,
            self.interactions.device,
        )

    @property
    def kernel(self) -> ItemKernel:
        r"""The similarities as a kernel from history to scored items."""
        return ItemKernel(self.num_items, neighbors=self.neighbors)

    def history_terms(self) -> tuple[HistoryTerm, ...]:
        r"""The summed similarities to the items of a history."""
        return (HistoryTerm(self.kernel),)
