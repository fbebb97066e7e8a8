r"""Times one epoch, its phases and resident memory of GenRec, and of the released implementation
given a checkout of it.

.. code-block:: console

    python -m benchmarks.speed.epoch --root DIR --dataset tiktok --modalities image audio \
        --threads 1 --released CHECKOUT
    python -m benchmarks.speed.epoch --root DIR --released CHECKOUT --denoisers default \
        --epochs 50 --name time-to-quality

With many epochs the report also tells the time to quality: the seconds until the epoch that is the
released implementation's best on the test split, which is what it reports, and the seconds after
which ours is as good there. It is written again after every epoch, so that a run which ends early
leaves what it has measured.

Each system runs in its own process with the same number of threads; the systems take turns, epoch
by epoch, so that a ratio compares what ran side by side. Reported are medians over the epochs. The
released implementation reads the layout of its own datasets, so ``--released`` needs one in that
layout.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.common.flags import positive
from benchmarks.common.machine import folder_digest, machine, machine_line
from benchmarks.common.reports import RESULTS, markdown_table, write_report
from benchmarks.common.timing import summary
from benchmarks.common.worker import PHASES, Worker, WorkerError
from benchmarks.speed.ours import SYSTEMS
from benchmarks.speed.released import prepare_checkout

RELEASED = 'released'
#: Epochs from which on the time to quality is reported.
LONG = 10

logger = logging.getLogger('epoch')


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    r"""The command line."""
    parser = argparse.ArgumentParser(
        description='Times one epoch of GenRec and of the released implementation.'
    )
    parser.add_argument('--root', type=Path, required=True, help='folder that holds the datasets')
    parser.add_argument('--dataset', default='tiktok', help='dataset: a folder under the root')
    parser.add_argument(
        '--modalities',
        nargs='+',
        default=['image', 'audio'],
        help='modalities to use, in this order',
    )
    parser.add_argument(
        '--denoisers',
        nargs='*',
        choices=list(SYSTEMS),
        default=[name for name in SYSTEMS if name not in ('linear', RELEASED)],
        help='our systems to measure: by denoiser, as shipped, or the released variant',
    )
    parser.add_argument(
        '--released', type=Path, metavar='CHECKOUT', help='checkout of the released GenRec-V1'
    )
    parser.add_argument('--threads', type=positive, default=1, help='threads of every system')
    parser.add_argument(
        '--epochs', type=positive, default=3, help='measured epochs of every system'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--set',
        nargs='*',
        default=[],
        metavar='KEY=VALUE',
        help='further settings of ours, flags of genrec_pyg.train without the dashes',
    )
    parser.add_argument('--name', default='epoch', help="first part of the report's name")
    parser.add_argument(
        '--output', type=Path, help='report without ending, default benchmarks/results/NAME-DATASET'
    )
    args = parser.parse_args(arguments)
    for setting in args.set:
        if '=' not in setting:
            parser.error(f'--set: got {setting!r}, accepted is KEY=VALUE')
    if not args.denoisers and args.released is None:
        parser.error('nothing to measure: --denoisers is empty and --released is not given')
    if args.released is not None and not args.released.is_dir():
        parser.error(f'--released: {args.released} is not a folder')
    if args.output is None:
        args.output = RESULTS / f'{args.name}-{args.dataset}'
    return args


def measure(args: argparse.Namespace) -> Iterator[dict[str, dict]]:
    r"""Starts every system, lets them take turns and gives their raw answers by name after every
    epoch.
    """
    with ExitStack() as stack:
        workers = start_workers(args, stack)
        answers: dict[str, dict] = {
            name: {'ready': worker.ready, 'epochs': []} for name, worker in workers.items()
        }
        names = list(workers)
        for epoch in range(args.epochs):
            for name in names[epoch % len(names) :] + names[: epoch % len(names)]:
                answers[name]['epochs'].append(workers[name].epoch())
                seconds = sum(answers[name]['epochs'][-1]['wall'].values())
                logger.info('epoch %d/%d %s: %.2f s', epoch + 1, args.epochs, name, seconds)
            yield answers


def start_workers(args: argparse.Namespace, stack: ExitStack) -> dict[str, Worker]:
    r"""One process per system, ready for its first epoch; ``stack`` ends them."""
    workers = {}
    for denoiser in args.denoisers:
        settings = {**SYSTEMS[denoiser], **dict(setting.split('=', 1) for setting in args.set)}
        flags = [
            '--seed',
            str(args.seed),
            '--root',
            str(args.root),
            '--dataset',
            args.dataset,
            '--modalities',
            *args.modalities,
            *(f'--{key}={value}' for key, value in settings.items()),
        ]
        workers[f'ours, {denoiser}'] = Worker(
            'benchmarks.speed.ours', [str(args.threads), *flags], args.threads
        )
        stack.callback(workers[f'ours, {denoiser}'].close)
    if args.released is not None:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        flags = prepare_checkout(args.released, args.root / args.dataset, args.modalities, folder)
        workers[RELEASED] = Worker(
            'benchmarks.speed.released',
            [str(args.threads), str(args.seed), *flags],
            args.threads,
            folder,
        )
        stack.callback(workers[RELEASED].close)
    return workers


def condense(answers: Mapping[str, dict]) -> dict[str, dict]:
    r"""Medians per system, and its ratios to the released one: how many times faster, and its share
    of the memory.
    """
    systems = {}
    for name, answer in answers.items():
        epochs = answer['epochs']
        system = {
            'setup_seconds': answer['ready']['seconds'],
            'description': answer['ready']['description'],
            'memory_import': answer['ready']['memory_import'],
            'memory_setup': answer['ready']['memory']['peak'],
            'memory_peak': epochs[-1]['memory']['peak'],
            'first_epoch_seconds': sum(epochs[0]['wall'].values()),
            'figures': epochs[-1]['figures'],
        }
        for clock in ('wall', 'processor'):
            seconds = {
                phase: summary([epoch[clock][phase] for epoch in epochs]) for phase in PHASES
            }
            seconds['epoch'] = summary([sum(epoch[clock].values()) for epoch in epochs])
            system[f'{clock}_seconds'] = seconds
        systems[name] = system
    released = systems.get(RELEASED)
    for system in systems.values():
        if released is not None and system is not released:
            system['times_faster'] = {
                clock: released[f'{clock}_seconds']['epoch']['median']
                / system[f'{clock}_seconds']['epoch']['median']
                for clock in ('wall', 'processor')
            }
            system['memory_share'] = system['memory_peak'] / released['memory_peak']
    if released is not None:
        target = best_epoch(answers[RELEASED])
        for name, system in systems.items():
            system['time_to_quality'] = time_to_quality(answers[name], target['recall@20'])
            system['best'] = best_epoch(answers[name])
    return systems


def best_epoch(answer: Mapping[str, object]) -> dict[str, float]:
    r"""The first epoch, from 1, of the highest Recall@20 and that figure."""
    recall = [epoch['figures']['recall@20'] for epoch in answer['epochs']]
    return {'epoch': recall.index(max(recall)) + 1, 'recall@20': max(recall)}


def time_to_quality(answer: Mapping[str, object], target: float) -> dict[str, float] | None:
    r"""The first epoch, from 1, whose Recall@20 is at least ``target``, and the seconds until its
    end; none if there is none. Epochs count with their median length, so that a slow moment of the
    machine does not decide.
    """
    epochs = answer['epochs']
    reached = next(
        (place for place, epoch in enumerate(epochs) if epoch['figures']['recall@20'] >= target),
        None,
    )
    if reached is None:
        return None
    return {
        'epoch': reached + 1,
        **{
            clock: (reached + 1) * statistics.median(sum(epoch[clock].values()) for epoch in epochs)
            for clock in ('wall', 'processor')
        },
    }


def render(document: Mapping[str, object]) -> str:
    r"""The report as Markdown."""
    rows = []
    for name, system in document['systems'].items():
        wall = system['wall_seconds']
        ratio, share = system.get('times_faster'), system.get('memory_share')
        rows.append(
            [
                name,
                f'{wall["epoch"]["median"]:.2f}',
                *(f'{wall[phase]["median"]:.2f}' for phase in PHASES),
                f'{system["processor_seconds"]["epoch"]["median"]:.2f}',
                f'{system["memory_peak"] / 1e9:.2f}',
                '' if ratio is None else f'{ratio["wall"]:.1f}',
                '' if share is None else f'{share:.2f}',
            ]
        )
    header = [
        'system',
        'epoch [s]',
        *(f'{phase} [s]' for phase in PHASES),
        'epoch, processor [s]',
        'peak memory [GB]',
        'times faster than released',
        'share of its memory',
    ]
    quality = ''
    if RELEASED in document['systems'] and document['epochs'] >= LONG:
        quality = f'## Time to quality\n\n{_quality_table(document["systems"])}\n\n'
    settings = '\n'.join(
        _settings_line(name, system) for name, system in document['systems'].items()
    )
    return f"""# One epoch on {document['dataset']} ({', '.join(document['modalities'])})

{markdown_table(header, rows)}

Medians over {document['epochs']} epochs, the systems in turn, each in its own process. Peak memory
is the highest resident
memory of the process from its start, set-up included. The evaluation ranks all items for every test
user.

{quality}{settings}

{machine_line(document['machine'])}
"""


def _quality_table(systems: Mapping[str, Mapping[str, object]]) -> str:
    reference = systems[RELEASED]['time_to_quality']
    target = systems[RELEASED]['best']['recall@20']
    rows = []
    for name, system in systems.items():
        best, reached = system['best'], system['time_to_quality']
        cells = (
            ['not reached', '', '']
            if reached is None
            else [
                reached['epoch'],
                f'{reached["wall"]:.0f}',
                f'{reference["wall"] / reached["wall"]:.1f}',
            ]
        )
        rows.append([name, f'{best["recall@20"]:.4f}', best['epoch'], *cells])
    return markdown_table(
        [
            'system',
            'best test recall@20',
            'in epoch',
            f'first epoch with {target:.4f}',
            'seconds until then',
            'times faster than released',
        ],
        rows,
    )


def _settings_line(name: str, system: Mapping[str, object]) -> str:
    description = ', '.join(f'{key} {value}' for key, value in system['description'].items())
    imported, prepared = system['memory_import'] / 1e9, system['memory_setup'] / 1e9
    return (
        f'* {name}: set-up {system["setup_seconds"]:.1f} s, first epoch '
        f'{system["first_epoch_seconds"]:.2f} s; resident {imported:.2f} GB after importing '
        f'torch, at most {prepared:.2f} GB until set up; {description}'
    )


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Entry point: 0 on success, 1 where a system failed."""
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr)
    description = machine(args.threads)
    try:
        for answers in measure(args):
            document = {
                'dataset': args.dataset,
                'modalities': args.modalities,
                'seed': args.seed,
                'epochs': len(next(iter(answers.values()))['epochs']),
                'machine': description,
                'data_digest': folder_digest(args.root / args.dataset, '*.*'),
                'systems': condense(answers),
                'raw': answers,
            }
            markdown = render(document)
            write_report(args.output, document, markdown)
    except (WorkerError, ValueError) as error:
        logger.error('error: %s', error)
        return 1
    logger.info('\n%s', markdown)
    return 0


if __name__ == '__main__':
    sys.exit(main())
