r"""Item-item weights as a dense matrix, as factors, as sparse rows, or as a sum of these."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.ops import Adjacency, spmm


class ItemKernel(GraphModule):
    r"""Weights from items of a history to scored items.

    .. math::
        \mathbf{W} = \mathbf{B} + \mathbf{Q} \mathbf{K}^{\top} + \mathbf{S}^{\top}, \qquad
        \mathrm{scores} = \mathbf{X} \mathbf{W}

    Every part may be missing. The factors extend embeddings (:math:`\mathbf{X} \mathbf{Q}` of
    users, :math:`\mathbf{K}` of items), the sparse part stays sparse. Nothing is part of the state:
    it follows from the training graph and would make a checkpoint larger than the data.

    Args:
        num_items: Number of items ``I``.
        weight: Dense part :math:`\mathbf{B}` ``[I, I]``.
        query: Left factor :math:`\mathbf{Q}` ``[I, r]``.
        key: Right factor :math:`\mathbf{K}` ``[I, r]``.
        neighbors: Sparse part :math:`\mathbf{S}` ``[I, I]``: row ``j`` holds the weights of history
            items on item ``j``.

    Examples:
        >>> import torch
        >>> from genrec_pyg.nn.closed_form import ItemKernel
        >>> from genrec_pyg.ops import Adjacency
        >>> histories = Adjacency.from_edge_index(torch.tensor([[0, 0], [0, 2]]), size=(1, 3))
        >>> ItemKernel(3, weight=torch.eye(3))(histories)
        tensor([[1., 0., 1.]])
    """

    def __init__(
        self,
        num_items: int,
        weight: Tensor | None = None,
        query: Tensor | None = None,
        key: Tensor | None = None,
        neighbors: Adjacency | None = None,
    ):
        super().__init__()
        self.num_items = num_items
        self.register_buffer('weight', weight, persistent=False)
        self.register_buffer('query', query, persistent=False)
        self.register_buffer('key', key, persistent=False)
        self.neighbors = neighbors

    def forward(self, rows: Adjacency) -> Tensor:
        r"""Scores ``[B, I]`` of histories ``rows`` ``[B, I]``, whose values count as weights of
        their items.
        """
        scores = None
        for part in self._parts(rows):
            scores = part if scores is None else scores.add_(part)
        if scores is None:
            scores = torch.zeros(*rows.size, device=rows.device)
        return scores

    def _parts(self, rows: Adjacency):
        if self.weight is not None:
            yield spmm(rows, self.weight)
        if self.query is not None:
            yield spmm(rows, self.query) @ self.key.t()
        if self.neighbors is not None:
            yield self.propagate(dense_rows(rows, self.neighbors.value))

    def propagate(self, x: Tensor) -> Tensor:
        r"""Product ``[B, I]`` of dense rows ``x`` ``[B, I]`` and the sparse part."""
        return spmm(self.neighbors, x.t()).t()

    def to_dense(self) -> Tensor:
        r"""All weights ``[I, I]``: for tests and small catalogs."""
        identity = torch.arange(self.num_items).expand(2, -1)
        return self(Adjacency.from_edge_index(identity, size=(self.num_items, self.num_items)))

    def extra_repr(self) -> str:
        parts = [f'num_items={self.num_items}']
        parts += ['dense'] if self.weight is not None else []
        parts += [f'rank={self.query.size(1)}'] if self.query is not None else []
        parts += [f'entries={self.neighbors.nnz}'] if self.neighbors is not None else []
        return ', '.join(parts)


class HistoryTerm(NamedTuple):
    r"""One term of the scores of histories, made of tables alone.

    Args:
        kernel: :class:`ItemKernel` or :class:`~genrec_pyg.nn.closed_form.LinearFilter`.
        hops: How often it is applied.
        item_weight: Factor ``[I]`` of the scored items.
        weight: Weight of the term.
        path: What it comes from: ``'graph'``, the interactions, or ``'content'``, the features.
    """

    kernel: GraphModule
    hops: int = 1
    item_weight: Tensor | None = None
    weight: float = 1.0
    path: str = 'graph'

    def __call__(self, rows: Adjacency) -> Tensor:
        r"""Scores ``[B, I]`` of histories ``rows`` ``[B, I]``, still without :attr:`weight`."""
        scores = self.kernel(rows)
        for _ in range(self.hops - 1):
            scores = self.kernel.propagate(scores)
        if self.item_weight is not None:
            scores *= self.item_weight.to(scores.dtype)
        return scores


def neighbor_kernel(item: Tensor, neighbor: Tensor, weight: Tensor, num_items: int) -> ItemKernel:
    r"""The sparse kernel in which a history item ``neighbor`` ``[n]`` counts ``weight`` ``[n]`` for
    an item ``item`` ``[n]``; zero weights are left out.
    """
    keep = weight != 0
    edge_index = torch.stack([item[keep], neighbor[keep]])
    neighbors = Adjacency.from_edge_index(edge_index, weight[keep], (num_items, num_items))
    return ItemKernel(num_items, neighbors=neighbors)


def dense_rows(rows: Adjacency, like: Tensor) -> Tensor:
    r"""The rows of a sparse matrix ``[B, I]`` as a dense matrix of the precision of ``like``."""
    x = like.new_zeros(rows.size)
    x[rows.row(), rows.col.long()] = 1 if rows.value is None else rows.value.to(like.dtype)
    return x
