r"""Chooses schedule, views and their weights of a generated interest on the validation split."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import TrainingGraph
from genrec_pyg.nn.closed_form import ItemKernel
from genrec_pyg.nn.interest.config import InterestConfig
from genrec_pyg.nn.interest.generated import GeneratedInterest
from genrec_pyg.nn.interest.held_out import HeldOutLists, Score
from genrec_pyg.nn.interest.schedule import FlipSchedule
from genrec_pyg.nn.interest.schedule_search import ScheduleSearch
from genrec_pyg.nn.interest.views import MOST_NEIGHBORS, Views, with_neighbors
from genrec_pyg.nn.interest.weights import mixture_weights

logger = logging.getLogger(__name__)

#: Recall that more sparse entries per item must bring.
WORTH_NEIGHBORS = 0.001

#: Best items of every view among which the weights are found.
WEIGHT_DEPTH = 50

#: Weights of the views where nothing can be chosen, all views scaled to one deviation.
DEFAULT_WEIGHTS = {'kernel': 1.0, 'low_rank': 0.0, 'filter': 0.1, 'two_hop': 0.0}
DEFAULT_CONTENT_WEIGHT = 0.2


@dataclass
class InterestChoice:
    r"""A generated interest and how it was found.

    Args:
        kernel: Low rank plus sparse.
        schedule: Flip schedule of the kernel; that of its low-rank view may be another, see the
            curve.
        weights: Weight of every view.
        chosen: Whether anything was chosen on validation.
        recall: Validation recall of the interest, of every view and of the search, on the users
            that were measured.
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
        return {
            'schedule': vars(self.schedule) | {},
            'weights': self.weights,
            'chosen_on_validation': self.chosen,
            'recall': self.recall,
            'curve': self.curve,
            'seconds': self.seconds,
        }


@torch.no_grad()
def choose_interest(
    graph: TrainingGraph,
    held_out: HeldOutLists | None = None,
    config: InterestConfig = InterestConfig(),
) -> InterestChoice:
    r"""Finds the generated interest of a graph.

    Views are the closed-form flip denoiser (kernel), the graph filter over one and two hops, and
    the content neighbors of each modality. First the schedule of the kernel is found, then the
    weights of the views by coordinate search from the best single view and from the form of
    Add-EASE (up to ``max_items`` items), so that on the users measured the mixture is at least as
    good as each of them.

    Args:
        graph: Training graph.
        held_out: Validation users; :obj:`None`, or too few of them, take the documented fallback.
        config: Settings.

    Raises:
        ConfigError: If a weight is given for a view that the graph has not.
    """
    begin = time.perf_counter()
    if held_out is not None and not held_out.suffices:
        logger.warning(
            'interest: %d users have validation items, too few to choose on; its settings '
            'are the defaults',
            held_out.user.numel(),
        )
        held_out = None
    views = Views(graph, config.rank, config.num_neighbors, config.max_items)
    search = ScheduleSearch(views, held_out, config)
    schedule, path = search.low_rank()
    if views.dense:
        exact, kernel = search.whole(schedule)
        views.add_low_rank(path, schedule)
        views.add_whole(kernel, exact)
    else:
        exact, views.kernels['kernel'] = search.sparse(schedule, path)
    views.add_others()
    names = list(views.kernels)
    recall: dict[str, float] = {}
    if isinstance(config.view_weights, dict):
        unknown = [name for name in config.view_weights if name not in names]
        if unknown:
            raise ConfigError(
                f'view_weights: got {", ".join(map(repr, unknown))}, accepted on this graph are '
                f'{", ".join(names)}'
            )
        weights = {name: float(config.view_weights.get(name, 0.0)) for name in names}
    elif held_out is None:
        weights = {
            name: DEFAULT_WEIGHTS.get(
                name, 0.0 if name.endswith('_ridge') else DEFAULT_CONTENT_WEIGHT
            )
            for name in names
        }
    else:
        weights, recall = _choose_weights(views, held_out)
    kernel = views.mixture(weights)
    if held_out is not None:
        kernel, recall['compressed'] = _trimmed(kernel, views, held_out, config.num_neighbors)
    elif kernel.neighbors is not None:
        kernel = with_neighbors(kernel, config.num_neighbors)
    chosen = held_out is not None and not config.is_pinned
    return InterestChoice(
        kernel, exact, weights, chosen, recall, search.curve, time.perf_counter() - begin
    )


def _trimmed(
    kernel: ItemKernel, views: Views, held_out: HeldOutLists, num_neighbors: int
) -> tuple[ItemKernel, float]:
    r"""The kernel with as few neighbors as do not cost recall, from ``num_neighbors`` on, and its
    recall.
    """
    interest = GeneratedInterest(views.graph)
    found: list[tuple[float, ItemKernel]] = []
    for k in dict.fromkeys([num_neighbors, 2 * num_neighbors, 5 * num_neighbors, MOST_NEIGHBORS]):
        if k > max(MOST_NEIGHBORS, num_neighbors) or kernel.neighbors is None and found:
            break
        candidate = with_neighbors(kernel, k)
        interest.set_kernel(candidate)
        found.append((held_out.recall(interest.score), candidate))
    best = max(recall for recall, _ in found)
    return next(
        (candidate, recall) for recall, candidate in found if recall >= best - WORTH_NEIGHBORS
    )


def _choose_weights(
    views: Views, held_out: HeldOutLists
) -> tuple[dict[str, float], dict[str, float]]:
    names = list(views.kernels)
    views.measure_deviations(held_out.user)
    scaled = [_scaled(views.score(name), 1 / views.deviation[name]) for name in names]
    candidates = held_out.candidates(scaled, WEIGHT_DEPTH)
    weights, recall, value = mixture_weights(candidates, names, _starts(views))
    return weights, {**recall, 'mixture': value}


def _starts(views: Views) -> list[dict[str, float]]:
    r"""Kernel and regressions on features together, as in Add-EASE, which a search from a single
    view may not reach: it adds the neighbors by content first. Not where every column of the
    features would be one of the embeddings.
    """
    if not views.dense:
        return []
    names = list(views.kernels)
    contents = [
        [name for name in names if name.endswith('_fine_ridge')],
        [name for name in names if name.endswith('_ridge') and not name.endswith('_fine_ridge')],
    ]
    return [{'kernel': 1.0, **dict.fromkeys(content, 0.5)} for content in contents if content]


def _scaled(score: Score, factor: float) -> Score:
    return lambda user: score(user) * factor
