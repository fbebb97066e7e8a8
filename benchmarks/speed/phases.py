r"""Where the time of an epoch of GenRec goes: the table of phases, and the operators of the
recommender's steps.

.. code-block:: console

    python -m benchmarks.speed.phases --root DIR --dataset tiktok --modalities image audio \
        --threads 1

Phases are medians over epochs of one run; the operators are those of one more epoch under
:mod:`torch.profiler`.
"""

from __future__ import annotations

import argparse
import functools
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.common.flags import positive
from benchmarks.common.machine import machine, machine_line
from benchmarks.common.reports import RESULTS, markdown_table, write_report
from benchmarks.common.timing import PhaseClock, summary

REST = 'rest of the step: gates, sums, L2'

logger = logging.getLogger('phases')


class NestedClock(PhaseClock):
    r"""A clock whose phases may start within others: the outer one pauses meanwhile."""

    def __init__(self):
        super().__init__()
        self._outer: list[str] = []
        self._patches = ExitStack()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        r"""Counts what runs within to ``name``."""
        self._outer.append(name)
        self.start(name)
        try:
            yield
        finally:
            self._outer.pop()
            if self._outer:
                self.start(self._outer[-1])
            else:
                self.stop()

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        r"""Counts every call of ``owner.attribute`` to ``name``, until :meth:`close`."""
        function = getattr(owner, attribute)

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return function(*args, **kwargs)

        self._patches.enter_context(patch.object(owner, attribute, run))

    def close(self) -> None:
        r"""Takes all wrappers off."""
        self._patches.close()


class CountedLoader:
    r"""A loader that counts to ``name`` what its iteration does.

    Args:
        loader: Any iterable loader.
        clock: Clock that counts.
        name: Name of the phase.
    """

    def __init__(self, loader: Any, clock: NestedClock, name: str):
        self._loader, self._clock, self._name = loader, clock, name

    def __iter__(self) -> Iterator:
        with self._clock.phase(self._name):
            batches = iter(self._loader)
        while True:
            with self._clock.phase(self._name):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def measure(flags: Sequence[str], epochs: int) -> dict[str, Any]:
    r"""Seconds of the phases in every epoch, and the operators of one more epoch."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from genrec_pyg.config import parse_train_arguments
    from genrec_pyg.config.build import make_data, make_model
    from genrec_pyg.evaluation import Evaluator
    from genrec_pyg.loader import InteractionLoader
    from genrec_pyg.train import make_trainer
    from genrec_pyg.training import seed_everything
    from genrec_pyg.utils.memory import keep_freed_memory

    keep_freed_memory()
    config = parse_train_arguments([*flags, '--device', 'cpu', '--model', 'GenRec']).config
    data = make_data(config)
    seed_everything(config.seed)
    model = make_model(config, data)
    trainer = make_trainer(config)
    optimizer = trainer.make_optimizer(model)
    evaluator = Evaluator(data, 'test', trainer.ks)
    clock = NestedClock()
    loader = CountedLoader(
        InteractionLoader(model.graph, trainer.schedule(model.graph)[0], trainer.sampler),
        clock,
        'batches with negatives',
    )
    encoder = model.encoder
    for owner, attribute, name in [
        (model.generator, 'fit', 'denoiser: training'),
        (model.generator, 'generate', 'denoiser: generated graph'),
        (encoder, 'encode_modalities', 'encoder: modality features'),
        (encoder, 'collaborative_view', 'encoder: collaborative view'),
        (encoder, 'modality_views', 'encoder: modality views'),
        (encoder.attention, 'forward', 'encoder: fusion'),
        (model, '_batch_terms', 'loss terms of the batch'),
        (torch.Tensor, 'backward', 'backward'),
        (torch.optim.Adam, 'step', 'optimizer'),
    ]:
        if owner is not None:
            clock.wrap(owner, attribute, name)
    # Within a step the optimizer calls forward and backward: what it does itself is the update.
    clock.wrap(trainer, '_step', 'optimizer')
    clock.wrap(trainer.distributed, 'loss', REST)

    seconds: list[dict[str, float]] = []
    for epoch in range(epochs):
        clock.wall = {}
        with clock.phase('rest of the epoch'):
            trainer.train_epoch(model, loader, optimizer, epoch)
        with clock.phase('evaluation'):
            evaluator(model)
        seconds.append(clock.wall)
    clock.close()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        trainer.train_epoch(model, loader, optimizer, epochs)
    operators = sorted(profiler.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in operators)
    return {
        'seconds': seconds,
        'operators': [
            {'name': row.key, 'calls': row.count, 'share': row.self_cpu_time_total / total}
            for row in operators[:15]
        ],
    }


def render(document: dict[str, Any]) -> str:
    r"""The report as Markdown."""
    total = sum(values['median'] for values in document['phases'].values())
    rows = [
        [name, f'{values["median"] * 1e3:.0f}', f'{values["median"] / total:.1%}']
        for name, values in sorted(document['phases'].items(), key=lambda item: -item[1]['median'])
    ]
    operators = [
        [row['name'], row['calls'], f'{row["share"]:.1%}'] for row in document['operators']
    ]
    return f"""# Phases of an epoch on {document['dataset']} ({', '.join(document['modalities'])})

{markdown_table(['phase', 'ms', 'share'], rows)}

Medians over {document['epochs']} epochs after the first; {total:.2f} s together. Forward phases
stand beside the backward pass
of all of them.

## Operators of one epoch

{markdown_table(['operator', 'calls', 'share of time'], operators)}

{machine_line(document['machine'])}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Entry point."""
    parser = argparse.ArgumentParser(description='Where the time of an epoch of GenRec goes.')
    parser.add_argument('--root', type=Path, required=True, help='folder that holds the datasets')
    parser.add_argument('--dataset', default='tiktok')
    parser.add_argument('--modalities', nargs='+', default=['image', 'audio'])
    parser.add_argument('--threads', type=positive, default=1)
    parser.add_argument(
        '--epochs', type=positive, default=5, help='measured epochs, after one that is not'
    )
    parser.add_argument(
        '--set',
        nargs='*',
        default=[],
        metavar='KEY=VALUE',
        help='further flags of genrec_pyg.train',
    )
    parser.add_argument(
        '--output',
        type=Path,
        help='report without ending, default benchmarks/results/phases-DATASET',
    )
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr)
    import torch

    torch.set_num_threads(args.threads)
    description = machine(args.threads)
    flags = [
        '--root',
        str(args.root),
        '--dataset',
        args.dataset,
        '--modalities',
        *args.modalities,
        *(f'--{setting}' for setting in args.set),
    ]
    found = measure(flags, args.epochs + 1)
    kept = found['seconds'][1:]
    phases = {
        name: summary([seconds.get(name, 0.0) for seconds in kept])
        for name in dict.fromkeys(name for seconds in kept for name in seconds)
    }
    document = {
        'dataset': args.dataset,
        'modalities': args.modalities,
        'epochs': args.epochs,
        'settings': args.set,
        'machine': description,
        'phases': phases,
        'operators': found['operators'],
    }
    markdown = render(document)
    write_report(args.output or RESULTS / f'phases-{args.dataset}', document, markdown)
    logger.info('\n%s', markdown)
    return 0


if __name__ == '__main__':
    sys.exit(main())
