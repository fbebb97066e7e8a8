r"""Normalized adjacencies of user-item and item-item graphs."""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_pyg.ops.adjacency import Adjacency
from genrec_pyg.ops.knn import knn_graph


def symmetric_scale(degree: Tensor) -> Tensor:
    r"""Entries :math:`d^{-1/2}`, zero where the degree is zero."""
    return torch.where(
        degree > 0,
        degree.clamp(min=torch.finfo(degree.dtype).tiny).rsqrt(),
        torch.zeros_like(degree),
    )


def bipartite_adjacency(
    edge_index: Tensor,
    num_users: int,
    num_items: int,
    self_loops: bool,
    edge_weight: Tensor | None = None,
) -> Adjacency:
    r"""Symmetric normalized adjacency of the bipartite graph over the joint index (user ``u`` is
    ``u``, item ``i`` is ``U + i``).

    .. math::
        \mathbf{A} = \mathbf{D}^{-1/2} \left( \begin{bmatrix} 0 & \mathbf{R} \\ \mathbf{R}^{\top} &
        0 \end{bmatrix} \, [+ \, \mathbf{I}] \right) \mathbf{D}^{-1/2}

    Args:
        edge_index: Users and items ``[2, E]``; a repeated pair counts once, or its weights are
            summed.
        num_users: Number of users ``U``.
        num_items: Number of items ``I``.
        self_loops: Whether the identity is added, after which an isolated node keeps its loop with
            weight 1; without it rows of degree zero stay zero.
        edge_weight: Weights ``[E]``, ones by default.
    """
    num_nodes = num_users + num_items
    pattern = Adjacency.from_edge_index(edge_index, edge_weight, (num_users, num_items))
    (user, item), weight = pattern.to_edge_index()
    row = torch.cat([user, item + num_users])
    col = torch.cat([item + num_users, user])
    value = torch.cat([weight, weight])
    if self_loops:
        loop = torch.arange(num_nodes, device=row.device)
        row = torch.cat([row, loop])
        col = torch.cat([col, loop])
        value = torch.cat([value, value.new_ones(num_nodes)])
    scale = symmetric_scale(value.new_zeros(num_nodes).index_add(0, row, value))
    return Adjacency.from_edge_index(
        torch.stack([row, col]),
        scale[row] * value * scale[col],
        (num_nodes, num_nodes),
        symmetric=True,
    )


def bipartite_block(
    edge_index: Tensor, num_users: int, num_items: int, self_loops: bool
) -> Adjacency:
    r"""Upper-right ``U x I`` block :math:`\hat{\mathbf{R}}` of :func:`bipartite_adjacency`, with
    the degrees of the whole.
    """
    pattern = Adjacency.from_edge_index(edge_index, None, (num_users, num_items))
    (user, item), weight = pattern.to_edge_index()
    loop = 1.0 if self_loops else 0.0
    user_scale = symmetric_scale(pattern.row_degree().to(weight.dtype) + loop)
    item_scale = symmetric_scale(pattern.t().row_degree().to(weight.dtype) + loop)
    return pattern.with_value(user_scale[user] * item_scale[item])


def random_walk_adjacency(
    edge_index: Tensor, num_users: int, num_items: int, self_loops: bool
) -> Adjacency:
    r"""Mean over the neighbors in the bipartite graph over the joint index,
    :math:`\mathbf{D}^{-1} \mathbf{B}`, or over the neighbors and the node itself,
    :math:`(\mathbf{D} + \mathbf{I})^{-1} (\mathbf{B} + \mathbf{I})`.

    Args:
        edge_index: Users and items ``[2, E]``; a repeated pair counts once.
        num_users: Number of users ``U``.
        num_items: Number of items ``I``.
        self_loops: Whether a node is its own neighbor. Without, the row of an isolated node is
            zero; with them it is 1 at the node itself.
    """
    pattern = bipartite_adjacency(edge_index, num_users, num_items, self_loops)
    assert pattern.value is not None  # weights, whose precision those of the mean get
    degree = pattern.row_degree().to(pattern.value.dtype)
    return pattern.with_value((1 / degree)[pattern.row()])


def knn_weights(edge_index: Tensor, similarity: Tensor, num_nodes: int) -> Tensor:
    r"""Weights of a nearest-neighbor graph
    (`GenRec-V1, ACM MM 2025 <https://doi.org/10.1145/3746027.3755734>`_).

    .. math::
        w_{ij} = \frac{s_{ij}}{\sqrt{\mathrm{deg}_i \, \mathrm{deg}_j}}, \qquad
        \mathrm{deg}_i = \sum_j s_{ij}

    with row degrees on both ends, the graph being directed.
    """
    degree = similarity.new_zeros(num_nodes).index_add(0, edge_index[0], similarity)
    scale = symmetric_scale(degree)
    return scale[edge_index[0]] * similarity * scale[edge_index[1]]


def knn_adjacency(x: Tensor, k: int, binary: bool = False) -> Adjacency:
    r"""Normalized adjacency ``[n, n]`` of the cosine nearest-neighbor graph of ``x`` ``[n, d]``
    (:func:`knn_weights`), each node its own first neighbor.

    Args:
        x: Features ``[n, d]``.
        k: Neighbors per node, the node itself included.
        binary: Whether every neighbor counts as 1 before normalization or by its similarity.
    """
    edge_index, similarity = knn_graph(x, k)
    weight = torch.ones_like(similarity) if binary else similarity
    return Adjacency.from_edge_index(
        edge_index, knn_weights(edge_index, weight, x.size(0)), (x.size(0), x.size(0))
    )
