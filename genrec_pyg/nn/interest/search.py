r"""Chooses schedule, views and their weights of a generated interest on the validation split."""
from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional

import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.closed_form import ItemKernel
from genrec_pyg.nn.interest.config import InterestConfig
from genrec_pyg.nn.interest.generated import GeneratedInterest
from genrec_pyg.nn.interest.held_out import HeldOutLists, Score
from genrec_pyg.nn.interest.schedule import FlipSchedule, KernelPath, popularity_discount
from genrec_pyg.nn.interest.views import MOST_NEIGHBORS, Views, with_neighbors
from genrec_pyg.nn.interest.weights import mixture_weights

logger = logging.getLogger(__name__)

RIDGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
RIDGE_POWERS = (0.0, 0.15, 0.3)
ROW_WEIGHTS = (0.0, 0.25, 0.5)
DISCOUNTS = (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5)

#: Recall that more sparse entries per item must bring.
WORTH_NEIGHBORS = 0.001

#: Most items of which all eigenpairs are found.
MAX_DECOMPOSED = 2_048
#: Items to the third power, over all inverses tried for the ridge of a larger catalog: a dozen seconds of one core.
TRIAL_OPERATIONS = 2.5e11

#: Weights of the views where nothing can be chosen, all views scaled to one deviation.
DEFAULT_WEIGHTS = {'kernel': 1.0, 'low_rank': 0.0, 'filter': 0.1, 'two_hop': 0.0}
DEFAULT_CONTENT_WEIGHT = 0.2


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
    views = Views(graph, config.rank, config.num_neighbors, config.max_items)
    curve: list[dict[str, float]] = []
    schedule, path = _choose_schedule(views, held_out, config, curve, config.rank)
    exact = schedule
    if not views.dense:
        exact, views.kernels['kernel'] = _choose_sparse(views, held_out, config, curve, schedule, path)
    else:
        exact, kernel = _choose_whole(views, held_out, config, curve, schedule)
        views.add_low_rank(path, schedule)
        views.add_whole(kernel, exact)
    views.add_others()
    names = list(views.kernels)
    recall: dict[str, float] = {}
    if isinstance(config.view_weights, dict):
        unknown = [name for name in config.view_weights if name not in names]
        if unknown:
            raise ConfigError(f"view_weights: got {', '.join(map(repr, unknown))}, accepted on this graph are "
                              f"{', '.join(names)}")
        weights = {name: float(config.view_weights.get(name, 0.0)) for name in names}
    elif held_out is None:
        weights = {name: DEFAULT_WEIGHTS.get(name, 0.0 if name.endswith('_ridge') else DEFAULT_CONTENT_WEIGHT)
                   for name in names}
    else:
        weights, recall = _choose_weights(views, held_out)
    kernel = views.mixture(weights)
    if held_out is not None:
        kernel, recall['compressed'] = _trimmed(kernel, views, held_out, config.num_neighbors)
    elif kernel.neighbors is not None:
        kernel = with_neighbors(kernel, config.num_neighbors)
    chosen = held_out is not None and not config.is_pinned
    return InterestChoice(kernel, exact, weights, chosen, recall, curve, time.perf_counter() - begin)


def _trimmed(kernel: ItemKernel, views: Views, held_out: HeldOutLists, num_neighbors: int) -> tuple[ItemKernel, float]:
    r"""The kernel with as few neighbors as do not cost recall, from ``num_neighbors`` on, and its recall."""
    interest = GeneratedInterest(views.graph)
    found: list[tuple[float, ItemKernel]] = []
    for k in dict.fromkeys([num_neighbors, 2 * num_neighbors, 5 * num_neighbors, MOST_NEIGHBORS]):
        if k > max(MOST_NEIGHBORS, num_neighbors) or kernel.neighbors is None and found:
            break
        candidate = with_neighbors(kernel, k)
        interest.set_kernel(candidate)
        found.append((held_out.recall(interest.score), candidate))
    best = max(recall for recall, _ in found)
    return next((candidate, recall) for recall, candidate in found if recall >= best - WORTH_NEIGHBORS)


def _pinned(config: InterestConfig) -> dict[str, float]:
    return {name: value for name in ('ridge', 'ridge_power', 'row_weight', 'discount')
            if (value := getattr(config, name)) != 'auto'}


def _choose_schedule(views: Views, held_out: Optional[HeldOutLists], config: InterestConfig,
                     curve: list[dict[str, float]], rank: int) -> tuple[FlipSchedule, KernelPath]:
    r"""The schedule of the best kernel: ridge and discount on one eigendecomposition, the two powers one after the other."""
    pinned = _pinned(config)
    start = replace(FlipSchedule(), **pinned)
    if held_out is None or len(pinned) == 4:
        return start, KernelPath(views.statistics(start.row_weight), start.ridge_power, rank)

    def best_of(schedule: FlipSchedule) -> tuple[float, FlipSchedule, KernelPath]:
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
        return measure(schedule), schedule, path

    best = best_of(start)
    for name, values in (('row_weight', ROW_WEIGHTS), ('ridge_power', RIDGE_POWERS)):
        if name in pinned:
            continue
        for value in values:
            if value != getattr(best[1], name):
                found = best_of(replace(best[1], **{name: value}))
                best = found if found[0] > best[0] else best
    return best[1:]


def _choose_whole(views: Views, held_out: Optional[HeldOutLists], config: InterestConfig, curve: list[dict[str, float]],
                  schedule: FlipSchedule) -> tuple[FlipSchedule, ItemKernel]:
    r"""Schedule and matrix of the whole kernel. Truncation regularizes too, so it wants another ridge than the leading
    eigenpairs: found on all eigenpairs of a small catalog, on a few inverses of a larger one."""
    num_items = views.graph.num_items
    if config.rank < num_items <= MAX_DECOMPOSED:
        schedule, _ = _choose_schedule(views, held_out, config, curve, num_items)
        return schedule, views.whole_kernel(schedule)
    kernel, trials = views.whole_kernel(schedule), int(TRIAL_OPERATIONS / num_items ** 3)
    pinned = _pinned(config)
    if held_out is None or 'ridge' in pinned or trials < 1 or config.rank >= num_items:
        return schedule, kernel

    def measure(candidate: FlipSchedule, matrix: ItemKernel) -> float:
        discount = popularity_discount(views.degree, candidate.discount)
        recall = held_out.recall(lambda user: matrix(views.histories(user)) * discount)
        curve.append({**vars(candidate), 'rank': num_items, 'recall': recall})
        return recall

    best = measure(schedule, kernel)
    for ridges in ([v for v in RIDGES if v > schedule.ridge], [v for v in reversed(RIDGES) if v < schedule.ridge]):
        start = schedule
        for ridge in ridges:
            trials -= 1
            if trials < 0:
                break
            candidate = replace(schedule, ridge=ridge)
            matrix = views.whole_kernel(candidate)
            recall = measure(candidate, matrix)
            if recall <= best:
                break
            best, schedule, kernel = recall, candidate, matrix
        if schedule is not start:
            break
    if 'discount' not in pinned:
        schedule = _climb(schedule, 'discount', DISCOUNTS, lambda candidate: measure(candidate, kernel))
    return schedule, kernel


def _choose_sparse(views: Views, held_out: Optional[HeldOutLists], config: InterestConfig, curve: list[dict[str, float]],
                   schedule: FlipSchedule, path: KernelPath) -> tuple[FlipSchedule, ItemKernel]:
    r"""Schedule and kernel as low rank plus sparse: ridge and discount once more, with the entries that the leading
    eigenpairs leave out."""
    kernels = views.sparse_path(path, schedule)
    pinned, found = _pinned(config), {}

    def measure(candidate: FlipSchedule) -> float:
        if candidate not in found:
            kernel = views.discounted(kernels.kernel(candidate.ridge), candidate)
            found[candidate] = held_out.recall(lambda user: kernel(views.histories(user)))
            curve.append({**vars(candidate), 'rank': config.rank, 'entries': kernel.neighbors.nnz,
                          'recall': found[candidate]})
        return found[candidate]

    for name, values in (('ridge', RIDGES), ('discount', DISCOUNTS)):
        if held_out is not None and name not in pinned:
            schedule = _climb(schedule, name, values, measure)
    return schedule, views.discounted(kernels.kernel(schedule.ridge), schedule)


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


def _choose_weights(views: Views, held_out: HeldOutLists) -> tuple[dict[str, float], dict[str, float]]:
    names = list(views.kernels)
    views.measure_deviations(held_out.user)
    scaled = [_scaled(views.score(name), 1 / views.deviation[name]) for name in names]
    weights, recall, value = mixture_weights(held_out.candidates(scaled), names)
    return weights, {**recall, 'mixture': value}


def _scaled(score: Score, factor: float) -> Score:
    return lambda user: score(user) * factor
