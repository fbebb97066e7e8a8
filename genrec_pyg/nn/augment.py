r"""Random subgraphs of the interactions (collaborative specification section 2.7)."""
from __future__ import annotations

import math
from typing import Optional

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.module import GraphModule
from genrec_pyg.ops import Adjacency, bipartite_adjacency, symmetric_scale

#: Guards products such as 0.1 * 10 against falling below the integer that they mean.
_ROUNDING = 1e-9


class InteractionGraph(GraphModule):
    r"""The normalised training graph over users and items and its random subgraphs.

    Both directions of an interaction live or die together, so every subgraph is symmetric and needs no transpose, and none is
    sorted: entries are picked from the layout of the whole. Draws come from torch's global generator of the device.

    Args:
        graph: Training graph.

    Attributes:
        adjacency: :math:`\mathbf{D}^{-1/2} \mathbf{A} \mathbf{D}^{-1/2}` over the joint index, without self loops; rows of
            isolated nodes are zero.
        num_edges: Interactions ``E``.
    """

    def __init__(self, graph: TrainingGraph):
        super().__init__()
        self.num_users, self.num_items, self.num_edges = graph.num_users, graph.num_items, graph.num_edges
        self.edge_index = graph.edge_index
        self.adjacency = bipartite_adjacency(graph.edge_index, graph.num_users, graph.num_items, self_loops=False)
        # Rows of users hold the interactions in the order of the training graph; those of items by item, then user.
        by_item = torch.argsort(graph.edge_index[1], stable=True)
        self.entry_edge = torch.cat([torch.arange(graph.num_edges, device=by_item.device), by_item])

    def edge_drop(self, ratio: float) -> Tensor:
        r"""Boolean mask ``[E]`` of exactly :math:`\lfloor (1 - \rho) E \rfloor` interactions, uniform without replacement."""
        check_ratio(ratio)
        keep = torch.zeros(self.num_edges, dtype=torch.bool, device=self.edge_index.device)
        count = math.floor((1 - ratio) * self.num_edges + _ROUNDING)
        return keep.index_fill_(0, torch.randperm(self.num_edges, device=keep.device)[:count], True)

    def node_drop(self, ratio: float) -> Tensor:
        r"""Boolean mask ``[E]`` of what is left without :math:`\lfloor \rho U \rfloor` users and :math:`\lfloor \rho I
        \rfloor` items: about :math:`(1 - \rho)^2` of the interactions."""
        check_ratio(ratio)
        keep = torch.ones(self.num_edges, dtype=torch.bool, device=self.edge_index.device)
        for ids, size in ((self.edge_index[0], self.num_users), (self.edge_index[1], self.num_items)):
            dropped = torch.zeros(size, dtype=torch.bool, device=keep.device)
            dropped[torch.randperm(size, device=keep.device)[:math.floor(ratio * size + _ROUNDING)]] = True
            keep &= ~dropped[ids]
        return keep

    def subgraph(self, mask: Tensor) -> Adjacency:
        r"""Normalised adjacency of the interactions in ``mask`` ``[E]``, degrees counted anew."""
        entry = mask[self.entry_edge]
        row, col = self.adjacency.row()[entry], self.adjacency.col[entry]
        degree = torch.bincount(row, minlength=self.num_users + self.num_items)
        scale = symmetric_scale(degree.to(self.adjacency.value.dtype))
        rowptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        return Adjacency(rowptr, col, scale[row] * scale[col.long()], self.adjacency.size, symmetric=True)

    def scaled_drop(self, keep: float, mask: Optional[Tensor] = None) -> Adjacency:
        r"""The normalised adjacency with each interaction kept with probability ``keep`` and divided by it, degrees as they
        were: an unbiased product.

        Args:
            keep: Probability in (0, 1].
            mask: What survives ``[E]``, drawn by default.
        """
        if not 0 < keep <= 1:
            raise ConfigError(f'keep: got {keep}, accepted are numbers above 0 up to 1')
        if keep == 1 and mask is None:
            return self.adjacency
        if mask is None:
            mask = torch.rand(self.num_edges, device=self.edge_index.device) < keep
        entry = mask[self.entry_edge]
        degree = torch.bincount(self.adjacency.row()[entry], minlength=self.num_users + self.num_items)
        rowptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
        return Adjacency(rowptr, self.adjacency.col[entry], self.adjacency.value[entry] / keep, self.adjacency.size,
                         symmetric=True)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(users={self.num_users}, items={self.num_items}, edges={self.num_edges})'


def check_ratio(ratio: float) -> None:
    r"""Raises :class:`~genrec_pyg.exceptions.ConfigError` unless ``ratio`` is in [0, 1)."""
    if not 0 <= ratio < 1:
        raise ConfigError(f'ratio: got {ratio}, accepted are numbers from 0 up to but not including 1')
