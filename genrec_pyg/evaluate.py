r"""Evaluates a run: ``python -m genrec_pyg.evaluate RUN``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genrec_pyg.config.build import load_run
from genrec_pyg.evaluation import PROTOCOLS, Evaluator, PerUser, write_per_user
from genrec_pyg.evaluation.metrics import METRICS, get_metric
from genrec_pyg.evaluation.metrics.registry import Metric
from genrec_pyg.exceptions import ConfigError, OutputError
from genrec_pyg.training import Distributed, launch
from genrec_pyg.training.device import resolve_device
from genrec_pyg.utils.command_line import path_argument, run_command
from genrec_pyg.utils.files import check_stdout, write_json, write_stdout

logger = logging.getLogger(__name__)


def evaluate(argv: Sequence[str]) -> dict[str, float]:
    r"""Evaluates the best checkpoint of a run, prints the figures and writes
    ``RUN/evaluation-SPLIT.json`` and the values of every user. Under ``torchrun`` the users are
    split over the processes.
    """
    parser = argparse.ArgumentParser(
        prog='python -m genrec_pyg.evaluate',
        allow_abbrev=False,
        description='Evaluates the best checkpoint of a run.',
    )
    parser.add_argument(
        'run', type=path_argument, help='folder written by python -m genrec_pyg.train'
    )
    parser.add_argument(
        '--split', default='test', choices=('val', 'test'), help='held-out interactions to find'
    )
    parser.add_argument(
        '--ks',
        type=int,
        nargs='+',
        action='extend',
        help='lengths of the lists (default: 10 20 50)',
    )
    parser.add_argument(
        '--metrics',
        nargs='*',
        help='metrics beyond accuracy: names, entry points of installed packages or '
        f'package.module:function (default: {", ".join(METRICS)} and those that are installed)',
    )
    parser.add_argument(
        '--protocol',
        choices=PROTOCOLS,
        help='which items are masked: by default as in the run; a run '
        "whose epoch was chosen on test takes 'published' only",
    )
    parser.add_argument(
        '--root', type=path_argument, help='folder of the datasets, where it has moved since'
    )
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--batch_size', type=int, default=1024, help='users per block')
    parser.add_argument(
        '--distributed_timeout',
        type=float,
        help='under torchrun: seconds to wait for the other processes '
        'to start (default: half an hour)',
    )
    parser.add_argument('--debug', action='store_true', help='show tracebacks')
    arguments = parser.parse_args(argv)
    metrics = (
        None
        if arguments.metrics is None
        else {name.rpartition(':')[2]: get_metric(name) for name in arguments.metrics}
    )
    check_stdout()
    with launch(timeout=arguments.distributed_timeout) as distributed:
        return _evaluate(arguments, distributed, metrics)


def _evaluate(
    arguments: argparse.Namespace, distributed: Distributed, metrics: dict[str, Metric] | None
) -> dict[str, float]:
    processes = distributed.processes
    with processes.one_per_machine_first():
        config, data, model, selection = load_run(arguments.run, arguments.root, 'cpu')
    if config.split == 'none':
        raise ConfigError(
            f'{arguments.run}: was trained on all interactions, so none is left to evaluate on; '
            f'accepted is a run with a split, such as the one that --final named'
        )
    model.to(distributed.device(resolve_device(arguments.device)))
    protocol = arguments.protocol or config.protocol
    if config.protocol == 'published' and protocol != 'published':
        raise ConfigError(
            f'--protocol: got {protocol!r} for a run whose epoch was {selection}, accepted is '
            f'{config.protocol!r}'
        )
    evaluator = Evaluator(
        data,
        arguments.split,
        arguments.ks or [10, 20, 50],
        protocol,
        arguments.batch_size,
        processes,
    )
    measured = evaluator.measure(model, metrics)
    figures = {**measured.figures, **measured.further}
    if not processes.is_main:
        return figures
    lines = [
        f'{config.model} on {config.dataset}, {arguments.split} split, protocol {protocol}, '
        f'{selection}'
    ]
    width = max(map(len, figures)) + 2
    lines += [f'{name:<{width}}{value:.4f}' for name, value in figures.items()]
    try:
        write_stdout('\n'.join(lines) + '\n')
    finally:  # whatever becomes of one of the two, the other is there
        _keep(
            Path(arguments.run),
            measured.users,
            {'split': arguments.split, 'protocol': protocol, 'selection': selection, **figures},
        )
    return figures


def _keep(folder: Path, values: PerUser, document: dict[str, Any]) -> None:
    try:
        write_json(folder / f'evaluation-{document["split"]}.json', document)
        write_per_user(folder, values)
    except OutputError as error:  # runs may lie in folders that others may only read
        logger.warning('the figures are printed only: %s', error)


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    return run_command(evaluate, argv)


if __name__ == '__main__':
    sys.exit(main())
