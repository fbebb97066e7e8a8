r"""Tables of :mod:`benchmarks.quality.selections`, and its verdict."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.reports import figure, markdown_table
from genrec_pyg.evaluation.significance import holm, paired_comparison

MODELS = ('MIND', 'ComiRecSA', 'REMI')
METRICS = ('recall@10', 'ndcg@10', 'recall@20', 'ndcg@20')


def quality_table(runs: Mapping[str, Mapping[str, dict]]) -> str:
    r"""Markdown: figures, mean and standard deviation over the seeds."""
    rows = []
    for name, seeds in runs.items():
        results = list(seeds.values())
        rows.append(
            [
                name,
                len(results),
                spread([r['validation']['recall@10'] for r in results]),
                *(spread([r['test'][metric] for r in results]) for metric in METRICS),
                spread([r['tail'] for r in results]),
                f'{statistics.mean(r["epoch"] + 1 for r in results):.0f}',
                f'{statistics.mean(r["processor_seconds"] for r in results):.0f}',
            ]
        )
    head = ['setting', 'seeds', 'validation Recall@10', 'Recall@10', 'NDCG@10', 'Recall@20']
    head += ['NDCG@20', 'Recall@20, tail', 'best epoch', 'seconds']
    return markdown_table(head, rows)


def use_table(runs: Mapping[str, Mapping[str, dict]]) -> str:
    r"""Markdown: how evenly interests learn and are used, means over the seeds."""
    rows = []
    for name, seeds in runs.items():
        uses = [result['use'] for result in seeds.values() if result['use']]
        if not uses or len(uses[0]['signal']['share']) == 1:
            continue

        def mean(part: str, key: str, uses: Sequence[dict] = uses) -> str:
            return f'{statistics.mean(use[part][key] for use in uses):.2f}'

        unused = statistics.mean(
            sum(without >= use['lists']['recall'] for without in use['lists']['without'])
            for use in uses
        )
        rows.append(
            [
                name,
                mean('signal', 'balance'),
                mean('signal', 'largest'),
                mean('signal', 'learning'),
                mean('chosen', 'balance'),
                mean('chosen', 'largest'),
                mean('chosen', 'per_user'),
                mean('chosen', 'softness'),
                mean('shape', 'cosine'),
                mean('shape', 'effective'),
                mean('lists', 'balance'),
                mean('lists', 'distinct'),
                f'{unused:.1f}',
            ]
        )
    head = ['setting', 'signal: balance', 'largest share', 'interests learning per target']
    head += ['best interest: balance', 'largest share', 'balance per user', 'softness']
    head += ['cosine', 'items attended', 'lists: balance', 'distinct items', 'interests not missed']
    return markdown_table(head, rows)


def draw(runs: Mapping[str, Mapping[str, dict]], path: Path) -> None:
    r"""Figure: test Recall@20 of every seed, and of the interests their shares of the training
    signal, of the targets that they score best and of the places in lists, means over seeds.
    """
    names = [
        name
        for name, seeds in runs.items()
        if (use := next(iter(seeds.values()))['use']) and len(use['signal']['share']) > 1
    ]
    if not names:
        return
    parts = {'signal': 'training signal', 'chosen': 'best interest', 'lists': 'places in lists'}
    with figure(path, 1, 1 + len(parts), 3.6, 0.6 + 0.22 * len(names)) as axes:
        place = np.arange(len(names))
        for row, name in enumerate(names):
            found = [result['test']['recall@20'] for result in runs[name].values()]
            axes[0, 0].plot(found, [row] * len(found), 'o', color='tab:blue', markersize=4)
        axes[0, 0].set(title='test Recall@20', yticks=place, yticklabels=names)
        for axis, (part, title) in zip(axes[0, 1:], parts.items()):
            share = np.array(
                [
                    np.mean(
                        [result['use'][part]['share'] for result in runs[name].values()], axis=0
                    )
                    for name in names
                ]
            )
            for interest, (width, left) in enumerate(
                zip(share.T, (share.cumsum(axis=1) - share).T)
            ):
                axis.barh(place, width, left=left, color=str(0.2 + 0.18 * interest))
            axis.set(title=title, yticks=[], xlim=(0, 1))
        for axis in axes[0]:
            axis.invert_yaxis()


def hits(seeds: Mapping[str, dict], k: int = 20) -> np.ndarray:
    r"""Share of the seeds in which the test item of a user is within ``k`` ``[n]``."""
    rank = np.array([result['rank'] for result in seeds.values()])
    return ((rank > 0) & (rank <= k)).mean(axis=0)


def comparisons(runs: Mapping[str, Mapping[str, dict]]) -> list[dict[str, Any]]:
    r"""Recall@20 of settings against one interest, against the hard selection and against the
    uniform one of the same model, paired by user; p-values are corrected for their number (Holm).
    """
    found = []
    for name, seeds in runs.items():
        model, _, training = name.partition(', ')
        ending = ', multi-interest loss' if training.endswith('multi-interest loss') else ''
        bases = {'hard': f'{model}, hard'}
        if training != 'one interest':
            bases['one interest'] = f'{model}, one interest'
        if training.removesuffix(ending) in ('p', 'l'):
            bases['uniform'] = f'{model}, uniform{ending}'
        if model in MODELS:
            for against, base in bases.items():
                if base in runs and base != name and len(runs[base]) == len(seeds):
                    test = paired_comparison(hits(seeds), hits(runs[base]))
                    found.append({'setting': name, 'against': against, **test._asdict()})
    corrected = holm({number: test['p'] for number, test in enumerate(found)})
    return [{**test, 'corrected': corrected[number]} for number, test in enumerate(found)]


def comparison_table(tests: Sequence[Mapping[str, Any]]) -> str:
    r"""Markdown of :func:`comparisons`."""
    rows = [
        [
            test['setting'],
            test['against'],
            f'{test["difference"]:+.4f}',
            f'{test["low"]:+.4f} to {test["high"]:+.4f}',
            f'{test["p"]:.3f}',
            f'{test["corrected"]:.3f}',
        ]
        for test in tests
    ]
    head = ['setting', 'against', 'Recall@20', '95% interval', 'p', 'p, corrected']
    return markdown_table(head, rows)


def verdict(runs: Mapping[str, Mapping[str, dict]], tests: Sequence[Mapping[str, Any]]) -> str:
    r"""The answer in one paragraph, from the figures alone."""
    mean = {
        name: statistics.mean(r['test']['recall@20'] for r in seeds.values())
        for name, seeds in runs.items()
    }
    best = max(mean, key=mean.__getitem__)
    parts = [f'Highest test Recall@20 of all settings: {best} ({mean[best]:.4f}).']
    for model in MODELS:
        own = {name: value for name, value in mean.items() if name.startswith(f'{model}, ')}
        if own:
            top = max(own, key=own.__getitem__)
            parts.append(f'{model}: {top.partition(", ")[2]} ({own[top]:.4f})')
            if f'{model}, hard' in own:
                parts[-1] += f', against {own[f"{model}, hard"]:.4f} of hard'
            parts[-1] += '.'
    for against, named in (
        ('hard', 'hard selection'),
        ('uniform', 'uniform selection'),
        ('one interest', 'one interest'),
    ):
        of = [test for test in tests if test['against'] == against]
        better = [test for test in of if test['difference'] > 0 and test['corrected'] < 0.05]
        worse = [test for test in of if test['difference'] < 0 and test['corrected'] < 0.05]
        parts.append(
            f'Against {named} {len(better)} of {len(of)} settings are significantly '
            f'better and {len(worse)} significantly worse (paired by user, Holm, 0.05)'
            + (f', better: {"; ".join(test["setting"] for test in better)}.' if better else '.')
        )
    return ' '.join(parts)


def spread(values: Sequence[float]) -> str:
    r"""Mean and, of several values, standard deviation."""
    deviation = f' ± {statistics.stdev(values):.4f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.4f}{deviation}'
