r"""Views of the items of a graph, and their mixture as low rank plus sparse."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.closed_form import (
    InteractionStatistics,
    ItemKernel,
    LowRankKernelPath,
    content_kernel,
    dense_interaction_kernel,
    graph_filter,
    neighbor_kernel,
)
from genrec_pyg.nn.interest.held_out import Score
from genrec_pyg.nn.interest.schedule import FlipSchedule, KernelPath, popularity_discount
from genrec_pyg.nn.modality.features import centered_unit_rows
from genrec_pyg.ops import Adjacency, knn_graph, spmm

logger = logging.getLogger(__name__)

#: Neighbors per item by content.
NUM_CONTENT_NEIGHBORS = 10
#: Ridges of the regressions on features, by the end of the name of their view: alone the large one
#: is the better one, beside the kernel often the small one.
CONTENT_RIDGES = {'_ridge': 10.0, '_fine_ridge': 1.0}
#: Most sparse entries per item.
MOST_NEIGHBORS = 200


class Views:
    r"""Views of the items, each a map from histories to scores; see
    :func:`~genrec_pyg.nn.interest.choose_interest`.

    Args:
        graph: Training graph.
        rank: Rank of the low-rank part.
        num_neighbors: Sparse entries per item where no dense matrix is used; 0 for none anywhere.
        max_items: Most items for which dense matrices are used.
    """

    def __init__(self, graph: TrainingGraph, rank: int, num_neighbors: int, max_items: int):
        self.graph, self.rank, self.num_neighbors = graph, rank, num_neighbors
        self.interactions = Adjacency.from_edge_index(
            graph.edge_index, size=(graph.num_users, graph.num_items)
        )
        self.degree = graph.item_degree().clamp(min=1).float()
        self.dense = graph.num_items <= max_items
        self.kernels: dict[str, ItemKernel] = {}
        self.deviation: dict[str, float] = {}
        self._statistics: dict[float, InteractionStatistics] = {}

    def statistics(self, row_weight: float) -> InteractionStatistics:
        r"""Statistics of the interactions for one :math:`\alpha`, made once."""
        if row_weight not in self._statistics:
            self._statistics[row_weight] = InteractionStatistics.of(self.interactions, row_weight)
        return self._statistics[row_weight]

    def histories(self, user: Tensor) -> Adjacency:
        r"""Training rows ``[B, I]`` of users ``user`` ``[B]``."""
        return Adjacency(
            *self.interactions.select_rows(user), None, (user.numel(), self.graph.num_items)
        )

    def whole_kernel(self, schedule: FlipSchedule) -> ItemKernel:
        r"""The kernel of a schedule as a dense matrix, without its discount."""
        statistics = self.statistics(schedule.row_weight)
        return dense_interaction_kernel(statistics, self._ridge(schedule))

    def _ridge(self, schedule: FlipSchedule) -> Tensor:
        statistics = self.statistics(schedule.row_weight)
        return statistics.ridge(
            schedule.ridge * float(statistics.gram_diagonal.mean()), schedule.ridge_power
        )

    def add_whole(self, kernel: ItemKernel, schedule: FlipSchedule) -> None:
        r"""Takes what :meth:`whole_kernel` made as a view."""
        kernel.weight.mul_(popularity_discount(self.degree, schedule.discount))
        self.kernels['kernel'] = kernel

    def add_low_rank(self, path: KernelPath, schedule: FlipSchedule) -> None:
        r"""Takes the leading eigenpairs as a view of their own: without the small eigenvalues,
        which are mostly noise, it is another view than the whole kernel, and sometimes the better
        one.
        """
        key = path.keys(schedule.ridge) * popularity_discount(
            self.degree, schedule.discount
        ).unsqueeze(1)
        self.kernels['low_rank'] = ItemKernel(self.graph.num_items, query=path.query, key=key)

    def sparse_path(self, path: KernelPath, schedule: FlipSchedule) -> LowRankKernelPath:
        r"""Kernels of all ridges as low rank plus sparse, from the eigenpairs of ``path``."""
        statistics = self.statistics(schedule.row_weight)
        most = MOST_NEIGHBORS if self.num_neighbors > 0 else 0
        return LowRankKernelPath(
            statistics,
            statistics.ridge(path.unit, schedule.ridge_power),
            path.value,
            path.vector,
            most,
        )

    def discounted(self, kernel: ItemKernel, schedule: FlipSchedule) -> ItemKernel:
        r"""A kernel as low rank plus sparse with the discount of a schedule."""
        discount = popularity_discount(self.degree, schedule.discount)
        neighbors = kernel.neighbors
        return ItemKernel(
            self.graph.num_items,
            query=kernel.query,
            key=kernel.key * discount.unsqueeze(1),
            neighbors=neighbors.with_value(neighbors.value * discount[neighbors.row()]),
        )

    def add_others(self) -> None:
        r"""Adds the views that have no settings: the graph filter and those of the modalities."""
        self.kernels['filter'] = graph_filter(self.interactions)
        if self.dense:  # two hops are neither sparse nor of low rank
            self.kernels['two_hop'] = self.kernels['filter']
        for name, modality in self.graph.modalities.items():
            x = centered_unit_rows(modality.item_features().to(self.degree.dtype))
            if bool((x != 0).any()):
                (item, neighbor), similarity = knn_graph(
                    x, NUM_CONTENT_NEIGHBORS, include_self=False
                )
                self.kernels[name] = neighbor_kernel(
                    item, neighbor, similarity, self.graph.num_items
                )
                for end, ridge in CONTENT_RIDGES.items():
                    if self.dense or end == '_ridge':  # else each has columns of its own
                        self.kernels[name + end] = content_kernel(x, ridge)
            else:
                logger.warning(
                    'modality %r: all features are equal or missing; it is no view of the interest',
                    name,
                )

    def score(self, name: str) -> Score:
        r"""Scores of view ``name``."""

        def score(user: Tensor) -> Tensor:
            scores = self.kernels[name](self.histories(user))
            return self.kernels[name].propagate(scores) if name == 'two_hop' else scores

        return score

    def measure_deviations(self, user: Tensor) -> None:
        r"""Mean deviation of the scores of every view over users with a history."""
        for name in self.kernels:
            found = torch.cat([self.score(name)(block).std(dim=1) for block in user.split(256)])
            self.deviation[name] = max(float(found.mean()), torch.finfo(found.dtype).tiny)

    def mixture(self, weights: dict[str, float]) -> ItemKernel:
        r"""The weighted sum of the views as low rank plus sparse."""
        if not self.deviation:
            users = torch.arange(self.graph.num_users, device=self.degree.device)
            self.measure_deviations(users[:: max(1, len(users) // 512)])
        factor = {
            name: weight / self.deviation[name] for name, weight in weights.items() if weight != 0
        }
        if not factor:
            factor = {'kernel': 1.0}
        return self._compressed(factor) if self.dense else self._sum(factor)

    def _compressed(self, factor: dict[str, float]) -> ItemKernel:
        num_items = self.graph.num_items
        total = torch.zeros(
            num_items, num_items, device=self.degree.device, dtype=self.degree.dtype
        )
        for name, value in factor.items():
            kernel = self.kernels[name]
            if kernel.weight is not None:
                total.add_(kernel.weight.to(total.dtype), alpha=value)
                continue
            if kernel.query is not None:
                total.addmm_(
                    kernel.query.to(total.dtype), kernel.key.t().to(total.dtype), alpha=value
                )
                continue
            sparse = kernel.neighbors
            dense = torch.zeros_like(total)
            dense[sparse.col.long(), sparse.row()] = sparse.value.to(total.dtype)
            if name == 'two_hop':
                dense = spmm(sparse.t(), dense)
            total.add_(dense, alpha=value)
        return compressed(total, self.rank, MOST_NEIGHBORS if self.num_neighbors > 0 else 0)

    def _sum(self, factor: dict[str, float]) -> ItemKernel:
        queries, keys = [], []
        row, col, value = [], [], []
        for name, scale in factor.items():
            kernel = self.kernels[name]
            if kernel.query is not None:
                queries.append(kernel.query)
                keys.append(scale * kernel.key)
            row.append(kernel.neighbors.row())
            col.append(kernel.neighbors.col.long())
            value.append(scale * kernel.neighbors.value)
        size = (self.graph.num_items, self.graph.num_items)
        merged = torch.sparse_coo_tensor(
            torch.stack([torch.cat(row), torch.cat(col)]), torch.cat(value), size
        ).coalesce()
        neighbors = None
        if self.num_neighbors > 0:
            neighbors = largest_entries(merged.indices(), merged.values(), size[0], MOST_NEIGHBORS)
        empty = [self.degree.new_zeros(size[0], 1)]
        return ItemKernel(
            size[0],
            query=torch.cat(queries or empty, dim=1),
            key=torch.cat(keys or empty, dim=1),
            neighbors=neighbors,
        )


def compressed(weight: Tensor, rank: int, num_neighbors: int) -> ItemKernel:
    r"""A dense kernel as its leading singular triples plus, per scored item, the largest entries of
    the rest.

    Args:
        weight: Kernel ``[I, I]`` from history items to scored items; used up.
        rank: Singular triples; up to four times as many items the kernel is kept whole.
        num_neighbors: Entries kept per scored item.
    """
    num_items = weight.size(0)
    if num_items <= 4 * rank:  # of a small catalog nothing need be lost
        identity = torch.eye(num_items, device=weight.device, dtype=weight.dtype)
        return ItemKernel(num_items, query=weight.fill_diagonal_(0), key=identity)
    with torch.random.fork_rng(devices=[]):  # what is drawn before or after must not depend on it
        torch.manual_seed(0)
        left, value, right = torch.svd_lowrank(weight, min(rank + 16, num_items), niter=4)
    left, value, right = left[:, :rank], value[:rank], right[:, :rank]
    root = value.sqrt()
    query, key = (left * root).contiguous(), (right * root).contiguous()
    neighbors = None
    if num_neighbors > 0:
        rest = weight.addmm_(query, key.t(), alpha=-1.0)
        rest.fill_diagonal_(0)  # an item of the history is never listed
        index = rest.abs().topk(min(num_neighbors, num_items), dim=0).indices.t()
        item = torch.arange(num_items, device=weight.device).unsqueeze(1).expand_as(index)
        entry = rest[index, item]
        keep = entry != 0
        neighbors = Adjacency.from_edge_index(
            torch.stack([item[keep], index[keep]]), entry[keep], (num_items, num_items)
        )
    return ItemKernel(num_items, query=query, key=key, neighbors=neighbors)


def with_neighbors(kernel: ItemKernel, k: int) -> ItemKernel:
    r"""The kernel with the ``k`` largest sparse entries per scored item."""
    if kernel.neighbors is None:
        return kernel
    index, value = kernel.neighbors.to_edge_index()
    return ItemKernel(
        kernel.num_items,
        query=kernel.query,
        key=kernel.key,
        neighbors=largest_entries(index, value, kernel.num_items, k) if k > 0 else None,
    )


def largest_entries(index: Tensor, value: Tensor, num_items: int, k: int) -> Adjacency:
    r"""The ``k`` entries of largest magnitude of every row of a coalesced matrix."""
    order = torch.argsort(value.abs(), descending=True, stable=True)
    order = order[torch.argsort(index[0][order], stable=True)]
    count = torch.bincount(index[0], minlength=num_items)
    rank = (
        torch.arange(order.numel(), device=order.device)
        - (count.cumsum(0) - count)[index[0][order]]
    )
    keep = order[rank < k]
    return Adjacency.from_edge_index(index[:, keep], value[keep], (num_items, num_items))
