r"""What the scripts share that train settings of a model with several seeds through the command
line that users call.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.flags import positive
from benchmarks.common.machine import thread_environment
from benchmarks.common.reports import markdown_table

METRICS = ('recall@20', 'ndcg@20', 'precision@20')
REFERENCES = ('Popularity', 'ItemKNN', 'EASE')


def make_parser(
    description: str, settings: Sequence[str], seeds: Sequence[int]
) -> argparse.ArgumentParser:
    r"""The flags that all these scripts take, with all ``settings`` and ``seeds`` by default."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--root', required=True)
    parser.add_argument('--dataset', default='tiktok')
    parser.add_argument('--modalities', nargs='+', default=['image', 'audio'])
    parser.add_argument('--name', help='name of the report, the dataset by default')
    parser.add_argument('--seeds', type=int, nargs='+', default=list(seeds))
    parser.add_argument(
        '--settings', nargs='+', choices=list(settings), default=list(settings), metavar='SETTING'
    )
    parser.add_argument(
        '--flags',
        nargs=argparse.REMAINDER,
        default=[],
        help='further flags of genrec_pyg.train, last',
    )
    parser.add_argument('--threads', type=positive, default=1)
    parser.add_argument('--output', type=Path, default=Path(__file__).parent / 'results')
    return parser


def train(
    arguments: argparse.Namespace, model: str, flags: Sequence[str], seed: int
) -> dict[str, Any]:
    r"""One training run in a process of its own; returns the content of its ``metrics.json``, and
    as ``figures`` what the model logged at the start of the chosen epoch.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / 'run'
        command = [
            sys.executable,
            '-m',
            'genrec_pyg.train',
            '--model',
            model,
            '--dataset',
            arguments.dataset,
            '--root',
            arguments.root,
            '--modalities',
            *arguments.modalities,
            '--seed',
            str(seed),
            '--output',
            str(output),
            '--references',
            'false',
            *flags,
        ]
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            env=thread_environment(arguments.threads),
        )
        metrics = json.loads((output / 'metrics.json').read_text())
        log = output / 'metrics.jsonl'
        records = (
            [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        )
        figures = next(
            (record['start_epoch'] for record in records if record['epoch'] == metrics['epoch']), {}
        )
        return {**metrics, 'figures': figures}


def references(arguments: argparse.Namespace) -> dict[str, dict]:
    r"""Validation and test figures of the instant reference models."""
    return {model: train(arguments, model, [], 0) for model in REFERENCES}


def load(stem: Path, make_references: Callable[[], dict[str, dict]]) -> dict[str, Any]:
    r"""What an earlier call has written under ``stem``, or a new document with the reference
    models.
    """
    source = stem.with_name(stem.name + '.json')
    document = json.loads(source.read_text()) if source.exists() else {'runs': {}, 'references': {}}
    if not document['references']:
        document['references'] = make_references()
    return document


def run_missing(
    document: dict[str, Any],
    settings: Sequence[str],
    seeds: Sequence[int],
    run: Callable[[str, int], dict[str, Any]],
    report: Callable[[], None],
) -> None:
    r"""Runs what the document lacks, one seed of everything before the next, so that an interrupted
    table is still a whole one; ``report`` is called after every run and at the end.
    """
    for seed in seeds:
        for setting in settings:
            done = document['runs'].setdefault(setting, {})
            if str(seed) not in done:
                done[str(seed)] = run(setting, seed)
                report()
    report()


def run_study(
    name: str,
    description: str,
    settings: Mapping[str, Sequence[str]],
    seeds: Sequence[int],
    run: Callable[[argparse.Namespace, Sequence[str], int], dict[str, Any]],
    report: Callable[[Path, dict[str, Any], argparse.Namespace], None],
) -> None:
    r"""The command line of a script: trains what its report lacks and writes the report after every
    run.

    Args:
        name: First part of the report's name, before the dataset.
        description: Help of the command line.
        settings: Flags of every setting.
        seeds: Seeds by default.
        run: One training, from arguments, flags of the setting and seed.
        report: Writes the report under a path without ending.
    """
    arguments = make_parser(description, list(settings), seeds).parse_args()
    stem = arguments.output / f'{name}-{arguments.name or arguments.dataset}'
    document = load(stem, lambda: references(arguments))
    run_missing(
        document,
        arguments.settings,
        arguments.seeds,
        lambda setting, seed: run(arguments, settings[setting], seed),
        lambda: report(stem, document, arguments),
    )


def table(runs: dict[str, dict[str, dict]], references: dict[str, dict]) -> str:
    r"""Markdown: validation and test figures, mean and standard deviation over the seeds."""
    rows = []
    for name, metrics in references.items():
        rows.append(
            [
                name,
                1,
                f'{metrics["validation"]["recall@20"]:.4f}',
                *(f'{metrics["test"][metric]:.4f}' for metric in METRICS),
                '',
                '',
            ]
        )
    for name, seeds in runs.items():
        results = list(seeds.values())
        rows.append(
            [
                name,
                len(results),
                spread([r['validation']['recall@20'] for r in results]),
                *(spread([r['test'][metric] for r in results]) for metric in METRICS),
                f'{statistics.mean(r["epoch"] + 1 for r in results):.0f}',
                f'{statistics.mean(r["seconds"] for r in results):.0f}',
            ]
        )
    return markdown_table(
        [
            'setting',
            'seeds',
            'validation Recall@20',
            'test Recall@20',
            'test NDCG@20',
            'test Precision@20',
            'best epoch',
            'seconds',
        ],
        rows,
    )


def spread(values: Sequence[float]) -> str:
    r"""Mean and, of several values, standard deviation."""
    deviation = f' ± {statistics.stdev(values):.4f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.4f}{deviation}'
