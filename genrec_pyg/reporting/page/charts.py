r"""Charts of a page as plain values, drawn by the page itself and by matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from genrec_pyg.evaluation import PerUser
from genrec_pyg.reporting.groups import Group, quantile_groups

#: Groups of users by activity and of items by popularity.
GROUPS = 4

Chart = dict[str, Any]
Values = Mapping[str, PerUser]


def curve_charts(histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Chart]:
    r"""Learning curves: the losses of an epoch, but for terms that are zero throughout, and what
    was evaluated after it.

    Args:
        histories: Records of ``metrics.jsonl`` by run.
    """
    lines: dict[str, dict[str, list[list[float]]]] = {}
    for run, records in histories.items():
        for record in records:
            for part, name, value in _curve_values(record):
                lines.setdefault(f'{part} {name}', {}).setdefault(run, []).append(
                    [record['epoch'], value]
                )
    wanted = [
        name
        for name, runs in lines.items()
        if name.startswith('loss ')
        and any(value != 0 for points in runs.values() for _, value in points)
    ]
    wanted += [
        f'{split} {metric}'
        for split in ('val', 'test')
        for metric in ('recall@20', 'ndcg@20', 'recall@10')
        if f'{split} {metric}' in lines
    ][:3]
    titles = {'val': 'validation'}
    return [
        {
            'kind': 'line',
            'title': ' '.join(
                [titles.get(name.split(' ')[0], name.split(' ')[0]), name.split(' ', 1)[1]]
            ),
            'x': 'epoch',
            'series': [{'name': run, 'points': points} for run, points in lines[name].items()],
        }
        for name in wanted
    ]


def _curve_values(record: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    found = []
    for part in ('loss', 'val', 'test'):
        values = record.get(part)
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if isinstance(value, (int, float)) and math.isfinite(value):
                found.append((part, str(name), float(value)))
    return found


def activity_chart(values: Values, metric: str) -> Chart:
    r"""Mean of a metric by the number of training items of the user."""
    first = next(iter(values.values()))
    groups = quantile_groups(first.users['interactions'], GROUPS, 'users')
    series = {
        run: [_mean(found.users[metric][group.mask]) for group in groups]
        for run, found in values.items()
    }
    return _bars(f'{metric} by training items of the user', groups, series)


def popularity_chart(values: Values, k: int) -> Chart:
    r"""Recall by the number of training users of the item: the mean over users of the share of
    their held-out items of a group that are in the list.
    """
    first = next(iter(values.values()))
    groups = quantile_groups(first.pairs['popularity'], GROUPS, 'pairs')
    series = {}
    for run, found in values.items():
        rank = found.pairs['rank']
        hit = (rank > 0) & (rank <= k)
        series[run] = [_mean_of_users(found.pairs['user'], hit, group.mask) for group in groups]
    return _bars(f'recall@{k} by training users of the item', groups, series)


def _mean_of_users(user: np.ndarray, hit: np.ndarray, mask: np.ndarray) -> float:
    row = np.unique(user[mask], return_inverse=True)[1]
    count = np.bincount(row)
    return _mean(np.bincount(row, hit[mask], minlength=count.size) / np.maximum(count, 1))


def figure_charts(figures: Mapping[str, Mapping[str, float]], k: int) -> list[Chart]:
    r"""Coverage, concentration and what else is said of all lists together, a chart per metric."""
    charts = []
    for name in ('coverage', 'gini', 'personalization', 'novelty'):
        metric = f'{name}@{k}'
        series = {run: [values[metric]] for run, values in figures.items() if metric in values}
        if series:
            charts.append({**_bars(metric, [Group('', np.ones(0))], series), 'small': True})
    diversity = sorted(
        {
            name
            for values in figures.values()
            for name in values
            if name.startswith('diversity_') and name.endswith(f'@{k}')
        }
    )
    for metric in diversity:
        series = {run: [values[metric]] for run, values in figures.items() if metric in values}
        charts.append({**_bars(metric, [Group('', np.ones(0))], series), 'small': True})
    lifts = [f'popularity_lift_{group}@{k}' for group in ('niche', 'diverse', 'blockbuster')]
    series = {run: [values.get(name) for name in lifts] for run, values in figures.items()}
    if any(value is not None for row in series.values() for value in row):
        groups = [
            Group(name, np.ones(0))
            for name in ('niche users', 'diverse users', 'blockbuster users')
        ]
        charts.append(
            _bars(f'popularity_lift@{k}: how far lists are above histories', groups, series)
        )
    return charts


def _bars(
    title: str, groups: Sequence[Group], series: Mapping[str, Sequence[float | None]]
) -> Chart:
    return {
        'kind': 'bar',
        'title': title,
        'groups': [group.name for group in groups],
        'series': [{'name': run, 'values': list(row)} for run, row in series.items()],
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else 0.0
