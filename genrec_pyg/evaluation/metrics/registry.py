r"""The table of metrics beyond accuracy, and their measurement."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from genrec_pyg.evaluation.lists import Lists
from genrec_pyg.evaluation.metrics.catalog import gini, personalization
from genrec_pyg.evaluation.metrics.diversity import diversity
from genrec_pyg.evaluation.metrics.popularity import miscalibration, novelty, popularity_lift
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.utils.plugins import installed, is_place, load_place

logger = logging.getLogger(__name__)

Values = Tensor | float | Mapping[str, Tensor | float]
Metric = Callable[[Lists, Tensor], Values]

#: Metrics of this package by name.
METRICS: dict[str, Metric] = {
    'gini': gini,
    'personalization': personalization,
    'novelty': novelty,
    'miscalibration': miscalibration,
    'popularity_lift': popularity_lift,
    'diversity': diversity,
}
#: Group of the entry points by which an installed package adds metrics.
ENTRY_POINTS = 'genrec_pyg.metrics'


def get_metric(name: str) -> Metric:
    r"""Returns a metric: one of :data:`METRICS`, the entry point of an installed package, or
    ``'package.module:function'``.

    Raises:
        ConfigError: If there is none, which lists the names, or it is no function.
    """
    if name in METRICS:
        return METRICS[name]
    others = installed(ENTRY_POINTS)
    place = others.get(name, name)
    if not is_place(place):
        accepted = ', '.join([*METRICS, *others])
        raise ConfigError(
            f'metric: got {name!r}, accepted are {accepted} or package.module:function'
        )
    metric = load_place('metric', place, name)
    if not callable(metric):
        raise ConfigError(f'metric: got {name!r}, accepted is a function of lists and labels')
    return metric


def find_metrics() -> dict[str, Metric]:
    r"""All metrics of this package and of installed ones; one that cannot be imported is named in
    the log and left out.
    """
    found = dict(METRICS)
    for name in installed(ENTRY_POINTS):
        if name in METRICS:
            logger.warning('metric %s of an installed package has a name of this package', name)
            continue
        try:
            found[name] = get_metric(name)
        except ConfigError as error:
            logger.warning('%s; it is left out', error)
    return found


def measure(
    lists: Lists, label: Tensor, ks: Sequence[int], metrics: Mapping[str, Metric]
) -> tuple[dict[str, float], dict[str, Tensor]]:
    r"""Figures of lists, and those that have a value per user.

    A metric that fails is named in the log and left out: it must not cost the run that it is to
    judge.

    Args:
        lists: Lists of all users.
        label: Held-out pairs (row of the list, item) ``[2, L]``.
        ks: Lengths that are measured.
        metrics: Functions by name.

    Returns:
        ``NAME@k`` or ``NAME_REST@k`` to the mean over the users that have a value, or to the value
        of all lists; and to the values ``[n]``, float64.
    """
    figures, per_user = {}, {}
    for k in ks:
        first = lists.first(k)
        for name, metric in metrics.items():
            try:
                values = {
                    key: _checked(value, first)
                    for key, value in _named(name, k, metric(first, label))
                }
            except Exception as error:
                logger.warning(
                    'metric %s@%d is left out (%s: %s)', name, k, type(error).__name__, error
                )
                continue
            for key, value in values.items():
                if value.dim() == 1:
                    per_user[key] = value
                    value = value[~value.isnan()].mean() if not bool(value.isnan().all()) else None
                if value is not None and bool(torch.isfinite(value)):
                    figures[key] = float(value)
    return figures, per_user


def _named(name: str, k: int, values: Values) -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping):
        yield from ((f'{name}_{rest}@{k}', value) for rest, value in values.items())
    else:
        yield f'{name}@{k}', values


def _checked(value: Any, lists: Lists) -> Tensor:
    value = torch.as_tensor(value).detach().double().cpu()
    if value.shape not in ((), (lists.user.numel(),)):
        raise ValueError(
            f'returned the shape {tuple(value.shape)}, accepted are one value and '
            f'({lists.user.numel()},), one per list'
        )
    return value
