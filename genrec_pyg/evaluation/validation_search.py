r"""Settings of models in closed form, found on the validation split by a search along one
coordinate after the other.

Such a model is fitted in a second, so that a search of some fits takes seconds; settings that need
no fit at all (the popularity discount, the number of hops, the weight of the content) are tried on
every fit. The test split has no part in it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch_geometric.data import HeteroData

from genrec_pyg.evaluation.search_paths import (
    DENSE_ITEMS,
    MODALITY,
    MODALITY_WEIGHTS,
    PATHS,
    Path,
    Setting,
)
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import ITEM, USER, TrainingGraph, has_split, split_edges, training_graph
from genrec_pyg.nn.closed_form import InteractionStatistics
from genrec_pyg.nn.models import Recommender, get_model
from genrec_pyg.ops import Adjacency, rows_per_block, topk_excluding

logger = logging.getLogger(__name__)

#: Fewest users with validation items on which settings are chosen: the standard error of a recall
#: is up to 0.07 then.
MIN_USERS = 50
#: Most users on whom a setting is measured.
MAX_USERS = 5000
#: Rounds over the coordinates, each of which stops where nothing is better.
MAX_ROUNDS = 3


@dataclass
class Tuned:
    r"""A model and how its settings were found.

    Args:
        model: The model, fitted with the settings.
        settings: Arguments of its constructor.
        recall: Its validation recall, on the users that were measured; :obj:`None` where nothing
            was chosen.
        chosen: Whether the settings were chosen on validation; otherwise they are the defaults.
        reason: One sentence for the log.
        curve: Settings tried and their validation recall, in order.
        seconds: Seconds taken.
    """

    model: Recommender
    settings: Setting
    recall: float | None
    chosen: bool
    reason: str
    curve: list[tuple[Setting, float]]
    seconds: float


class ValidationRecall:
    r"""Recall@k on the validation split, training items masked; reads training and validation edges
    and nothing else.

    Args:
        data: Canonical graph with splits.
        k: Length of the lists.
        max_users: Users measured; more are thinned out evenly.
    """

    def __init__(self, data: HeteroData, k: int = 20, max_users: int = MAX_USERS):
        self.k = k
        num_users, num_items = int(data[USER].num_nodes), int(data[ITEM].num_nodes)
        held_out = (
            split_edges(data, 'val')
            if has_split(data, 'val')
            else torch.empty(2, 0, dtype=torch.long)
        )
        self.known = Adjacency.from_edge_index(
            split_edges(data, 'train'), size=(num_users, num_items)
        )
        self.held_out = Adjacency.from_edge_index(held_out, size=(num_users, num_items))
        user = held_out[0].unique()
        self.num_users = user.numel()
        if user.numel() > max_users:
            user = user[torch.linspace(0, user.numel() - 1, max_users).long()]
        self.user = user

    @torch.no_grad()
    def __call__(self, model: Recommender) -> float:
        r"""Mean recall of ``model`` over the users."""
        total, num_items = 0.0, self.known.size[1]
        for user in self.user.split(rows_per_block(num_items)):
            _, item = topk_excluding(
                model.score(user), min(self.k, num_items), *self.known.select_rows(user)
            )
            rowptr, target = self.held_out.select_rows(user)
            row = torch.repeat_interleave(rowptr.diff())
            found = (item[row] == target.unsqueeze(1)).any(dim=1)
            total += float(
                (torch.bincount(row[found], minlength=user.numel()).double() / rowptr.diff()).sum()
            )
        return total / self.user.numel()


def tune_on_validation(
    name: str,
    data: HeteroData,
    start: Mapping[str, Any] | None = None,
    fallback: Mapping[str, Any] | None = None,
    pinned: Sequence[str] = (),
    max_seconds: float = 60.0,
    k: int = 20,
    min_users: int = MIN_USERS,
) -> Tuned:
    r"""Finds the settings of a model in closed form on the validation split.

    From the start one coordinate after the other is moved while the validation Recall@k grows, in
    rounds until none does or the time is over; the first fit is always made. Where fewer than
    ``min_users`` users have validation items, nothing is chosen and ``fallback`` is taken.

    Args:
        name: Model of :data:`PATHS`.
        data: Canonical graph with splits.
        start: Settings to start from, over those of the path, as the constructor takes them.
        fallback: Arguments of the model where nothing is chosen; its defaults if :obj:`None`.
        pinned: Settings that stay as they start.
        max_seconds: Time for the search.
        k: Length of the lists.
        min_users: Fewest users on whom settings are chosen.

    Raises:
        ConfigError: If there is no path for the model, or the model refuses the graph.
    """
    if name not in PATHS:
        raise ConfigError(
            f'model: got {name!r}, accepted for a search in closed form are {", ".join(PATHS)}'
        )
    begin, path = time.monotonic(), PATHS[name]
    graph = training_graph(data)
    recall = ValidationRecall(data, k)
    if recall.num_users < min_users:
        settings = dict(fallback or {})
        reason = (
            f'{name}: {recall.num_users} users have validation items, fewer than the {min_users} '
            f'on which settings are chosen; it takes its defaults'
        )
        logger.info(reason)
        return Tuned(
            get_model(name)(graph, **settings),
            settings,
            None,
            False,
            reason,
            [],
            time.monotonic() - begin,
        )
    search = _Search(name, graph, recall, path, begin + max_seconds)
    given = search.from_arguments(start or {})
    search.run([{**path.start, **other, **given} for other in ({}, *path.others)], set(pinned))
    settings, seconds = search.to_arguments(search.best), time.monotonic() - begin
    tail = '' if search.complete else ', stopped when the time for it was over'
    reason = (
        f'{name}: {settings} chosen among {len(search.curve)} settings on {recall.user.numel()} '
        f'users of the validation split, recall@{k} {search.value:.4f}, {seconds:.1f} s{tail}'
    )
    logger.info(reason)
    return Tuned(search.best_model(), settings, search.value, True, reason, search.curve, seconds)


class _Search:
    r"""State of a search: settings are in the units of the path, ``fitted`` ones name a fit."""

    def __init__(
        self,
        name: str,
        graph: TrainingGraph,
        recall: Callable[[Recommender], float],
        path: Path,
        deadline: float,
    ):
        self.name = name
        self.graph = graph
        self.recall = recall
        self.path = path
        self.deadline = deadline
        self.interactions = Adjacency.from_edge_index(
            graph.edge_index, size=(graph.num_users, graph.num_items)
        )
        weights = (
            [MODALITY + m for m in graph.modalities]
            if path.modalities and len(graph.modalities) > 1
            else []
        )
        modalities = dict.fromkeys(weights, MODALITY_WEIGHTS)
        # Features alone are refitted in AddEASE, else they are a part of the fit.
        in_place = 'content_l2' in path.adjusted
        self.fitted = dict(path.fitted) if in_place else {**path.fitted, **modalities}
        self.adjusted = {**path.adjusted, **modalities} if in_place else dict(path.adjusted)
        self.modalities = dict.fromkeys(weights, 1.0)
        self.curve: list[tuple[Setting, float]] = []
        self.seen: dict[tuple, float] = {}
        self.best: Setting = {}
        self.value = float('-inf')
        self.complete = True
        self._model: tuple[tuple, Recommender] | None = None
        self._best_model: tuple[tuple, Recommender] | None = None
        self._units: dict[float, float] = {}

    def run(self, starts: list[Setting], pinned: set[str]) -> None:
        r"""Searches from the best of ``starts``."""
        many = self.path.low_rank and self.graph.num_items > DENSE_ITEMS
        common = {**self.modalities, **({'max_items': 0} if many else {})}
        for start in starts:
            if self.curve and time.monotonic() > self.deadline:
                self.complete = False
                return
            self.try_setting({**common, **start})
            self.move_adjusted(pinned, {**common, **start})
        for _ in range(MAX_ROUNDS):
            before = self.value
            for name, values in self.fitted.items():
                if name not in pinned and not self.climb(name, values, pinned):
                    self.complete = False
                    return
            if self.value <= before:
                break
        if many and 'max_items' not in pinned and self.best['max_items'] == 0:
            self.complete = self.climb('max_items', (0, self.graph.num_items), pinned)

    def climb(self, name: str, values: Sequence[Any], pinned: set[str]) -> bool:
        r"""Moves one fitted setting while that is better, or over all of its values; whether there
        was time for it.
        """
        for step in (1, -1):
            value, start = self.best[name], self.value
            while (value := _neighbor(values, value, step)) is not None:
                if time.monotonic() > self.deadline:
                    return False
                before = self.value
                here = {**self.best, name: value}
                self.try_setting(here)
                self.move_adjusted(pinned, self.best if self.value > before else here)
                if self.value <= before and not self.path.scan:
                    break
            if self.value > start and not self.path.scan:
                break
        return True

    def move_adjusted(self, pinned: set[str], origin: Setting | None = None) -> None:
        r"""Moves the settings that need no fit, from ``origin``, while that is better than at
        ``origin``.
        """
        here = dict(self.best if origin is None else origin)
        value = self.measure(here)
        for name, values in self.adjusted.items():
            for step in (1, -1) if name not in pinned else ():
                moved = False
                while (other := _neighbor(values, here[name], step)) is not None:
                    if time.monotonic() > self.deadline:
                        self.complete = False
                        return
                    candidate = {**here, name: other}
                    found = self.try_setting(candidate)
                    if found <= value:
                        break
                    here, value, moved = candidate, found, True
                if moved:
                    break

    def try_setting(self, setting: Setting) -> float:
        found = self.measure(setting)
        if found > self.value:
            self.best, self.value, self._best_model = setting, found, self._model
        return found

    def measure(self, setting: Setting) -> float:
        key = tuple(sorted(setting.items()))
        if key not in self.seen:
            modalities = [value for name, value in setting.items() if name.startswith(MODALITY)]
            if modalities and not any(modalities):
                self.seen[key] = float('-inf')  # all modalities switched off
            else:
                self.seen[key] = self.recall(self.fit(setting))
                self.curve.append((self.to_arguments(setting), self.seen[key]))
        return self.seen[key]

    def fit(self, setting: Setting) -> Recommender:
        r"""The model of a setting; the last one is adjusted where that is enough."""
        key = self._fit_key(setting)
        if self._model is None or self._model[0] != key:
            same_as_best = self._best_model is not None and self._best_model[0] == key
            model = (
                self._best_model[1]
                if same_as_best
                else get_model(self.name)(self.graph, **self.to_arguments(setting))
            )
            self._model = key, model
        _adjust(self._model[1], {name: setting[name] for name in self.adjusted})
        return self._model[1]

    def best_model(self) -> Recommender:
        self._model = self._best_model
        return self.fit(self.best)

    def _fit_key(self, setting: Setting) -> tuple:
        return tuple(
            (name, value) for name, value in sorted(setting.items()) if name not in self.adjusted
        )

    def unit(self, setting: Setting) -> float:
        r"""Mean diagonal of the Gram matrix under the row weight of a setting."""
        power = setting.get('row_weight', 0.0)
        if power not in self._units:
            statistics = InteractionStatistics.of(self.interactions, power)
            self._units[power] = float(statistics.gram_diagonal.mean())
        return self._units[power]

    def to_arguments(self, setting: Setting) -> Setting:
        r"""Arguments of the constructor."""
        arguments = {
            name: value for name, value in setting.items() if not name.startswith(MODALITY)
        }
        for name in self.path.relative:
            arguments[name] = float(f'{arguments[name] * self.unit(setting):.6g}')
        if self.modalities:
            arguments['modality_weights'] = {
                name: setting[MODALITY + name] for name in self.graph.modalities
            }
        return arguments

    def from_arguments(self, arguments: Mapping[str, Any]) -> Setting:
        r"""The inverse of :meth:`to_arguments`."""
        setting = {name: value for name, value in arguments.items() if name != 'modality_weights'}
        for name in self.path.relative:
            if name in setting:
                setting[name] = setting[name] / self.unit({**self.path.start, **setting})
        weights = arguments.get('modality_weights') or {}
        setting.update(
            {
                MODALITY + name: value
                for name, value in weights.items()
                if MODALITY + name in self.modalities
            }
        )
        return setting


def _adjust(model: Recommender, setting: Setting) -> None:
    r"""Gives a fitted model the settings that need no fit of the interactions."""
    weights = {
        name.removeprefix(MODALITY): value
        for name, value in setting.items()
        if name.startswith(MODALITY)
    }
    content = (setting.get('content_l2'), tuple(weights.items()))
    if 'content_l2' in setting and getattr(model, 'fitted_content', None) != content:
        model.fit_content(setting['content_l2'], weights or None)
        model.fitted_content = content
    for name, value in setting.items():
        if name != 'content_l2' and not name.startswith(MODALITY):
            setattr(model, name, value)


def _neighbor(values: Sequence[Any], value: Any, step: int) -> Any | None:
    r"""The next larger (``step`` 1) or smaller (-1) entry of ascending ``values`` next to
    ``value``, which need not be one.
    """
    further = [v for v in values if (v > value if step > 0 else v < value)]
    return None if not further else further[0] if step > 0 else further[-1]
