r"""Time and memory of one epoch of GenRec while edges, users and items double, and on one graph of
any size.

.. code-block:: console

    # curves: table, JSON and figure
    python -m benchmarks.scale.growth
    # users, items, interactions
    python -m benchmarks.scale.growth --point 1000000 200000 20000000 --name large

Every point runs in a process of its own on a generated graph (:mod:`_graphs`). An epoch has
``--steps`` gradient steps whatever the size, so one propagation over the whole graph serves
``E / steps`` interactions: the batch grows with the graph (contrastive terms in groups of a fixed
number of rows). The tied denoiser trains on a sample of items per batch and generates from all. The
slope is that of the least-squares line through the logarithms; set-up (item graphs by exact search)
is reported beside the epoch.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.common.flags import positive
from benchmarks.common.machine import machine, machine_line, memory_bytes, thread_environment
from benchmarks.common.reports import RESULTS, figure, markdown_table, write_report

AXES = ('users', 'items', 'edges')
BASE = {'users': 8_000, 'items': 4_000, 'edges': 128_000}
#: What is fitted; all in seconds but the last, in GB.
FIGURES = ('epoch', 'denoiser', 'rebuild', 'recommender', 'evaluation', 'memory')

#: What becomes of freed memory, by setting.
ALLOCATORS = {
    'kept': 'kept (genrec_pyg.utils.memory)',
    'default': 'as glibc has it',
    'huge': 'as glibc has it, in huge pages (THP_MEM_ALLOC_ENABLE=1 of torch)',
}

logger = logging.getLogger('growth')


def measure(
    users: int,
    items: int,
    edges: int,
    steps: int,
    threads: int,
    negatives: int,
    block: int,
    allocator: str = 'kept',
) -> dict[str, float]:
    r"""Seconds of set-up, of the phases of the first epoch and of an evaluation, and peak memory in
    GB.

    What is known before the evaluation, which takes long on a large graph, goes to standard error.
    """
    import torch

    from benchmarks.common.graphs import zipf_graph
    from genrec_pyg.evaluation import Evaluator
    from genrec_pyg.loader import InteractionLoader
    from genrec_pyg.nn.models import GenRec
    from genrec_pyg.training import Trainer
    from genrec_pyg.utils.memory import keep_freed_memory

    if allocator == 'kept':
        keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    start = time.perf_counter()
    data = zipf_graph(users, items, edges)
    made = time.perf_counter()
    model = GenRec(
        data,
        denoiser={'name': 'tied', 'num_layers': 2},
        denoiser_training={'num_negatives': negatives, 'batch_size': block},
    )
    ready = time.perf_counter()
    at_rest = memory_bytes()['now']
    trainer = Trainer(
        epochs=1, batch_size=math.ceil(edges / steps), device='cpu', patience=0, progress=False
    )
    optimizer = trainer.make_optimizer(model)
    loader = InteractionLoader(model.graph, batch_size=trainer.schedule(model.graph)[0])
    record = trainer.train_epoch(model, loader, optimizer, 0)
    figures = record['start_epoch']
    denoiser, rebuild = figures['seconds_denoiser'], figures['seconds_rebuild']
    point = {
        'users': users,
        'items': items,
        'edges': edges,
        'graph': made - start,
        'setup': ready - made,
        'epoch': record['seconds'],
        'denoiser': denoiser,
        'rebuild': rebuild,
        'recommender': record['seconds'] - denoiser - rebuild,
        'generated_edges': figures['generated_edges'],
        'memory_at_rest': at_rest / 1e9,
        'memory': memory_bytes()['peak'] / 1e9,
    }
    sys.stderr.write(f'before the evaluation: {json.dumps(point)}\n')
    evaluator = Evaluator(data, 'test', (20,), batch_size=block)
    begin = time.perf_counter()
    recall = evaluator(model)['recall@20']
    evaluation = time.perf_counter() - begin
    return {
        **point,
        'evaluation': evaluation,
        'evaluated_users': evaluator.user.numel(),
        'recall@20': recall,
        'memory': memory_bytes()['peak'] / 1e9,
    }


def run_point(sizes: Mapping[str, int], args: argparse.Namespace) -> dict[str, float]:
    r"""One point in a process of its own."""
    command = [
        sys.executable,
        '-m',
        'benchmarks.scale.growth',
        '--worker',
        *(str(sizes[axis]) for axis in AXES),
        '--steps',
        str(args.steps),
        '--threads',
        str(args.threads),
        '--negatives',
        str(args.negatives),
        '--block',
        str(args.block),
        '--allocator',
        args.allocator,
    ]
    environment = {
        **thread_environment(args.threads),
        **({'THP_MEM_ALLOC_ENABLE': '1'} if args.allocator == 'huge' else {}),
    }
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True, text=True)
    point = json.loads(done.stdout.splitlines()[-1])
    logger.info('%s', ', '.join(f'{key} {value:.4g}' for key, value in point.items()))
    return point


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    r"""Slope of the least-squares line through ``(log x, log y)``."""
    u, v = [math.log(value) for value in x], [math.log(max(value, 1e-9)) for value in y]
    mean_u, mean_v = sum(u) / len(u), sum(v) / len(v)
    return sum((a - mean_u) * (b - mean_v) for a, b in zip(u, v)) / sum(
        (a - mean_u) ** 2 for a in u
    )


def points_table(points: Sequence[Mapping[str, float]]) -> str:
    r"""Markdown table of points."""
    header = [
        'users',
        'items',
        'interactions',
        'set-up [s]',
        'epoch [s]',
        'denoiser [s]',
        'rebuild [s]',
        'recommender [s]',
        'evaluation [s]',
        'evaluated users',
        'peak memory [GB]',
    ]
    rows = [
        [
            f'{p["users"]:,}',
            f'{p["items"]:,}',
            f'{p["edges"]:,}',
            *(f'{p[key]:.2f}' for key in ('setup', *FIGURES[:5])),
            f'{p["evaluated_users"]:,}',
            f'{p["memory"]:.2f}',
        ]
        for p in points
    ]
    return markdown_table(header, rows)


def draw(curves: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    r"""Epoch seconds and memory against each axis, on logarithmic scales."""
    with figure(path, 1, 2, width=4.5, height=3.6) as (axes,):
        for axis, points in curves.items():
            factor = [point[axis] / points[0][axis] for point in points]
            for plot, key in zip(axes, ('epoch', 'memory')):
                plot.loglog(
                    factor, [point[key] for point in points], marker='o', base=2, label=axis
                )
        for plot, label in zip(axes, ('epoch [s]', 'peak memory [GB]')):
            plot.set_xlabel('times the base graph')
            plot.set_ylabel(label)
            plot.grid(True, which='both', alpha=0.3)
            plot.legend()


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Entry point."""
    parser = argparse.ArgumentParser(
        description='Time and memory of an epoch of GenRec against the size of the graph.'
    )
    parser.add_argument(
        '--point',
        type=positive,
        nargs=3,
        metavar=('USERS', 'ITEMS', 'EDGES'),
        help='one graph instead of curves',
    )
    parser.add_argument('--name', help='name of the report of --point')
    parser.add_argument('--doublings', type=positive, default=5)
    parser.add_argument(
        '--steps', type=positive, default=32, help='gradient steps of the recommender per epoch'
    )
    parser.add_argument(
        '--negatives', type=positive, default=1024, help='items sampled per batch of the denoiser'
    )
    parser.add_argument(
        '--block',
        type=positive,
        default=1024,
        help='users per batch of the denoiser and of the evaluation',
    )
    parser.add_argument('--threads', type=positive, default=1)
    parser.add_argument(
        '--allocator',
        choices=list(ALLOCATORS),
        default='kept',
        help='; '.join(f'{name}: {words}' for name, words in ALLOCATORS.items()),
    )
    parser.add_argument('--output', type=Path, default=RESULTS)
    parser.add_argument('--worker', type=int, nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.worker:
        sys.stdout.write(
            json.dumps(
                measure(
                    *args.worker,
                    args.steps,
                    args.threads,
                    args.negatives,
                    args.block,
                    args.allocator,
                )
            )
            + '\n'
        )
        return 0
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr)
    document = {
        'machine': machine(args.threads),
        'steps': args.steps,
        'negatives': args.negatives,
        'block': args.block,
        'allocator': args.allocator,
    }
    note = (
        f'GenRec with the tied denoiser, {args.steps} steps per epoch, {args.negatives} sampled '
        f'items and {args.block} users per batch of the denoiser; two modalities of width 64, '
        f'float32; freed memory: {ALLOCATORS[args.allocator]}.'
    )
    if args.point:
        document['points'] = [run_point(dict(zip(AXES, args.point)), args)]
        text = f'# One epoch on a generated graph\n\n{note}\n\n{points_table(document["points"])}'
        stem = args.output / f'growth-{args.name or "point"}'
    else:
        document['curves'] = {
            axis: [
                run_point({**BASE, axis: BASE[axis] * 2**i}, args)
                for i in range(args.doublings + 1)
            ]
            for axis in AXES
        }
        document['slopes'] = {
            axis: {
                key: slope([p[axis] for p in points], [p[key] for p in points]) for key in FIGURES
            }
            for axis, points in document['curves'].items()
        }
        slopes = markdown_table(
            ['doubled', *FIGURES],
            [
                [axis, *(f'{found[key]:.2f}' for key in FIGURES)]
                for axis, found in document['slopes'].items()
            ],
        )
        tables = '\n\n'.join(
            f'## {axis}\n\n{points_table(points)}' for axis, points in document['curves'].items()
        )
        text = (
            f'# Growth of an epoch with the graph\n\n{note}\n\n## Slopes in the '
            f'logarithm\n\n{slopes}\n\n{tables}\n\n'
            '![growth](growth.svg)'
        )
        stem = args.output / 'growth'
        args.output.mkdir(parents=True, exist_ok=True)
        draw(document['curves'], args.output / 'growth.svg')
    write_report(stem, document, f'{text}\n\n{machine_line(document["machine"])}\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
