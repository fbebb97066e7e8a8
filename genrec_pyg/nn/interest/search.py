r"""Chooses schedule, views and their weights of a generated interest on the validation split."""
from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional, Union

import torch
from torch import Tensor

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.closed_form import (
    InteractionStatistics,
    ItemKernel,
    content_kernel,
    dense_interaction_kernel,
    graph_filter,
    low_rank_interaction_kernel,
    neighbor_kernel,
)
from genrec_pyg.nn.interest.generated import GeneratedInterest
from genrec_pyg.nn.interest.held_out import CandidateScores, HeldOutLists, Score
from genrec_pyg.nn.interest.schedule import FlipSchedule, KernelPath, popularity_discount
from genrec_pyg.nn.modality.features import centered_unit_rows
from genrec_pyg.ops import Adjacency, knn_graph, spmm

logger = logging.getLogger(__name__)

#: A number, or ``'auto'``: found on validation.
Auto = Union[float, str]

RIDGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
RIDGE_POWERS = (0.0, 0.15, 0.3)
ROW_WEIGHTS = (0.0, 0.25, 0.5)
DISCOUNTS = (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)

#: Neighbors per item by content.
NUM_CONTENT_NEIGHBORS = 10
#: Ridge of the regression on features.
CONTENT_RIDGE = 10.0

#: Most sparse entries per item, and the recall that more of them must bring.
MOST_NEIGHBORS = 200
WORTH_NEIGHBORS = 0.001

#: Most items of which all eigenpairs are found.
MAX_DECOMPOSED = 2_048

#: Weights of the views where nothing can be chosen, all views scaled to one deviation.
DEFAULT_WEIGHTS = {'kernel': 1.0, 'low_rank': 0.0, 'filter': 0.1, 'two_hop': 0.0}
DEFAULT_CONTENT_WEIGHT = 0.2


@dataclass(frozen=True)
class InterestConfig:
    r"""Settings of a generated interest; those that are ``'auto'`` are found on validation.

    Args:
        ridge: See :class:`FlipSchedule`.
        ridge_power: See :class:`FlipSchedule`.
        row_weight: See :class:`FlipSchedule`.
        discount: See :class:`FlipSchedule`.
        weights: ``'auto'``, or weights of the views ``'kernel'``, ``'low_rank'``, ``'filter'``, ``'two_hop'``
            and, of each modality, ``NAME`` (nearest items) and ``NAME_ridge`` (regression on features); those that are
            not named are 0.
        rank: Rank of the low-rank part; up to four times as many items the interest is kept whole.
        num_neighbors: Fewest sparse entries per item; more where that brings recall, 0 for none.
        max_items: Most items for which dense matrices of items x items are used on the way; about ``12 * max_items ** 2``
            bytes.
    """
    ridge: Auto = 'auto'
    ridge_power: Auto = 'auto'
    row_weight: Auto = 'auto'
    discount: Auto = 'auto'
    weights: Union[str, dict[str, float]] = 'auto'
    rank: int = 256
    num_neighbors: int = 20
    max_items: int = 8_000

    def __post_init__(self):
        for name in ('ridge', 'ridge_power', 'row_weight', 'discount'):
            value = getattr(self, name)
            if value != 'auto' and not (isinstance(value, (int, float)) and math.isfinite(value)):
                raise ConfigError(f"{name}: got {value!r}, accepted are 'auto' and numbers")
        if self.ridge != 'auto' and not self.ridge > 0:
            raise ConfigError(f"ridge: got {self.ridge}, accepted are 'auto' and positive numbers")
        for name, value, low in (('rank', self.rank, 1), ('num_neighbors', self.num_neighbors, 0)):
            if not value >= low:
                raise ConfigError(f'interest_{name}: got {value}, accepted are integers from {low}')
        if isinstance(self.weights, str) and self.weights != 'auto':
            raise ConfigError(f"view_weights: got {self.weights!r}, accepted are 'auto' and a weight per view")
        if not isinstance(self.weights, str) and not (all(value >= 0 for value in self.weights.values()) and
                                                      any(self.weights.values())):
            raise ConfigError(f'view_weights: got {self.weights}, accepted are weights from 0, of which one is positive')

    @property
    def is_pinned(self) -> bool:
        r"""Whether nothing is left to choose."""
        return 'auto' not in (self.ridge, self.ridge_power, self.row_weight, self.discount, self.weights)


@dataclass
class InterestChoice:
    r"""A generated interest and how it was found.

    Args:
        kernel: Low rank plus sparse.
        schedule: Flip schedule of the kernel; that of its low-rank view may be another, see the curve.
        weights: Weight of every view.
        chosen: Whether anything was chosen on validation.
        recall: Validation recall of the interest, of every view and of the search, on the users that were measured.
        curve: Settings tried, with their recall.
        seconds: Seconds taken.
    """
    kernel: ItemKernel
    schedule: FlipSchedule
    weights: dict[str, float]
    chosen: bool
    recall: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0

    def report(self) -> dict[str, Any]:
        r"""Plain values for logs and ``metrics.json``."""
        return {'schedule': vars(self.schedule) | {}, 'weights': self.weights, 'chosen_on_validation': self.chosen,
                'recall': self.recall, 'curve': self.curve, 'seconds': self.seconds}


@torch.no_grad()
def choose_interest(graph: TrainingGraph, held_out: Optional[HeldOutLists] = None,
                    config: InterestConfig = InterestConfig()) -> InterestChoice:
    r"""Finds the generated interest of a graph.

    Views are the closed-form flip denoiser (kernel), the graph filter over one and two hops, and the content neighbors of
    each modality. First the schedule of the kernel is found, then the weights of the views by coordinate search from the best
    single view, so that on the users measured the mixture is at least as good as each of them.

    Args:
        graph: Training graph.
        held_out: Validation users; :obj:`None`, or too few of them, take the documented fallback.
        config: Settings.

    Raises:
        ConfigError: If a weight is given for a view that the graph has not.
    """
    begin = time.perf_counter()
    if held_out is not None and not held_out.suffices:
        logger.warning('interest: %d users have validation items, too few to choose on; its settings are the defaults',
                       held_out.user.numel())
        held_out = None
    views = _Views(graph, config)
    curve: list[dict[str, float]] = []
    schedule = _choose_schedule(views, held_out, config, curve, config.rank)
    exact = schedule
    if config.rank < graph.num_items <= MAX_DECOMPOSED:  # truncation regularizes too: the whole kernel wants another ridge
        exact = _choose_schedule(views, held_out, config, curve, graph.num_items)
    views.add_kernel(exact, schedule)
    views.add_others()
    names = list(views.kernels)
    recall: dict[str, float] = {}
    if isinstance(config.weights, dict):
        unknown = [name for name in config.weights if name not in names]
        if unknown:
            raise ConfigError(f"view_weights: got {', '.join(map(repr, unknown))}, accepted on this graph are "
                              f"{', '.join(names)}")
        weights = {name: float(config.weights.get(name, 0.0)) for name in names}
    elif held_out is None:
        weights = {name: DEFAULT_WEIGHTS.get(name, 0.0 if name.endswith('_ridge') else DEFAULT_CONTENT_WEIGHT)
                   for name in names}
    else:
        weights, recall = _choose_weights(views, held_out)
    kernel = views.mixture(weights)
    if held_out is not None:
        kernel, recall['compressed'] = _trimmed(kernel, views, held_out, config.num_neighbors)
    elif kernel.neighbors is not None:
        kernel = _with_neighbors(kernel, config.num_neighbors)
    chosen = held_out is not None and not config.is_pinned
    return InterestChoice(kernel, exact, weights, chosen, recall, curve, time.perf_counter() - begin)


class _Views:
    r"""Views of the items, each a map from histories to scores."""

    def __init__(self, graph: TrainingGraph, config: InterestConfig):
        self.graph, self.config = graph, config
        self.interactions = Adjacency.from_edge_index(graph.edge_index, size=(graph.num_users, graph.num_items))
        self.degree = graph.item_degree().clamp(min=1).float()
        self.dense = graph.num_items <= config.max_items
        self.kernels: dict[str, ItemKernel] = {}
        self.discount = torch.ones_like(self.degree)
        self.deviation: dict[str, float] = {}
        self._statistics: dict[float, InteractionStatistics] = {}

    def statistics(self, row_weight: float) -> InteractionStatistics:
        if row_weight not in self._statistics:
            self._statistics[row_weight] = InteractionStatistics.of(self.interactions, row_weight)
        return self._statistics[row_weight]

    def add_kernel(self, schedule: FlipSchedule, low_rank: FlipSchedule) -> None:
        statistics = self.statistics(schedule.row_weight)
        ridge = statistics.ridge(schedule.ridge * float(statistics.gram_diagonal.mean()), schedule.ridge_power)
        self.discount = popularity_discount(self.degree, schedule.discount)
        if self.dense:
            kernel = dense_interaction_kernel(statistics, ridge)
            kernel.weight.mul_(self.discount)
            # Without the small eigenvalues, which are mostly noise, it is another view, and sometimes the better one.
            path = KernelPath(self.statistics(low_rank.row_weight), low_rank.ridge_power, self.config.rank)
            key = path.keys(low_rank.ridge) * popularity_discount(self.degree, low_rank.discount).unsqueeze(1)
            self.kernels['low_rank'] = ItemKernel(self.graph.num_items, query=path.query, key=key)
        else:
            kernel = low_rank_interaction_kernel(statistics, ridge, self.config.rank, self.config.num_neighbors)
            kernel.key.mul_(self.discount.unsqueeze(1))
            neighbors = kernel.neighbors
            kernel.neighbors = neighbors.with_value(neighbors.value * self.discount[neighbors.row()])
        self.kernels['kernel'] = kernel

    def add_others(self) -> None:
        self.kernels['filter'] = graph_filter(self.interactions)
        if self.dense:  # two hops are neither sparse nor of low rank
            self.kernels['two_hop'] = self.kernels['filter']
        for name, modality in self.graph.modalities.items():
            x = centered_unit_rows(modality.item_features().to(self.degree.dtype))
            if bool((x != 0).any()):
                (item, neighbor), similarity = knn_graph(x, NUM_CONTENT_NEIGHBORS, include_self=False)
                self.kernels[name] = neighbor_kernel(item, neighbor, similarity, self.graph.num_items)
                self.kernels[f'{name}_ridge'] = content_kernel(x, CONTENT_RIDGE)
            else:
                logger.warning('modality %r: all features are equal or missing; it is no view of the interest', name)

    def score(self, name: str) -> Score:
        def score(user: Tensor) -> Tensor:
            rows = Adjacency(*self.interactions.select_rows(user), None, (user.numel(), self.graph.num_items))
            scores = self.kernels[name](rows)
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
            self.measure_deviations(users[::max(1, len(users) // 512)])
        factor = {name: weight / self.deviation[name] for name, weight in weights.items() if weight != 0}
        if not factor:
            factor = {'kernel': 1.0}
        return self._compressed(factor) if self.dense else self._sum(factor)

    def _compressed(self, factor: dict[str, float]) -> ItemKernel:
        num_items = self.graph.num_items
        total = torch.zeros(num_items, num_items, device=self.degree.device, dtype=self.degree.dtype)
        for name, value in factor.items():
            kernel = self.kernels[name]
            if kernel.weight is not None:
                total.add_(kernel.weight.to(total.dtype), alpha=value)
                continue
            if kernel.query is not None:
                total.addmm_(kernel.query.to(total.dtype), kernel.key.t().to(total.dtype), alpha=value)
                continue
            sparse = kernel.neighbors
            dense = torch.zeros_like(total)
            dense[sparse.col.long(), sparse.row()] = sparse.value.to(total.dtype)
            if name == 'two_hop':
                dense = spmm(sparse.t(), dense)
            total.add_(dense, alpha=value)
        return compressed(total, self.config.rank, MOST_NEIGHBORS if self.config.num_neighbors > 0 else 0)

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
        merged = torch.sparse_coo_tensor(torch.stack([torch.cat(row), torch.cat(col)]), torch.cat(value), size).coalesce()
        neighbors = None
        if self.config.num_neighbors > 0:
            neighbors = _largest(merged.indices(), merged.values(), size[0], MOST_NEIGHBORS)
        empty = [self.degree.new_zeros(size[0], 1)]
        return ItemKernel(size[0], query=torch.cat(queries or empty, dim=1), key=torch.cat(keys or empty, dim=1),
                          neighbors=neighbors)


def compressed(weight: Tensor, rank: int, num_neighbors: int) -> ItemKernel:
    r"""A dense kernel as its leading singular triples plus, per scored item, the largest entries of the rest.

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
        neighbors = Adjacency.from_edge_index(torch.stack([item[keep], index[keep]]), entry[keep], (num_items, num_items))
    return ItemKernel(num_items, query=query, key=key, neighbors=neighbors)


def _with_neighbors(kernel: ItemKernel, k: int) -> ItemKernel:
    r"""The kernel with the ``k`` largest sparse entries per scored item."""
    if kernel.neighbors is None:
        return kernel
    index, value = kernel.neighbors.to_edge_index()
    return ItemKernel(kernel.num_items, query=kernel.query, key=kernel.key,
                      neighbors=_largest(index, value, kernel.num_items, k) if k > 0 else None)


def _trimmed(kernel: ItemKernel, views: _Views, held_out: HeldOutLists, num_neighbors: int) -> tuple[ItemKernel, float]:
    r"""The kernel with as few neighbors as do not cost recall, from ``num_neighbors`` on, and its recall."""
    interest = GeneratedInterest(views.graph)
    found: list[tuple[float, ItemKernel]] = []
    for k in dict.fromkeys([num_neighbors, 2 * num_neighbors, 5 * num_neighbors, MOST_NEIGHBORS]):
        if k > max(MOST_NEIGHBORS, num_neighbors) or kernel.neighbors is None and found:
            break
        candidate = _with_neighbors(kernel, k)
        interest.set_kernel(candidate)
        found.append((held_out.recall(interest.score), candidate))
    best = max(recall for recall, _ in found)
    return next((candidate, recall) for recall, candidate in found if recall >= best - WORTH_NEIGHBORS)


def _largest(index: Tensor, value: Tensor, num_items: int, k: int) -> Adjacency:
    r"""The ``k`` entries of largest magnitude of every row of a coalesced matrix."""
    order = torch.argsort(value.abs(), descending=True, stable=True)
    order = order[torch.argsort(index[0][order], stable=True)]
    count = torch.bincount(index[0], minlength=num_items)
    rank = torch.arange(order.numel(), device=order.device) - (count.cumsum(0) - count)[index[0][order]]
    keep = order[rank < k]
    return Adjacency.from_edge_index(index[:, keep], value[keep], (num_items, num_items))


def _choose_schedule(views: _Views, held_out: Optional[HeldOutLists], config: InterestConfig,
                     curve: list[dict[str, float]], rank: int) -> FlipSchedule:
    r"""The schedule of the best kernel: ridge and discount on one eigendecomposition, the two powers one after the other."""
    pinned = {name: value for name in ('ridge', 'ridge_power', 'row_weight', 'discount')
              if (value := getattr(config, name)) != 'auto'}
    start = replace(FlipSchedule(), **pinned)
    if held_out is None or len(pinned) == 4:
        return start

    def best_of(schedule: FlipSchedule) -> tuple[float, FlipSchedule]:
        path = KernelPath(views.statistics(schedule.row_weight), schedule.ridge_power, rank)
        found: dict[FlipSchedule, float] = {}

        def measure(candidate: FlipSchedule) -> float:
            if candidate not in found:
                key = path.keys(candidate.ridge) * popularity_discount(views.degree, candidate.discount).unsqueeze(1)
                found[candidate] = held_out.recall(lambda user: path.history[user] @ key.t())
                curve.append({**vars(candidate), 'rank': rank, 'recall': found[candidate]})
            return found[candidate]

        for _ in range(2):
            before = schedule
            for name, values in (('ridge', RIDGES), ('discount', DISCOUNTS)):
                if name not in pinned:
                    schedule = _climb(schedule, name, values, measure)
            if schedule == before:
                break
        return measure(schedule), schedule

    best = best_of(start)
    for name, values in (('row_weight', ROW_WEIGHTS), ('ridge_power', RIDGE_POWERS)):
        if name in pinned:
            continue
        for value in values:
            if value != getattr(best[1], name):
                found = best_of(replace(best[1], **{name: value}))
                best = found if found[0] > best[0] else best
    return best[1]


def _climb(schedule: FlipSchedule, name: str, values: Sequence[float], measure) -> FlipSchedule:
    r"""Moves one setting along its grid while the recall grows."""
    for step in (1, -1):
        moved = False
        while True:
            here = getattr(schedule, name)
            further = [v for v in values if (v > here if step > 0 else v < here)]
            if not further:
                break
            candidate = replace(schedule, **{name: further[0] if step > 0 else further[-1]})
            if measure(candidate) <= measure(schedule):
                break
            schedule, moved = candidate, True
        if moved:
            break
    return schedule


def _choose_weights(views: _Views, held_out: HeldOutLists) -> tuple[dict[str, float], dict[str, float]]:
    names = list(views.kernels)
    views.measure_deviations(held_out.user)
    scaled = [_scaled(views.score(name), 1 / views.deviation[name]) for name in names]
    weights, recall, value = mixture_weights(held_out.candidates(scaled), names)
    return weights, {**recall, 'mixture': value}


def mixture_weights(candidates: CandidateScores, names: Sequence[str]) -> tuple[dict[str, float], dict[str, float], float]:
    r"""Weights of a mixture by coordinate search from the best single function, so that it is at least as good as each.

    Args:
        candidates: Scores of the functions.
        names: Their names, in the same order.

    Returns:
        Weights, the recall of every single function, and that of the mixture.
    """
    single = {name: candidates.recall([float(other == name) for other in names]) for name in names}
    start = max(names, key=single.get)
    weights = {name: float(name == start) for name in names}
    weights, value = coordinate_search(weights, lambda w: candidates.recall(list(w.values())))
    return weights, single, value


def coordinate_search(weights: dict[str, float], measure, values: Sequence[float] = WEIGHTS,
                      num_rounds: int = 2) -> tuple[dict[str, float], float]:
    r"""Moves one weight after the other to its best value while that is better; at least one stays positive.

    Args:
        weights: Where to start.
        measure: Function of the weights.
        values: Values tried.
        num_rounds: Rounds over the weights.

    Returns:
        The weights and their value.
    """
    best = measure(weights)
    for _ in range(num_rounds):
        before = best
        for name in weights:
            for value in values:
                candidate = {**weights, name: value}
                if value == weights[name] or not any(candidate.values()):
                    continue
                found = measure(candidate)
                if found > best:
                    best, weights = found, candidate
        if best <= before:
            break
    return weights, best


def _scaled(score: Score, factor: float) -> Score:
    return lambda user: score(user) * factor
