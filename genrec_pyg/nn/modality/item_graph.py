r"""Frozen item-item graphs from the features of several modalities and from interactions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.modality.features import modality_shares
from genrec_pyg.ops import (
    Adjacency,
    cooccurrence_graph,
    knn_adjacency,
    knn_weights,
    rows_per_block,
    topk_excluding,
    unit_rows,
)


def mixed_item_graph(
    graph: TrainingGraph,
    num_neighbors: int,
    weights: dict[str, float] | None = None,
    binary: bool = False,
) -> Adjacency:
    r"""Weighted mean of the normalized nearest-neighbor graphs of the modalities (LATTICE: Zhang et
    al., MM 2021; FREEDOM: Zhou and Shen, MM 2023).

    .. math::
        \mathbf{S} = \sum_m w_m \mathbf{S}_m, \qquad \sum_m w_m = 1

    In the graph of a modality that it lacks an item has its own edge alone.

    Args:
        graph: Training graph with at least one modality.
        num_neighbors: Neighbors per item and modality, the item itself included.
        weights: Weights :math:`w_m` up to a common factor, see
            :func:`~genrec_pyg.nn.modality.features.modality_shares`.
        binary: Whether all neighbors count the same or by their similarity.

    Raises:
        ConfigError: If the weights are none.
    """
    shares = modality_shares('modality_weights', weights, list(graph.modalities))
    edges, values = [], []
    for share, modality in zip(shares.tolist(), graph.modalities.values()):
        if share > 0:
            edge_index, value = knn_adjacency(
                modality.item_features(), num_neighbors, binary
            ).to_edge_index()
            edges.append(edge_index)
            values.append(share * value)
    return Adjacency.from_edge_index(
        torch.cat(edges, dim=1), torch.cat(values), (graph.num_items, graph.num_items)
    )


def max_item_graph(graphs: Sequence[Adjacency]) -> Adjacency:
    r"""Union of item-item graphs with the largest value that an entry has in any of them (SMORE:
    Ong and Khong, WSDM 2025, https://arxiv.org/abs/2412.14978).

    Args:
        graphs: Graphs ``[I, I]``, at least one.
    """
    size = graphs[0].size
    entries = [graph.to_edge_index() for graph in graphs]
    key, place = torch.cat([row * size[1] + col for (row, col), _ in entries]).unique(
        return_inverse=True
    )
    value = torch.cat([value for _, value in entries])
    value = value.new_empty(key.numel()).scatter_reduce_(
        0, place, value, 'amax', include_self=False
    )
    return Adjacency.from_edge_index(torch.stack([key // size[1], key % size[1]]), value, size)


@torch.no_grad()
def consistent_item_graphs(
    graph: TrainingGraph, num_neighbors: int, block_size: int = 256
) -> dict[str, Adjacency]:
    r"""Nearest neighbors among the items that are similar in **every** modality (DA-MRS: Xv et al.,
    KDD 2024, https://arxiv.org/abs/2406.12501).

    Two items are consistent if in each modality their cosine is at least the mean over all pairs,
    :math:`\Vert \frac{1}{I} \sum_i \hat{\mathbf{x}}_{m,i} \Vert^2`. The graph of a modality links
    an item with itself and with the consistent items that are most similar in that modality, all
    alike, normalized by row degrees on both ends. Cosines are taken in blocks of rows, of which
    only the neighbors are kept.

    An item that lacks a modality has no say there: its pairs pass, and in the graph of that
    modality it has itself alone.

    Args:
        graph: Training graph with at least one modality.
        num_neighbors: Neighbors per item and modality at most, the item itself included.
        block_size: Rows per block; fewer where the blocks of all modalities would hold more than
            2^22 cosines.

    Returns:
        Graph ``[I, I]`` of every modality.

    Raises:
        ConfigError: If ``num_neighbors`` is less than 1.
    """
    if num_neighbors < 1:
        raise ConfigError(f'num_neighbors: got {num_neighbors}, accepted are integers from 1')
    num_items = graph.num_items
    rows = {
        name: unit_rows(modality.item_features().double())
        for name, modality in graph.modalities.items()
    }
    present = {name: x.any(dim=1) for name, x in rows.items()}  # a zero row has no cosine either
    mean = {
        name: float(x[present[name]].mean(dim=0).square().sum())
        if bool(present[name].any())
        else 0.0
        for name, x in rows.items()
    }
    node = torch.arange(num_items, device=graph.edge_index.device)
    width = min(num_neighbors, num_items)
    neighbors: dict[str, list[Tensor]] = {name: [] for name in rows}
    for row in node.split(rows_per_block(2 * (len(rows) + 1) * num_items, block_size)):
        consistent = torch.ones(row.numel(), num_items, dtype=torch.bool, device=node.device)
        cosines = {}
        for name, x in rows.items():
            cosines[name] = x[row] @ x.t()
            both = present[name][row].unsqueeze(1) & present[name]
            consistent &= (cosines[name] >= mean[name]) | ~both
        for name, cosine in cosines.items():
            cosine.masked_fill_(
                ~(consistent & present[name]) | ~present[name][row].unsqueeze(1), -torch.inf
            )
            # first, whatever rounding says
            cosine[torch.arange(row.numel(), device=node.device), row] = torch.inf
            neighbors[name].append(topk_excluding(cosine, width)[1])
    return {name: _mean_graph(torch.cat(blocks), num_items) for name, blocks in neighbors.items()}


def _mean_graph(neighbor: Tensor, num_items: int) -> Adjacency:
    r"""Graph of the neighbors ``[I, k]``, all alike; the id ``I`` stands for none."""
    kept = neighbor < num_items
    row = torch.arange(num_items, device=neighbor.device).unsqueeze(1).expand_as(neighbor)[kept]
    edge_index = torch.stack([row, neighbor[kept]])
    value = knn_weights(edge_index, torch.ones(row.numel(), device=row.device), num_items)
    return Adjacency.from_edge_index(edge_index, value, (num_items, num_items))


def behavior_item_graph(
    graph: TrainingGraph, num_neighbors: int, min_common_users: int
) -> Adjacency:
    r"""Every item and those with which it shares most users, all alike, normalized by row degrees
    on both ends (DA-MRS: Xv et al., KDD 2024, https://arxiv.org/abs/2406.12501).

    Args:
        graph: Training graph.
        num_neighbors: Neighbors per item at most, the item itself not counted.
        min_common_users: Fewest common users of neighbors.

    Returns:
        Graph ``[I, I]``.

    Raises:
        ConfigError: If a number is less than 1.
    """
    interactions = Adjacency.from_edge_index(
        graph.edge_index, None, (graph.num_users, graph.num_items)
    )
    edge_index = cooccurrence_graph(
        interactions.t(), num_neighbors, min_common_users
    ).to_edge_index()[0]
    edge_index = torch.cat(
        [edge_index, torch.arange(graph.num_items, device=edge_index.device).expand(2, -1)], dim=1
    )
    value = knn_weights(
        edge_index, torch.ones(edge_index.size(1), device=edge_index.device), graph.num_items
    )
    return Adjacency.from_edge_index(edge_index, value, (graph.num_items, graph.num_items))
