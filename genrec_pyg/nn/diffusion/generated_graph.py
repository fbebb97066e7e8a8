r"""Graph of generated edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.ops import Adjacency, bipartite_adjacency


class GeneratedEdges(NamedTuple):
    r"""Edges made by a generator.

    Args:
        edge_index: Users and items ``[2, G]``.
        probability: Predicted probability ``[G]``.
        kept: Boolean, what survives the edge dropout of this epoch: one entry per edge ``[G]``, or
            per stored entry of the adjacency matrix where a graph drops those.
    """

    edge_index: Tensor
    probability: Tensor
    kept: Tensor


class GeneratedGraph(GraphModule):
    r"""Edges of this epoch and their normalized adjacency matrices, each made once.

    Edge dropout removes undirected edges, both directions together and no self loop, in training
    only.

    Args:
        graph: Training graph.
        edge_weight: ``'probability'`` weighs an edge by its probability relative to the user's
            best, ``'binary'`` by 1.
        edge_dropout: Share of the edges that is dropped in an epoch; the others are divided by what
            is left.
    """

    def __init__(
        self, graph: TrainingGraph, edge_weight: str = 'probability', edge_dropout: float = 0.0
    ):
        super().__init__()
        self.graph = graph
        self.edge_weight = edge_weight
        self.edge_dropout = edge_dropout
        self.edges: GeneratedEdges | None = None
        self._adjacencies: dict[bool, Adjacency] = {}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GeneratedGraph:
        super()._apply(fn, recurse)
        self._adjacencies = {}  # made again where the graph has moved to
        return self

    @property
    def keep(self) -> float:
        r"""Share of the edges that survives the edge dropout."""
        return 1 - self.edge_dropout

    @property
    def drops(self) -> bool:
        r"""Whether edges are missing now."""
        return self.edge_dropout > 0 and self.training

    def rebuild(self, edge_index: Tensor, probability: Tensor) -> None:
        r"""Takes other edges ``[2, G]`` with their probabilities ``[G]``, and draws what is dropped
        of them.
        """
        draws = torch.rand(self.num_draws(probability.numel()), device=probability.device)
        self.replace(GeneratedEdges(edge_index, probability, draws < self.keep))

    def replace(self, edges: GeneratedEdges | None) -> None:
        r"""Takes other edges, or none."""
        self.edges = edges
        self._adjacencies = {}

    def num_draws(self, num_edges: int) -> int:
        r"""Length of ``kept`` for this number of edges."""
        return num_edges

    def adjacency(self) -> Adjacency | None:
        r"""Normalized adjacency ``[U + I, U + I]`` with self loops, or none without edges."""
        if self.edges is None:
            return None
        drops = self.drops
        if drops not in self._adjacencies:
            whole = bipartite_adjacency(
                self.edges.edge_index,
                self.graph.num_users,
                self.graph.num_items,
                self_loops=True,
                edge_weight=self._weight(),
            )
            self._adjacencies[drops] = self.drop(whole) if drops else whole
        return self._adjacencies[drops]

    def _weight(self) -> Tensor | None:
        if self.edge_weight == 'binary':
            return None
        user, probability = self.edges.edge_index[0], self.edges.probability
        best = torch.zeros(self.graph.num_users, device=probability.device, dtype=probability.dtype)
        best = best.scatter_reduce(0, user, probability, 'amax')
        return probability / best[user].clamp(min=torch.finfo(best.dtype).tiny)

    def drop(self, adj: Adjacency) -> Adjacency:
        r"""``adj`` without what is dropped in this epoch."""
        edges, graph = self.edges, self.graph
        (row, col), value = adj.to_edge_index()
        key = edges.edge_index[0] * graph.num_items + edges.edge_index[1]
        alive = key[edges.kept].sort().values
        user, item = torch.minimum(row, col), torch.maximum(row, col) - graph.num_users
        loop = row == col
        survives = loop | torch.isin(user * graph.num_items + item, alive)
        value = torch.where(loop, value, value / self.keep)[survives]
        return Adjacency.from_edge_index(
            torch.stack([row, col])[:, survives], value, adj.size, symmetric=True
        )
