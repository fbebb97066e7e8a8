r"""LightGCN over sampled neighborhoods beside the whole graph: quality, time and what a step reads.

.. code-block:: console

    python -m benchmarks.scale.sampled --root DATA --datasets tiktok lfm2k

Every dataset trains LightGCN with two layers, l2 0.001 and learning rate 0.005 on batches of 2048,
over the whole graph and with every fan, the same seeds and epochs for all; the epoch is chosen on
validation. Reported are test and validation Recall@20 with their deviation over the seeds, seconds
of processor time per epoch without evaluation, and nodes and entries that a step reads, as shares
of the graph's (an entry once per layer).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.flags import positive
from benchmarks.common.machine import machine, machine_line, prepare
from benchmarks.common.reports import RESULTS, markdown_table, write_report


def read_shares(model: Any, batch_size: int) -> tuple[float, float]:
    r"""Shares of nodes and, per layer, of entries that a step reads, mean of an epoch's batches."""
    import torch

    from genrec_pyg.loader import LayerNeighborSampler

    graph = model.interactions.adjacency
    if model.fan is None:
        return 1.0, 1.0
    sampler = LayerNeighborSampler(graph, model.num_layers, model.fan)
    nodes, entries = [], []
    for batch in model.make_loader(batch_size, 'edge'):
        wanted = torch.cat([batch.user, batch.pos + model.num_users, batch.neg + model.num_users])
        found = sampler.sample(wanted.unique())
        nodes.append(found.node.numel() / graph.size[0])
        entries.append(sum(layer.nnz for layer in found.layers) / (graph.nnz * model.num_layers))
    return statistics.mean(nodes), statistics.mean(entries)


def run(data: Any, fan: int | None, seed: int, epochs: int, batch_size: int) -> dict[str, float]:
    r"""One training."""
    from genrec_pyg.nn.models import LightGCN
    from genrec_pyg.training import Trainer, seed_everything

    seconds: list[float] = []

    class Timed(Trainer):
        def train_epoch(self, *arguments: Any, **further: Any) -> dict[str, Any]:
            begin = time.process_time()
            record = super().train_epoch(*arguments, **further)
            seconds.append(time.process_time() - begin)
            return record

    trainer = Timed(
        epochs=epochs,
        batch_size=batch_size,
        lr=0.005,
        seed=seed,
        device='cpu',
        patience=0,
        progress=False,
        neighborhood='full' if fan is None else 'sampled',
        fan=fan or 1,
    )
    seed_everything(seed)
    model = LightGCN(data, [], num_layers=2, l2=0.001)
    result = trainer.fit(model, data)
    nodes, entries = read_shares(model, batch_size)
    return {
        'validation': result.validation['recall@20'],
        'test': result.test['recall@20'],
        'epoch': result.epoch,
        'seconds': statistics.median(seconds),
        'nodes': nodes,
        'entries': entries,
    }


def markdown(document: dict[str, Any]) -> str:
    r"""The report."""
    about = ' '.join((__doc__ or '').split('\n\n', 2)[2].split())
    parts = [
        '# LightGCN over sampled neighborhoods',
        machine_line(document['machine']),
        about,
        f'{document["epochs"]} epochs, seeds {", ".join(map(str, document["seeds"]))}. The machine '
        f'was shared with other work.',
    ]

    def spread(values: list[float]) -> str:
        deviation = f' ± {statistics.stdev(values):.4f}' if len(values) > 1 else ''
        return f'{statistics.mean(values):.4f}{deviation}'

    for name, rows in document['datasets'].items():
        parts += [
            f'## {name}',
            markdown_table(
                [
                    'neighborhood',
                    'validation recall@20',
                    'test recall@20',
                    'epoch',
                    'processor s per epoch',
                    'nodes read',
                    'entries read',
                ],
                [
                    [
                        label,
                        spread([found['validation'] for found in runs]),
                        spread([found['test'] for found in runs]),
                        ', '.join(str(found['epoch']) for found in runs),
                        f'{statistics.median(found["seconds"] for found in runs):.2f}',
                        f'{statistics.mean(found["nodes"] for found in runs):.2f}',
                        f'{statistics.mean(found["entries"] for found in runs):.2f}',
                    ]
                    for label, runs in rows.items()
                ],
            ),
        ]
    return '\n\n'.join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description='LightGCN over sampled neighborhoods.')
    parser.add_argument('--root', default='data', help='folder that holds the datasets')
    parser.add_argument('--datasets', nargs='+', default=['tiktok', 'lfm2k'])
    parser.add_argument('--fans', nargs='+', type=positive, default=[10, 5])
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--epochs', type=positive, default=40)
    parser.add_argument('--batch_size', type=positive, default=2048)
    parser.add_argument(
        '--output', type=Path, default=RESULTS / 'sampled', help='report without ending'
    )
    arguments = parser.parse_args(argv)
    prepare(1)
    from genrec_pyg.datasets import load_dataset

    document: dict[str, Any] = {
        'machine': machine(1),
        'epochs': arguments.epochs,
        'seeds': arguments.seeds,
        'datasets': {},
    }
    for name in arguments.datasets:
        data = load_dataset(name, arguments.root)
        rows: dict[str, list[dict[str, float]]] = {}
        for seed in arguments.seeds:  # all ways in turn, so that load of the machine meets all
            for fan in (None, *arguments.fans):
                label = 'full' if fan is None else f'fan {fan}'
                found = run(data, fan, seed, arguments.epochs, arguments.batch_size)
                rows.setdefault(label, []).append(found)
                print(name, label, seed, found, file=sys.stderr, flush=True)
        document['datasets'][name] = rows
        write_report(arguments.output, document, markdown(document))
    print(markdown(document))
    return 0


if __name__ == '__main__':
    sys.exit(main())
