r"""Comparison of systems: means over seeds, paired tests over users, groups of users and items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from genrec_pyg.evaluation import Comparison, holm, paired_comparison
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.reporting.groups import Group, quantile_groups
from genrec_pyg.reporting.systems import System
from genrec_pyg.reporting.tables import Document, Table

#: Corrected p-value below which a difference is marked.
LEVEL = 0.05
#: Figures over all lists that ``metrics.json`` has, shown beside those of users.
_OVERALL = ('coverage', 'gini', 'novelty', 'personalization', 'popularity')


def compare_systems(
    systems: Sequence[System], base: str, metrics: Sequence[str], test: str = 't', parts: int = 4
) -> Document:
    r"""Compares every system with ``base``; p-values are corrected by Holm's method within each
    table.

    Args:
        systems: Systems over the same users.
        base: Name of the system that all others are compared with.
        metrics: Metrics, the first of which is also given by groups where it is a recall.
        test: See :func:`~genrec_pyg.evaluation.significance.paired_comparison`.
        parts: Groups of users and of items.

    Raises:
        ConfigError: If there is no such base or metric.
    """
    names = [system.name for system in systems]
    if base not in names:
        raise ConfigError(f'--base: got {base!r}, accepted are {", ".join(map(repr, names))}')
    for system in systems:
        for run in system.runs:
            unknown = [metric for metric in metrics if metric not in run.values.metrics]
            if unknown:
                raise ConfigError(
                    f'--metrics: got {unknown[0]!r}, but {run.folder} has '
                    f'{", ".join(run.values.metrics)}; python -m genrec_pyg.evaluate --ks writes '
                    f'other lengths'
                )
    first = systems[0].runs[0]
    origin, users = first.values.origin, first.values.users['user'].size
    tables = [_overall(systems, metrics)]
    values: dict[str, Any] = {
        'base': base,
        'test': test,
        'split': origin['split'],
        'protocol': origin['protocol'],
        'users': users,
        'systems': _plain_systems(systems, metrics),
    }
    if len(systems) > 1:
        table, values['comparisons'] = _paired(systems, base, metrics, test)
        tables.append(table)
    activity = quantile_groups(first.values.users['interactions'], parts, 'users')
    by_user = {system.name: system.users(metrics[0]) for system in systems}
    table, values['by_activity'] = _by_group(
        by_user, base, activity, test, f'{metrics[0]} by training items of the user'
    )
    tables.append(table)
    name, _, k = metrics[0].partition('@')
    if name == 'recall':
        row = np.unique(first.values.pairs['user'], return_inverse=True)[1]
        found = {system.name: system.found(int(k)) for system in systems}
        groups = quantile_groups(first.values.pairs['popularity'], parts, 'pairs')
        table, values['by_popularity'] = _by_popularity(
            found, base, groups, row, test, f'{metrics[0]} by training users of the item'
        )
        tables.append(table)
    counts = ', '.join(f'{system.name}: {len(system.runs)}' for system in systems)
    how = {'t': 'paired t-test', 'wilcoxon': "Wilcoxon's signed-rank test"}[test]
    text = [
        f'{users} users of the {origin["split"]} split, protocol {origin["protocol"]}. Runs: '
        f'{counts}.',
        'Values are means over the seeds, ± their standard deviation. Tests are over users, of '
        f"values averaged over the seeds ({how}), corrected by Holm's method within each table: "
        'they speak of other users, not of other seeds; the spread does. * marks a corrected p '
        f'below {LEVEL}.',
    ]
    return Document(
        f'{first.settings.get("dataset", "comparison")}: {", ".join(names)}', text, tables, values
    )


def _plain_systems(systems: Sequence[System], metrics: Sequence[str]) -> dict[str, Any]:
    return {
        system.name: {
            'runs': [str(run.folder) for run in system.runs],
            'seeds': [run.settings.get('seed') for run in system.runs],
            'means': {metric: system.means(metric).tolist() for metric in metrics},
        }
        for system in systems
    }


def _overall(systems: Sequence[System], metrics: Sequence[str]) -> Table:
    split = {'test': 'test', 'val': 'validation'}[systems[0].runs[0].values.origin['split']]
    k = metrics[0].partition('@')[2]
    found = {run.folder: run.figures(split) for system in systems for run in system.runs}
    others = [f'{name}@{k}' for name in _OVERALL]
    others = [name for name in others if all(name in figures for figures in found.values())]
    rows = []
    for system in systems:
        cells = [spread(system.means(metric)) for metric in metrics]
        cells += [
            spread(
                np.array([found[run.folder][name] for run in system.runs]),
                1 if name.startswith('popularity') else 4,
            )
            for name in others
        ]
        rows.append([system.name, str(len(system.runs)), *cells])
    return Table('Systems', ['system', 'seeds', *metrics, *others], rows)


def _paired(
    systems: Sequence[System], base: str, metrics: Sequence[str], test: str
) -> tuple[Table, list[dict[str, Any]]]:
    reference = next(system for system in systems if system.name == base)
    found: dict[tuple[str, str], Comparison] = {}
    for metric in metrics:
        for system in systems:
            if system.name != base:
                found[metric, system.name] = paired_comparison(
                    system.users(metric), reference.users(metric), test
                )
    corrected = holm({key: comparison.p for key, comparison in found.items()})
    rows = []
    for (metric, name), one in found.items():
        mean = float(reference.users(metric).mean())
        relative = f'{100 * one.difference / mean:+.1f} %' if mean else '-'
        rows.append(
            [
                name,
                metric,
                f'{one.difference:+.4f} [{one.low:+.4f}, '
                f'{one.high:+.4f}]{mark(corrected[metric, name])}',
                relative,
                f'{one.effect:+.3f}',
                f'{one.better} / {one.equal} / {one.worse}',
                p_text(one.p),
                p_text(corrected[metric, name]),
            ]
        )
    values = [
        {'metric': metric, 'system': name, **one._asdict(), 'p_corrected': corrected[metric, name]}
        for (metric, name), one in found.items()
    ]
    note = 'Effect is the mean difference in standard deviations of the differences.'
    header = [
        'system',
        'metric',
        f'difference to {base} [95 %]',
        'relative',
        'effect',
        'users better / equal / worse',
        'p',
        'p (Holm)',
    ]
    return Table(f'Against {base}', header, rows, note), values


def _by_group(
    values: Mapping[str, np.ndarray], base: str, groups: Sequence[Group], test: str, title: str
) -> tuple[Table, list[dict[str, Any]]]:
    r"""Means of values per user within groups of users."""
    inside = {
        (name, group.name): value[group.mask] for name, value in values.items() for group in groups
    }
    return _group_table(inside, list(values), base, groups, test, title)


def _by_popularity(
    found: Mapping[str, np.ndarray],
    base: str,
    groups: Sequence[Group],
    row: np.ndarray,
    test: str,
    title: str,
) -> tuple[Table, list[dict[str, Any]]]:
    r"""Means over users of the recall of their held-out items within groups of items."""
    inside = {}
    for group in groups:
        user, index = np.unique(row[group.mask], return_inverse=True)
        count = np.bincount(index, minlength=user.size)
        for name, value in found.items():
            inside[name, group.name] = (
                np.bincount(index, value[group.mask], minlength=user.size) / count
            )
    return _group_table(inside, list(found), base, groups, test, title)


def _group_table(
    inside: Mapping[tuple[str, str], np.ndarray],
    names: Sequence[str],
    base: str,
    groups: Sequence[Group],
    test: str,
    title: str,
) -> tuple[Table, list[dict[str, Any]]]:
    tested = {
        (name, group.name): paired_comparison(
            inside[name, group.name], inside[base, group.name], test
        )
        for name in names
        if name != base
        for group in groups
        if inside[name, group.name].size > 1
    }
    corrected = holm({key: one.p for key, one in tested.items()})
    rows = [
        [
            name,
            *(
                f'{inside[name, group.name].mean():.4f}'
                + mark(corrected.get((name, group.name), 1.0))
                for group in groups
            ),
        ]
        for name in names
    ]
    values = [
        {
            'system': name,
            'group': group.name,
            'mean': float(inside[name, group.name].mean()),
            **(
                {}
                if (name, group.name) not in tested
                else {
                    **tested[name, group.name]._asdict(),
                    'p_corrected': corrected[name, group.name],
                }
            ),
        }
        for name in names
        for group in groups
    ]
    return Table(title, ['system', *(group.name for group in groups)], rows), values


def spread(values: np.ndarray, digits: int = 4) -> str:
    r"""Mean and, of several values, standard deviation."""
    deviation = f' ± {values.std(ddof=1):.{digits}f}' if values.size > 1 else ''
    return f'{values.mean():.{digits}f}{deviation}'


def mark(p: float) -> str:
    r"""A star where a corrected p-value is below :data:`LEVEL`."""
    return '*' if p < LEVEL else ''


def p_text(p: float) -> str:
    r"""A p-value for people."""
    return '<0.001' if p < 0.001 else f'{p:.3f}'
