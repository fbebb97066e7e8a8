r"""Nearest neighbors by content."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.closed_form import HistoryTerm, content_features
from genrec_pyg.nn.modality.features import concatenated_features, require_modalities
from genrec_pyg.nn.models.reference.neighborhood import NeighborhoodRecommender
from genrec_pyg.ops import rows_per_block


class ItemKNNCBF(NeighborhoodRecommender):
    r"""Content neighbors without training, the bar for every trained model with content (Ferrari
    Dacrema, Cremonesi, Jannach, "Are We Really Making Much Progress?", RecSys 2019,
    https://arxiv.org/abs/1907.06902).

    With the features of all modalities concatenated to :math:`\mathbf{f}_i`,

    .. math::
        s_{ij} = \frac{\mathbf{f}_i \cdot \mathbf{f}_j}{\Vert \mathbf{f}_i \Vert \Vert \mathbf{f}_j
        \Vert + \mathrm{shrink}}, \qquad
        \mathrm{score}(u, j) = \sum_{i \in \mathbf{R}_u} s_{ij} \, [j \in \mathrm{top}_k(i)]

    An item is reached where it is a neighbor of an item that the user chose, not the other way
    round as in :class:`~genrec_pyg.nn.models.reference.item_knn.ItemKNN`. For unit features the
    shrinkage changes no order; for raw ones it favors large norms, as concatenation does between
    modalities. A modality that an item lacks is a block of zeros; an item without any has no
    neighbors. Similarities are taken in float64, in blocks.

    Differences from public implementations: ``docs/parity.md``.

    Args:
        data: Canonical graph or training graph.
        modalities: Modalities to use, at least one.
        k: Neighbors per item.
        shrink: Shrinkage.
        normalize_features: Whether the features of every modality are l2-normalized first, so that
            the cosine is the mean of those of the modalities.
        include_self: Whether an item is its own neighbor.
        block_size: Items per block; fewer where the block would hold more than 2^23 similarities.
        center_features: Whether the mean of the features of every modality is taken off, and they
            are l2-normalized then: features of one sign resemble each other all.
        modality_weights: Weight of each modality up to a common factor, with l2-normalized
            features; 0 switches one off.

    Raises:
        ConfigError: Without a modality, if ``k`` or ``block_size`` is below 1, or ``shrink``
            negative.

    Examples:
        >>> from genrec_pyg.nn import ItemKNNCBF
        >>> from genrec_pyg.testing import toy_graph
        >>> ItemKNNCBF(toy_graph(), k=5)
        ItemKNNCBF(users=8, items=7, modalities=[image, text])
    """

    def __init__(
        self,
        data: HeteroData | TrainingGraph,
        modalities: Iterable[str] | None = None,
        k: int = 10,
        shrink: float = 10.0,
        normalize_features: bool = False,
        include_self: bool = False,
        block_size: int = 1024,
        center_features: bool = False,
        modality_weights: dict[str, float] | None = None,
    ):
        super().__init__(data, modalities, k, shrink, block_size)
        require_modalities(self.graph, 'ItemKNNCBF')
        if center_features or modality_weights is not None:
            features = content_features(self.graph, modality_weights, center_features)
        else:
            features = concatenated_features(self.graph, normalize_features).x
        norm = torch.cat(
            [
                torch.linalg.vector_norm(rows.double(), dim=1)
                for rows in features.split(self.block_size)
            ]
        )
        similarity = partial(content_similarity, features, norm, shrink)
        self.neighbors = self.nearest(similarity, include_self, positive=False).t()

    def history_terms(self) -> tuple[HistoryTerm, ...]:
        r"""The summed similarities of the features to those of the items of a history."""
        return (HistoryTerm(self.kernel, path='content'),)


def content_similarity(x: Tensor, norm: Tensor, shrink: float, item: Tensor) -> Tensor:
    r"""Shrunk cosines ``[b, I]`` of the items ``item`` ``[b]`` and all items, taken in float64.

    Args:
        x: Features ``[I, d]``.
        norm: Norms of their rows ``[I]``, float64.
        shrink: Added to the product of two norms.
        item: Items of this block.
    """
    block = x[item].double()
    # a cast block of them takes no more memory than the scores
    columns = x.split(rows_per_block(x.size(1), x.size(0)))
    product = torch.cat([block @ column.double().t() for column in columns], dim=1)
    return (product / (norm[item].unsqueeze(1) * norm + shrink).clamp(min=1e-12)).to(x.dtype)
