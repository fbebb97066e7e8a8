r"""Random subgraphs of the interactions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.ops import Adjacency, bipartite_adjacency, symmetric_scale
from genrec_pyg.utils.validation import check_dropout

#: Guards products such as 0.1 * 10 against falling below the integer that they mean.
_ROUNDING = 1e-9


class InteractionGraph(GraphModule):
    r"""The normalized training graph over users and items and its random subgraphs.

    Both directions of an interaction live or die together, so every subgraph is symmetric and needs
    no transpose, and none is sorted: entries are picked from the layout of the whole. Draws come
    from torch's global generator of the device.

    Args:
        graph: Training graph.

    Attributes:
        adjacency: :math:`\mathbf{D}^{-1/2} \mathbf{A} \mathbf{D}^{-1/2}` over the joint index,
            without self loops; rows of isolated nodes are zero.
        num_edges: Interactions ``E``.
    """

    def __init__(self, graph: TrainingGraph):
        super().__init__()
        self.num_users = graph.num_users
        self.num_items = graph.num_items
        self.num_edges = graph.num_edges
        self.edge_index = graph.edge_index
        self.adjacency = bipartite_adjacency(
            graph.edge_index, graph.num_users, graph.num_items, self_loops=False
        )
        # Rows of users hold the interactions in the order of the training graph; those of items by
        # item, then user.
        by_item = torch.argsort(graph.edge_index[1], stable=True)
        self.entry_edge = torch.cat([torch.arange(graph.num_edges, device=by_item.device), by_item])

    def edge_drop(self, edge_dropout: float) -> Tensor:
        r"""Boolean mask ``[E]`` of exactly :math:`\lfloor (1 - \rho) E \rfloor` interactions,
        uniform without replacement.
        """
        order = torch.randperm(self.num_edges, device=self.edge_index.device)
        return self._keep(order[: self._num_kept(edge_dropout)])

    def degree_drop(self, edge_dropout: float) -> Tensor:
        r"""Boolean mask ``[E]`` of exactly :math:`\lfloor (1 - \rho) E \rfloor` interactions, drawn
        one after another from those left with probability proportional to
        :math:`1 / \sqrt{d_u d_i}`, so that edges between popular nodes are more likely to be
        dropped (degree-sensitive pruning: Zhou et al., ICDE 2023; Zhou and Shen, MM 2023).

        One pass: the smallest of independent exponential times of these rates (Efraimidis and
        Spirakis, 2006).
        """
        rate = self.adjacency.value[: self.num_edges]
        time = torch.empty_like(rate).exponential_() / rate
        return self._keep(
            time.topk(self._num_kept(edge_dropout), largest=False, sorted=False).indices
        )

    def _num_kept(self, edge_dropout: float) -> int:
        check_dropout('edge_dropout', edge_dropout)
        return math.floor((1 - edge_dropout) * self.num_edges + _ROUNDING)

    def _keep(self, index: Tensor) -> Tensor:
        keep = torch.zeros(self.num_edges, dtype=torch.bool, device=self.edge_index.device)
        return keep.index_fill_(0, index, True)

    def node_drop(self, node_dropout: float) -> Tensor:
        r"""Boolean mask ``[E]`` of what is left without :math:`\lfloor \rho U \rfloor` users and
        :math:`\lfloor \rho I \rfloor` items: about :math:`(1 - \rho)^2` of the interactions.
        """
        check_dropout('node_dropout', node_dropout)
        keep = torch.ones(self.num_edges, dtype=torch.bool, device=self.edge_index.device)
        for ids, size in (
            (self.edge_index[0], self.num_users),
            (self.edge_index[1], self.num_items),
        ):
            dropped = torch.zeros(size, dtype=torch.bool, device=keep.device)
            dropped[
                torch.randperm(size, device=keep.device)[
                    : math.floor(node_dropout * size + _ROUNDING)
                ]
            ] = True
            keep &= ~dropped[ids]
        return keep

    def subgraph(self, mask: Tensor) -> Adjacency:
        r"""Normalized adjacency of the interactions in ``mask`` ``[E]``, with degrees of its own
        edges.
        """
        entry = mask[self.entry_edge]
        row, col = self.adjacency.row()[entry], self.adjacency.col[entry]
        degree = torch.bincount(row, minlength=self.num_users + self.num_items)
        scale = symmetric_scale(degree.to(self.adjacency.value.dtype))
        rowptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        return Adjacency(
            rowptr, col, scale[row] * scale[col.long()], self.adjacency.size, symmetric=True
        )

    def scaled_drop(self, edge_dropout: float, mask: Tensor | None = None) -> Adjacency:
        r"""The normalized adjacency with each interaction left out with probability
        ``edge_dropout``, the others divided by one minus it, degrees as they were: an unbiased
        product.

        Args:
            edge_dropout: Probability in [0, 1).
            mask: What survives ``[E]``, drawn by default.
        """
        check_dropout('edge_dropout', edge_dropout)
        if edge_dropout == 0 and mask is None:
            return self.adjacency
        keep = 1 - edge_dropout
        if mask is None:
            mask = torch.rand(self.num_edges, device=self.edge_index.device) < keep
        entry = mask[self.entry_edge]
        degree = torch.bincount(
            self.adjacency.row()[entry], minlength=self.num_users + self.num_items
        )
        rowptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        return Adjacency(
            rowptr,
            self.adjacency.col[entry],
            self.adjacency.value[entry] / keep,
            self.adjacency.size,
            symmetric=True,
        )

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(users={self.num_users}, items={self.num_items}, '
            f'edges={self.num_edges})'
        )


class PrunedGraph(InteractionGraph):
    r"""An interaction graph of which training sees a part that is drawn for an epoch, renormalized;
    evaluation sees all.

    Args:
        graph: Training graph.
        edge_dropout: Share :math:`\rho` of interactions that are left out; with 0 nothing is drawn.

    Raises:
        ConfigError: If ``edge_dropout`` is not in [0, 1).
    """

    def __init__(self, graph: TrainingGraph, edge_dropout: float):
        super().__init__(graph)
        check_dropout('edge_dropout', edge_dropout)
        self.edge_dropout = edge_dropout
        self.pruned: Adjacency | None = None

    def prune(self, uniform: bool = False) -> None:
        r"""Draws the graph of an epoch by :meth:`degree_drop`, or by :meth:`edge_drop` if
        ``uniform``.
        """
        if self.edge_dropout > 0:
            self.pruned = self.subgraph(
                (self.edge_drop if uniform else self.degree_drop)(self.edge_dropout)
            )

    def forward(self) -> Adjacency:
        r"""The graph that carries messages now."""
        if not self.training or self.edge_dropout == 0:
            return self.adjacency
        if self.pruned is None:
            self.prune()
        return self.pruned
