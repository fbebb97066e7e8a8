r"""How well each training objective makes the reverse model of GenRec rank by itself, without graph
or recommender.

.. code-block:: console

    python -m benchmarks.quality.objectives --root DIR --dataset tiktok --modalities image audio

The denoiser (a perceptron on sparse flipped rows by default) trains alone; the epoch is chosen on
validation Recall@20, and the test split is read at that epoch. The closed-form denoiser stands
beside it.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.common.flags import positive
from benchmarks.common.machine import machine, machine_line
from benchmarks.common.reports import RESULTS, markdown_table, write_report
from genrec_pyg.config import resolve_config
from genrec_pyg.config.build import make_data
from genrec_pyg.evaluation import Evaluator
from genrec_pyg.nn.models import GenRec
from genrec_pyg.training import seed_everything

OBJECTIVES = ('multinomial', 'focal', 'bce')

logger = logging.getLogger('objectives')


def measure(
    data, evaluators: dict[str, Evaluator], epochs: int, seed: int, **options
) -> dict[str, float]:
    r"""Validation and test Recall@20 at the best validation epoch of the denoiser alone, and that
    epoch (from 1).
    """
    seed_everything(seed)
    model = GenRec(
        data,
        interest={'weight': 1.0},
        generation={'rebuild_k': 0},
        debias={'enabled': False},
        **options,
    )
    best = {'validation': -1.0, 'test': 0.0, 'epoch': 0}
    for epoch in range(1 if not model.generator.denoiser.trainable else epochs):
        model.generator.fit(model.item_views())
        validation = evaluators['val'](model)['recall@20']
        if validation > best['validation']:
            best = {
                'validation': validation,
                'test': evaluators['test'](model)['recall@20'],
                'epoch': epoch + 1,
            }
    return best


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Entry point."""
    parser = argparse.ArgumentParser(
        description='Ranks by the denoiser alone, by training objective.'
    )
    parser.add_argument('--root', default='data')
    parser.add_argument('--dataset', default='tiktok')
    parser.add_argument('--modalities', nargs='+')
    parser.add_argument(
        '--layers', type=int, default=0, help='transformer layers; 0 is a perceptron'
    )
    parser.add_argument('--epochs', type=positive, default=20)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--threads', type=positive, default=1)
    parser.add_argument(
        '--output',
        type=Path,
        help='report without ending, default benchmarks/results/objectives-DATASET',
    )
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr)
    torch.set_num_threads(args.threads)
    data = make_data(
        resolve_config('GenRec', args.dataset, {'root': args.root, 'modalities': args.modalities})
    )
    evaluators = {split: Evaluator(data, split, (20,)) for split in ('val', 'test')}
    trained = {'denoiser': {'name': 'transformer', 'num_layers': args.layers}}
    settings = {
        f'{name}, {args.layers} layers': {**trained, 'denoiser_training': {'objective': name}}
        for name in OBJECTIVES
    }
    settings |= {
        'multinomial + variational': {**trained, 'denoiser_training': {'variational_weight': 0.01}},
        'closed form': {'denoiser': {'name': 'linear'}},
    }
    document = {'machine': machine(args.threads), 'epochs': args.epochs, 'runs': {}}
    rows = []
    for name, options in settings.items():
        runs = document['runs'][name] = [
            measure(data, evaluators, args.epochs, seed, **options) for seed in args.seeds
        ]
        recall = [
            f'{statistics.mean(run[split] for run in runs):.4f}' for split in ('validation', 'test')
        ]
        rows.append(
            [name, len(runs), *recall, f'{statistics.mean(run["epoch"] for run in runs):.0f}']
        )
        logger.info('%s: %s', name, runs)
    table = markdown_table(
        ['objective', 'seeds', 'validation Recall@20', 'test Recall@20', 'best epoch'], rows
    )
    text = (
        f'# The denoiser alone on {args.dataset}, by objective\n\nAt most {args.epochs} epochs, '
        f'the best chosen on validation.\n\n{table}\n\n{machine_line(document["machine"])}\n'
    )
    write_report(args.output or RESULTS / f'objectives-{args.dataset}', document, text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
