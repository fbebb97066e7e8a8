r"""The graph of users who chose the same items."""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.ops import Adjacency, cooccurrence_graph, edge_softmax

#: Accepted paddings of short lists of neighbors.
PADDINGS = (None, 'polya')


class CoUserGraph(GraphModule):
    r"""Users by common training items, weighted by a softmax (DualGNN: Wang et al., TMM 2021;
    DRAGON: Zhou et al., ECAI 2023).

    .. math::
        a_{uv} = \mathrm{softmax}_{v \in \mathrm{top}_k(u)} \, |\mathbf{R}_u \cap \mathbf{R}_v|

    A user who shares no item with others has an empty row.

    Args:
        graph: Training graph.
        num_neighbors: Users ``k`` per user at most; equal counts rank by lower id.
        padding: ``'polya'`` fills a shorter list up to ``k`` by drawing from itself, each draw
            added before the next, so that a user of two neighbors weighs them by chance. Both
            released programs do so, again in every epoch. Evaluation knows no padding. :obj:`None`
            leaves lists as they are.

    Raises:
        ConfigError: On an argument outside its accepted values.
    """

    def __init__(self, graph: TrainingGraph, num_neighbors: int = 40, padding: str | None = None):
        super().__init__()
        if num_neighbors < 1:
            raise ConfigError(f'num_neighbors: got {num_neighbors}, accepted are integers from 1')
        if padding not in PADDINGS:
            raise ConfigError(
                f'neighbor_padding: got {padding!r}, accepted are {", ".join(map(repr, PADDINGS))}'
            )
        self.num_neighbors, self.padding = num_neighbors, padding
        interactions = Adjacency.from_edge_index(
            graph.edge_index, size=(graph.num_users, graph.num_items)
        )
        self.counts = cooccurrence_graph(interactions, num_neighbors)
        self.weights = edge_softmax(self.counts)
        self.padded: Adjacency | None = None

    def draw(self) -> None:
        r"""Redraws the padding, where there is any."""
        if self.padding is not None:
            self.padded = edge_softmax(
                self.counts.with_value(self.counts.value + self._multiplicity().log())
            )

    def _multiplicity(self) -> Tensor:
        # An urn that starts with one ball per neighbor ends at every composition of k into so many
        # parts with the same probability: as many distinct cuts between k places.
        degree = self.counts.row_degree()
        short = ((degree > 0) & (degree < self.num_neighbors)).nonzero().view(-1)
        gaps = torch.rand(short.numel(), self.num_neighbors - 1, device=degree.device)
        cut = gaps.argsort(dim=1).argsort(dim=1) < degree[short].unsqueeze(1) - 1
        part = torch.cat([cut.new_zeros(short.numel(), 1), cut], dim=1).cumsum(dim=1)
        entry = (self.counts.rowptr[short].unsqueeze(1) + part).view(-1)
        drawn = torch.bincount(entry, minlength=self.counts.nnz).clamp(min=1)
        return drawn.to(self.counts.value.dtype)

    def forward(self) -> Adjacency:
        r"""Weights :math:`a_{uv}` ``[U, U]``."""
        if not self.training or self.padding is None:
            return self.weights
        if self.padded is None:
            self.draw()
        return self.padded

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(users={self.counts.size[0]}, edges={self.counts.nnz}, '
            f'padding={self.padding!r})'
        )
