r"""Item-item graphs that are learned from features, with gradient through the entries that are
kept.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.ops import (
    Adjacency,
    knn_adjacency,
    knn_graph,
    knn_weights,
    sampled_product,
    unit_rows,
)

#: Whether the learned graphs of the modalities are mixed before they are normalized or after it.
GRAPH_MIXES = ('joint', 'separate')


class KeptEntries(NamedTuple):
    r"""Places of a learned graph.

    Args:
        union: All places, of learned and of original graphs; without values.
        learned: Places of the learned graph of each modality; without values.
        learned_place: Where the places of ``learned`` are within ``union``, per modality.
        original_place: Where those of the original graphs are.
    """

    union: Adjacency
    learned: dict[str, Adjacency]
    learned_place: dict[str, Tensor]
    original_place: dict[str, Tensor]


class LearnedItemGraph(GraphModule):
    r"""Nearest-neighbor graph of learned features, mixed with that of the raw ones (LATTICE: Zhang
    et al., MM 2021, https://arxiv.org/abs/2104.09036, Eqs. 1 to 7).

    With :math:`\mathbf{O}_m` the normalized graph of the raw features, made once,
    :math:`\mathbf{Q}_m` the cosines of learned features at their ``k`` nearest neighbors, :math:`N`
    the normalization by row sums on both ends (:func:`~genrec_pyg.ops.knn_weights`) and
    :math:`\mathbf{w}` weights of the modalities,

    .. math::
        \mathbf{S} = (1 - \lambda) \, N \Bigl( \sum_m w_m \mathbf{Q}_m \Bigr)
        + \lambda \sum_m w_m \mathbf{O}_m

    The neighbors are found block by block without gradient (:meth:`select`); :meth:`forward`
    computes the cosines of these pairs alone, with gradient. A cosine that has become negative
    since counts as 0. Every item is its own first neighbor with the constant similarity 1, also one
    that lacks a modality and has no other neighbor in it.

    Args:
        graph: Training graph with at least one modality.
        num_neighbors: Neighbors per item and modality, the item itself included.
        original_weight: :math:`\lambda`.
        mix: ``'joint'``, as above, or ``'separate'`` with :math:`\sum_m w_m N(\mathbf{Q}_m)` as the
            learned part.

    Raises:
        ConfigError: If ``mix`` is unknown or ``original_weight`` is not in [0, 1].
    """

    def __init__(
        self,
        graph: TrainingGraph,
        num_neighbors: int,
        original_weight: float = 0.9,
        mix: str = 'joint',
    ):
        super().__init__()
        if mix not in GRAPH_MIXES:
            raise ConfigError(f'mix: got {mix!r}, accepted are {", ".join(map(repr, GRAPH_MIXES))}')
        if not 0 <= original_weight <= 1:
            raise ConfigError(
                f'original_weight: got {original_weight}, accepted are numbers from 0 to 1'
            )
        self.num_items, self.num_neighbors = graph.num_items, num_neighbors
        self.original_weight, self.mix = original_weight, mix
        self.original = {
            name: knn_adjacency(modality.item_features(), num_neighbors)
            for name, modality in graph.modalities.items()
        }

    @torch.no_grad()
    def select(self, features: dict[str, Tensor]) -> KeptEntries:
        r"""Finds the nearest neighbors in learned ``features`` ``[I, d]`` per modality; nothing
        where :math:`\lambda` is 1.
        """
        size = self.num_items, self.num_items
        learned = (
            {}
            if self.original_weight == 1
            else {
                name: Adjacency.from_edge_index(knn_graph(x, self.num_neighbors)[0], None, size)
                for name, x in features.items()
            }
        )
        graphs = [*learned.values(), *self.original.values()]
        keys = [graph.row() * self.num_items + graph.col for graph in graphs]
        key, place = torch.cat(keys).unique(return_inverse=True)
        places = place.split([len(part) for part in keys])
        union = Adjacency.from_edge_index(
            torch.stack([key // self.num_items, key % self.num_items]), None, size
        )
        return KeptEntries(
            union,
            learned,
            dict(zip(learned, places)),
            dict(zip(self.original, places[len(learned) :])),
        )

    def forward(
        self, features: dict[str, Tensor], weights: Tensor, kept: KeptEntries | None = None
    ) -> Adjacency:
        r"""Returns :math:`\mathbf{S}`.

        Args:
            features: Learned features ``[I, d]`` per modality.
            weights: Weights of the modalities ``[M]``, in their order.
            kept: Places to use; those of ``features`` by default.
        """
        kept = self.select(features) if kept is None else kept
        share = dict(zip(self.original, weights))
        value = weights.new_zeros(kept.union.nnz)
        if kept.learned:
            parts = {
                name: self._similarity(graph, features[name])
                for name, graph in kept.learned.items()
            }
            if self.mix == 'separate':
                parts = {
                    name: self._normalize(kept.learned[name], part) for name, part in parts.items()
                }
            for name, part in parts.items():
                value = value.index_add(0, kept.learned_place[name], share[name] * part)
            value = (1 - self.original_weight) * (
                self._normalize(kept.union, value) if self.mix == 'joint' else value
            )
        for name, graph in self.original.items():
            part = self.original_weight * share[name] * graph.value.to(value.dtype)
            value = value.index_add(0, kept.original_place[name], part)
        return kept.union.with_value(value)

    @staticmethod
    def _similarity(graph: Adjacency, x: Tensor) -> Tensor:
        x = unit_rows(x)
        cosine = sampled_product(graph, x, x).relu()
        return torch.where(graph.row() == graph.col, torch.ones_like(cosine), cosine)

    def _normalize(self, graph: Adjacency, value: Tensor) -> Tensor:
        return knn_weights(graph.to_edge_index()[0], value, self.num_items)
