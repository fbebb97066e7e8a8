r"""Hypergraphs that are given, of users by common items and of items by similar content, as sparse
incidence matrices; learned memberships are in :mod:`genrec_pyg.nn.conv.hyper_conv`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.ops import Adjacency, knn_graph, spmm, symmetric_scale

#: Accepted normalizations of :class:`Hypergraph`.
NORMALIZATIONS = ('mean', 'symmetric')


class Hypergraph(GraphModule):
    r"""Propagation over nodes that share hyperedges, by two products with the incidence matrix
    :math:`\mathbf{H}` (MMHCL: Guo et al., TOMM 2025, https://arxiv.org/abs/2504.16576).

    .. math::
        \mathbf{W} = \mathbf{H} \mathbf{H}^{\top} \, [- \, \mathrm{diag}], \qquad \mathbf{D} =
        \mathrm{diag}(\mathbf{W} \mathbf{1}), \qquad \mathbf{y} = \mathbf{D}^{-1} \mathbf{W}
        \mathbf{x} \quad \text{or} \quad \mathbf{D}^{-1/2} \mathbf{W} \mathbf{D}^{-1/2} \mathbf{x}

    :math:`\mathbf{W}`, which counts common hyperedges, is never made: it would have an entry per
    pair of nodes that share one, the incidence matrix has one per node and hyperedge. Rows of nodes
    that share a hyperedge with nobody are zero.
    :class:`torch_geometric.nn.conv.HypergraphConv` divides by the size of hyperedges besides.

    Args:
        incidence: Matrix :math:`\mathbf{H}` ``[n, m]`` without values.
        normalization: ``'mean'``, :math:`\mathbf{D}^{-1}`, or ``'symmetric'``.
        self_loops: Whether a node shares its hyperedges with itself, or the diagonal of
            :math:`\mathbf{W}` is zero.

    Raises:
        ConfigError: On an unknown normalization.
    """

    def __init__(
        self, incidence: Adjacency, normalization: str = 'symmetric', self_loops: bool = True
    ):
        super().__init__()
        if normalization not in NORMALIZATIONS:
            raise ConfigError(
                f'normalization: got {normalization!r}, accepted are '
                f'{", ".join(map(repr, NORMALIZATIONS))}'
            )
        self.incidence, self.normalization = incidence, normalization
        own = incidence.row_degree().unsqueeze(1).double()
        edge_size = incidence.t().row_degree().unsqueeze(1).double()
        degree = spmm(incidence, edge_size) if self_loops else spmm(incidence, edge_size) - own
        scale = symmetric_scale(degree)
        dtype = torch.get_default_dtype()
        self.own = None if self_loops else own.to(dtype)
        self.scale = (scale if normalization == 'symmetric' else scale.square()).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        r"""Maps rows of nodes ``[n, d]`` to ``[n, d]``."""
        if self.normalization == 'symmetric':
            x = self.scale * x
        y = spmm(self.incidence, spmm(self.incidence.t(), x))
        if self.own is not None:
            y = y - self.own * x
        return self.scale * y

    def __repr__(self) -> str:
        nodes, edges = self.incidence.size
        return (
            f'{type(self).__name__}(nodes={nodes}, hyperedges={edges}, '
            f'entries={self.incidence.nnz}, normalization={self.normalization!r})'
        )


def content_incidence(graph: TrainingGraph, num_neighbors: int) -> Adjacency:
    r"""Items in the hyperedges of content: every item has one per modality, of the items that have
    it among their nearest neighbors there.

    An item that lacks a modality is alone in its hyperedge of that modality.

    Args:
        graph: Training graph with at least one modality.
        num_neighbors: Neighbors per item and modality, the item itself included; only those of
            positive cosine count.

    Returns:
        Incidence ``[I, M I]`` without values, the hyperedges of one modality after those of
        another.
    """
    num_items = graph.num_items
    edges = []
    for place, modality in enumerate(graph.modalities.values()):
        item, neighbor = knn_graph(modality.item_features(), num_neighbors)[0]
        edges.append(torch.stack([item, neighbor + place * num_items]))
    return Adjacency.from_edge_index(
        torch.cat(edges, dim=1), size=(num_items, len(edges) * num_items)
    )
