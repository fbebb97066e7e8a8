r"""The generated interest: one map from the items of a history to scores of all items."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.closed_form import ItemKernel
from genrec_pyg.nn.graph_module import GraphModule
from genrec_pyg.nn.interest.deviation import inverse_deviation, key_covariance, score_variance
from genrec_pyg.ops import Adjacency, spmm


class GeneratedInterest(GraphModule):
    r"""Interest of a user as a linear map of the training row, low rank plus sparse, at unit
    deviation.

    .. math::
        \mathbf{g}_u = \frac{1}{\sigma_u} \left( \mathbf{x}_u \mathbf{Q} \mathbf{K}^{\top}
        + \mathbf{x}_u \mathbf{S}^{\top} \right), \qquad
        \sigma_u^2 = \mathbf{q}_u \mathrm{Cov}(\mathbf{K}) \mathbf{q}_u^{\top}
        + \frac{1}{I} \sum_{j \in u} \Vert \mathbf{S}_{:j} \Vert^2

    :math:`\sigma_u` is the standard deviation of the first part over the items, with the second
    part added as if its entries were independent, so that no score is computed for it.

    Args:
        graph: Training graph.
    """

    def __init__(self, graph: TrainingGraph):
        super().__init__()
        self.graph = graph
        self.interactions = Adjacency.from_edge_index(
            graph.edge_index, size=(graph.num_users, graph.num_items)
        )
        self.query: Tensor | None = None
        self.key: Tensor | None = None
        self.neighbors: Adjacency | None = None  # row j: what history item j adds to other items
        self.covariance: Tensor | None = None  # of the keys over the items
        self.squares: Tensor | None = None  # per history item, of what it adds to other items

    @property
    def is_fitted(self) -> bool:
        r"""Whether there is a kernel."""
        return self.query is not None

    def set_kernel(self, kernel: ItemKernel | None) -> None:
        r"""Takes factors and sparse part of ``kernel``, or forgets them."""
        self.query, self.key, self.neighbors = None, None, None
        if kernel is not None:
            self.query, self.key = kernel.query, kernel.key
            self.neighbors = None if kernel.neighbors is None else kernel.neighbors.t()
        self._measure()

    def _measure(self) -> None:
        r"""What the deviation of every user needs, once per kernel."""
        self.covariance, self.squares = None, None
        if self.key is not None:
            self.covariance = key_covariance(self.key)
        if self.neighbors is not None:
            squares = self.query.new_zeros(self.key.size(0), 1)
            self.squares = squares.index_add_(
                0, self.neighbors.row(), self.neighbors.value.square().unsqueeze(1)
            )

    def histories(self, user: Tensor) -> Adjacency:
        r"""Training rows ``[B, I]`` of users ``user`` ``[B]``."""
        return Adjacency(
            *self.interactions.select_rows(user), None, (user.numel(), self.graph.num_items)
        )

    def largest_score(self, num_users: int = 512) -> float:
        r"""Largest undivided score of the first part, of about ``num_users`` users spread evenly
        over all.
        """
        user = torch.arange(
            0,
            self.graph.num_users,
            max(1, self.graph.num_users // num_users),
            device=self.key.device,
        )
        return float((spmm(self.histories(user), self.query) @ self.key.t()).amax())

    def user_queries(self, rows: Adjacency) -> Tensor:
        r"""Queries ``[B, r]`` of histories ``rows`` ``[B, I]``, divided by the deviation; zero
        where there is no history.
        """
        query = spmm(rows, self.query)
        return query * self.inverse_deviation(rows, query)

    def inverse_deviation(self, rows: Adjacency, query: Tensor) -> Tensor:
        r"""Factors :math:`1 / \sigma_u` ``[B, 1]`` of histories and their undivided queries, 0
        where all scores are equal.
        """
        variance = score_variance(query, self.covariance)
        if self.squares is not None:
            variance = variance + spmm(rows, self.squares) / self.key.size(0)
        return inverse_deviation(variance)

    def embeddings(self) -> tuple[Tensor, Tensor]:
        r"""Divided queries of all users ``[U, r]`` and keys of the items ``[I, r]``."""
        return self.user_queries(self.interactions), self.key

    def add_sparse_scores(self, scores: Tensor, user: Tensor, weight: float = 1.0) -> Tensor:
        r"""Adds ``weight`` times the sparse part to ``scores`` ``[B, I]`` of users ``user``
        ``[B]``, in place.
        """
        rowptr, item = self.interactions.select_rows(user)
        return self.add_history_scores(scores, rowptr, item, weight)

    def add_history_scores(
        self, scores: Tensor, rowptr: Tensor, item: Tensor, weight: float = 1.0
    ) -> Tensor:
        r"""As :meth:`add_sparse_scores`, for histories of any users: offsets ``[B + 1]`` and
        distinct items.
        """
        if self.neighbors is None or weight == 0:
            return scores
        rows = Adjacency(rowptr, item, None, scores.size())
        scale = weight * self.inverse_deviation(rows, spmm(rows, self.query)).squeeze(1)
        row = torch.repeat_interleave(rowptr.diff(), output_size=item.numel())
        if scores.is_cuda:  # sums in a fixed order
            x = scores.new_zeros(scores.size()).index_put_((row, item), scale[row].to(scores.dtype))
            return scores.add_(spmm(self.neighbors.t(), x.t()).t())
        offsets, entry = self.neighbors.row_entries(item)
        source = torch.repeat_interleave(offsets.diff(), output_size=entry.numel())
        place = row[source] * scores.size(1) + self.neighbors.col[entry].long()
        value = self.neighbors.value[entry] * scale[row[source]]
        scores.view(-1).index_add_(0, place, value.to(scores.dtype))
        return scores

    def score(self, user: Tensor) -> Tensor:
        r"""Scores ``[B, I]`` of users ``user`` ``[B]``."""
        return self.add_sparse_scores(self.user_queries(self.histories(user)) @ self.key.t(), user)

    def get_extra_state(self) -> dict[str, Any]:
        r"""The kernel, so that a checkpoint scores without finding it again."""
        sparse = self.neighbors
        return {
            'query': self.query,
            'key': self.key,
            'neighbors': None if sparse is None else [sparse.rowptr, sparse.col, sparse.value],
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        r"""Restores what :meth:`get_extra_state` returned."""
        device = self.graph.edge_index.device
        self.query, self.key = (
            None if x is None else x.to(device) for x in (state['query'], state['key'])
        )
        self.neighbors = None
        if state['neighbors'] is not None:
            size = (self.graph.num_items, self.graph.num_items)
            self.neighbors = Adjacency(*(x.to(device) for x in state['neighbors']), size)
        self._measure()

    def extra_repr(self) -> str:
        if not self.is_fitted:
            return 'not fitted'
        entries = 0 if self.neighbors is None else self.neighbors.nnz
        return f'rank={self.query.size(1)}, entries={entries}'
