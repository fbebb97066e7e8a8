r"""Statistics, table and figure of the leaderboard, from the figures of its runs."""

from __future__ import annotations

import csv
import importlib.util
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.machine import machine_line
from benchmarks.common.reports import figure, markdown_table
from benchmarks.common.trial import K
from genrec_pyg.evaluation import holm, paired_comparison
from genrec_pyg.exceptions import GenRecError

#: The model with which all others are compared.
BASE = 'GenRec'
METRIC = f'recall@{K}'


def add_comparisons(
    rows: dict[str, dict[str, Any]], finals: Mapping[str, Mapping[int, Mapping[str, Any]]]
) -> None:
    r"""Adds the comparison with :data:`BASE` to every other row.

    Args:
        rows: Rows by model.
        finals: Final runs of at least these models, by seed; ``recall`` of each of ``users``.

    Raises:
        GenRecError: If a model was measured on other users than :data:`BASE`.
    """
    if BASE not in rows:
        return
    users = {model: next(iter(finals[model].values()))['users'] for model in rows}
    for model in rows:
        if users[model] != users[BASE]:
            raise GenRecError(
                f'{model} was measured on other users than {BASE}; accepted is a new --state'
            )
    recall = {
        model: np.mean([run['recall'] for run in finals[model].values()], axis=0) for model in rows
    }
    found = {
        model: paired_comparison(recall[model], recall[BASE]) for model in rows if model != BASE
    }
    corrected = holm({model: comparison.p for model, comparison in found.items()})
    for model, comparison in found.items():
        rows[model]['comparison'] = {**comparison._asdict(), 'p_corrected': corrected[model]}


def published(dataset: str) -> dict[str, dict[str, str]]:
    r"""Model to its row of ``published_recall.csv``: ``value`` of Recall@20 on ``dataset`` and its
    ``source``.
    """
    with Path(__file__).with_name('published_recall.csv').open(newline='') as file:
        return {row['model']: row for row in csv.DictReader(file) if row['dataset'] == dataset}


def mean_and_deviation(values: Sequence[float]) -> dict[str, float | None]:
    r"""Mean and, of several values, standard deviation."""
    return {
        'mean': statistics.mean(values),
        'deviation': statistics.stdev(values) if len(values) > 1 else None,
    }


def text(document: Mapping[str, Any], name: str, image: str | None) -> str:
    r"""The report in Markdown, best model first."""
    protocol, rows = document['protocol'], document['models']
    order = sorted(rows, key=lambda model: -rows[model]['test'][METRIC]['mean'])
    with_gpu = any(row['gpu_memory_gb'] > 0 for row in rows.values())
    header = [
        'model',
        'trials (cut)',
        'seeds (cut)',
        f'validation Recall@{K}',
        f'test Recall@{K}',
        f'test NDCG@{K}',
        f'difference to {BASE} [95%]',
        'p',
        'epoch [s]',
        'to best [s]',
        'peak memory [GB]',
        *(['GPU memory [GB]'] if with_gpu else []),
        f'published Recall@{K}',
    ]
    table = []
    for model in order:
        row = rows[model]
        comparison = row.get('comparison')
        table.append(
            [
                model,
                _count(row['trials']),
                _count(list(row['runs'].values())),
                _mean(row['validation']),
                _mean(row['test'][METRIC]),
                _mean(row['test'][f'ndcg@{K}']),
                *(
                    ['', '']
                    if comparison is None
                    else [
                        f'{comparison["difference"]:+.4f} [{comparison["low"]:+.4f}, '
                        f'{comparison["high"]:+.4f}]',
                        _p(comparison['p_corrected']),
                    ]
                ),
                f'{row["epoch_seconds"]:.2f}' if row['trained'] else '',
                f'{row["best_seconds"]:.1f}',
                f'{row["memory_gb"]:.2f}',
                *([f'{row["gpu_memory_gb"]:.2f}'] if with_gpu else []),
                '' if row['published'] is None else f'{row["published"]["value"]:.4f}',
            ]
        )
    sources = sorted(
        {row['published']['source'] for row in rows.values() if row['published'] is not None}
    )
    settings = [
        [
            model,
            '; '.join(
                f'{key} {_number(value)}'
                for key, value in rows[model]['chosen']['settings'].items()
            )
            or 'nothing to tune',
            _value(rows[model]['chosen']['default_validation']),
            _value(rows[model]['chosen']['validation']),
        ]
        for model in order
    ]
    parts = [
        f'# Leaderboard on {name}',
        f'One budget for all: {protocol["trials"]} trials, the shipped default first, then '
        f"Optuna's tree-structured Parzen "
        f'estimator (seed {protocol["sampler_seed"]}), each at most {protocol["trial_seconds"]:g} '
        f's of training with patience {protocol["patience"]}; the setting of the best validation '
        f'Recall@{K} again with {len(protocol["seeds"])} seeds, at most '
        f'{protocol["final_seconds"]:g} s each. Nothing was chosen on test. A run that used up '
        f'its seconds is *cut* and counts with its best validation epoch. Mean ± standard '
        f'deviation over the seeds; models that are not trained have one. Training and validation '
        f'items are masked at test.',
        f'Differences are paired over test users, recall averaged over the seeds (t-test); *p* is '
        f'corrected for the number of '
        "models by Holm's method. *Epoch* is the median of the training part alone, *to best* "
        'runs from loaded data to the '
        f'end of the chosen epoch, validation included. {protocol["jobs"]} runs at a time.',
        markdown_table(header, table),
    ]
    if sources:
        parts.append(
            f'Published figures ({"; ".join(sources)}) were chosen on test, under other budgets '
            f'and partly with other modalities: compare the rows of this table with each other '
            f'first.'
        )
    low = [model for model in order if model in protocol['bf16']]
    if low:
        parts.append(f'{", ".join(low)}: products in bfloat16, all else in float32.')
    parts += [f'{model} is missing: {failure}.' for model, failure in document['failures'].items()]
    if image:
        parts.append(f'![test Recall@{K} against training time]({image}.svg)')
    parts += [
        '## Chosen settings',
        markdown_table(['model', 'setting', 'default: validation', 'chosen: validation'], settings),
        f'{machine_line(document["machine"])}\n',
    ]
    return '\n\n'.join(parts)


def draw(rows: Mapping[str, Mapping[str, Any]], path: Path) -> bool:
    r"""Test recall against seconds to the chosen epoch; returns whether there is a figure, for
    which matplotlib is needed.
    """
    if not rows or importlib.util.find_spec('matplotlib') is None:
        return False
    with figure(path, 1, 1, width=8, height=5) as [[axes]]:
        for trained, marker in ((True, 'o'), (False, 's')):
            chosen = {model: row for model, row in rows.items() if row['trained'] is trained}
            points = [
                (
                    max(row['best_seconds'], 1e-2),
                    row['test'][METRIC]['mean'],
                    row['test'][METRIC]['deviation'],
                )
                for row in chosen.values()
            ]
            if points:
                seconds, mean, deviation = zip(*points)
                axes.errorbar(
                    seconds,
                    mean,
                    yerr=[value or 0.0 for value in deviation],
                    fmt=marker,
                    capsize=3,
                    label='trained, mean and deviation over seeds' if trained else 'not trained',
                )
            for model, (x, y, _) in zip(chosen, points):
                axes.annotate(
                    model,
                    (x, y),
                    xytext=(5, 4),
                    textcoords='offset points',
                    fontsize=8,
                    fontweight='bold' if model == BASE else 'normal',
                )
        axes.set_xscale('log')
        axes.set_xlabel('seconds from loaded data to the chosen epoch')
        axes.set_ylabel(f'test Recall@{K}')
        axes.grid(True, which='both', alpha=0.3)
        axes.margins(x=0.12)
        axes.legend(loc='best')
    return True


def _mean(spread: Mapping[str, float | None]) -> str:
    deviation = '' if spread['deviation'] is None else f' ± {spread["deviation"]:.4f}'
    return f'{spread["mean"]:.4f}{deviation}'


def _count(runs: Sequence[Mapping[str, Any]]) -> str:
    return f'{len(runs)} ({sum(run["stopped"] == "time" for run in runs)})'


def _p(value: float) -> str:
    return '<0.001' if value < 0.001 else f'{value:.3f}'


def _value(value: float | None) -> str:
    return 'failed' if value is None else f'{value:.4f}'


def _number(value: Any) -> str:
    return f'{value:.3g}' if isinstance(value, float) else str(value)
