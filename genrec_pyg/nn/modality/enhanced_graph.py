r"""The interaction graph with edges between similar items (GUME: Lin et al., CIKM 2024,
https://arxiv.org/abs/2407.12338).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.ops import Adjacency, knn_weights


def common_neighbors(graphs: Sequence[Adjacency], present: Sequence[Tensor]) -> Tensor:
    r"""Pairs of an item and another one that is its neighbor in every modality that the item has.

    Args:
        graphs: Item-item graph ``[I, I]`` per modality, at least one.
        present: Mask ``[I]`` of the items that have the modality, in the same order.

    Returns:
        Items and their common neighbors ``[2, E]``, sorted; there may be none.
    """
    num_items = graphs[0].size[1]
    keys = []
    for graph, mask in zip(graphs, present):
        (row, col), _ = graph.to_edge_index()
        kept = (row != col) & mask[row]
        keys.append(row[kept] * num_items + col[kept])
    key, count = torch.cat(keys).unique(return_counts=True)
    item = key // num_items
    kept = count == torch.stack(list(present)).sum(dim=0)[item]
    return torch.stack([item[kept], key[kept] % num_items])


def enhanced_adjacency(graph: TrainingGraph, item_pairs: Tensor) -> tuple[Adjacency, Adjacency]:
    r"""Normalized adjacency of the interactions and of edges from items to items, over the joint
    index.

    .. math::
        \mathbf{A} = \mathbf{D}^{-1/2} \begin{bmatrix} 0 & \mathbf{R} \\
        \mathbf{R}^{\top} & \mathbf{N} \end{bmatrix} \mathbf{D}^{-1/2}

    :math:`\mathbf{N}` is directed, and so is :math:`\mathbf{A}`; degrees are row sums on both ends.

    Args:
        graph: Training graph.
        item_pairs: Rows and columns ``[2, E]`` of :math:`\mathbf{N}`, whose entries are 1.

    Returns:
        :math:`\mathbf{A}` ``[N, N]``, and its block of users and items ``[U, I]``.
    """
    num_users, num_nodes = graph.num_users, graph.num_users + graph.num_items
    size = num_users, graph.num_items
    interactions = Adjacency.from_edge_index(graph.edge_index, None, size)
    user, item = interactions.to_edge_index()[0]
    (row, col), item = item_pairs + num_users, item + num_users
    edge_index = torch.stack([torch.cat([user, item, row]), torch.cat([item, user, col])])
    ones = torch.ones(edge_index.size(1), device=user.device)
    value = knn_weights(edge_index, ones, num_nodes)
    return (
        Adjacency.from_edge_index(edge_index, value, (num_nodes, num_nodes)),
        interactions.with_value(value[: user.numel()]),
    )
