r"""Item-based nearest neighbors."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.models.reference.neighborhood import NeighborhoodRecommender
from genrec_pyg.ops import cooccurrence


class ItemKNN(NeighborhoodRecommender):
    r"""Item-based collaborative filtering (Sarwar et al., WWW 2001; shrinkage as in Dacrema et al.,
    RecSys 2019).

    .. math::
        s_{ij} = \frac{\mathbf{R}_{:i} \cdot \mathbf{R}_{:j}}{\Vert \mathbf{R}_{:i} \Vert \Vert
        \mathbf{R}_{:j} \Vert + \mathrm{shrink}}, \qquad
        \mathrm{score}(u, j) = \sum_{i \in \mathbf{R}_u} s_{ij} \, [i \in \mathrm{top}_k(j)]

    Similarities are made in blocks of items and only the ``k`` largest of each item are kept,
    without the item itself.

    Args:
        data: Canonical graph or training graph.
        modalities: Unused; part of the interface of models.
        k: Neighbors per item.
        shrink: Shrinkage.
        block_size: Items per block; fewer where the block would hold more than 2^23 similarities.

    Raises:
        ConfigError: If ``k`` or ``block_size`` is below 1 or ``shrink`` negative.

    Examples:
        >>> from genrec_pyg.nn import ItemKNN
        >>> from genrec_pyg.testing import toy_graph
        >>> ItemKNN(toy_graph(), k=5)
        ItemKNN(users=8, items=7, modalities=[image, text])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        k: int = 100,
        shrink: float = 10.0,
        block_size: int = 1024,
    ):
        super().__init__(data, modalities, k, shrink, block_size)
        self.neighbors = self.nearest(self.similarity)

    def similarity(self, item: Tensor) -> Tensor:
        r"""Similarities ``[b, I]`` by common users."""
        norm = self.graph.item_degree().to(torch.get_default_dtype()).sqrt()
        together = cooccurrence(self.interactions, item)
        return together / (norm[item].unsqueeze(1) * norm + self.shrink).clamp(min=1e-12)
