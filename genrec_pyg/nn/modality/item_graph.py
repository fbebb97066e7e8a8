r"""One frozen item-item graph from the features of several modalities."""
from __future__ import annotations

from typing import Optional

import torch

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.modality.features import modality_shares
from genrec_pyg.ops import Adjacency, knn_adjacency


def mixed_item_graph(graph: TrainingGraph, num_neighbors: int, weights: Optional[dict[str, float]] = None,
                     binary: bool = False) -> Adjacency:
    r"""Weighted mean of the normalized nearest-neighbor graphs of the modalities (LATTICE: Zhang et al., MM 2021; FREEDOM:
    Zhou and Shen, MM 2023).

    .. math::
        \mathbf{S} = \sum_m w_m \mathbf{S}_m, \qquad \sum_m w_m = 1

    In the graph of a modality that it lacks an item has its own edge alone.

    Args:
        graph: Training graph with at least one modality.
        num_neighbors: Neighbors per item and modality, the item itself included.
        weights: Weights :math:`w_m` up to a common factor, see :func:`~genrec_pyg.nn.modality.features.modality_shares`.
        binary: Whether all neighbors count the same or by their similarity.

    Raises:
        ConfigError: If the weights are none.
    """
    shares = modality_shares('modality_weights', weights, list(graph.modalities))
    edges, values = [], []
    for share, modality in zip(shares.tolist(), graph.modalities.values()):
        if share > 0:
            edge_index, value = knn_adjacency(modality.item_features(), num_neighbors, binary).to_edge_index()
            edges.append(edge_index)
            values.append(share * value)
    return Adjacency.from_edge_index(torch.cat(edges, dim=1), torch.cat(values), (graph.num_items, graph.num_items))
