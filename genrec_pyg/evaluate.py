r"""Evaluates a run: ``python -m genrec_pyg.evaluate RUN``."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from genrec_pyg.evaluation import PROTOCOLS
from genrec_pyg.evaluation import evaluate as evaluate_model
from genrec_pyg.run import load_run, run_command
from genrec_pyg.training import Distributed, launch
from genrec_pyg.training.checkpoint import write_json
from genrec_pyg.training.trainer import resolve_device


def evaluate(argv: Sequence[str]) -> dict[str, float]:
    r"""Evaluates the best checkpoint of a run, prints the figures and writes ``RUN/evaluation-SPLIT.json``. Under ``torchrun``
    the users are split over the processes."""
    parser = argparse.ArgumentParser(prog='python -m genrec_pyg.evaluate', allow_abbrev=False,
                                     description='Evaluates the best checkpoint of a run.')
    parser.add_argument('run', help='folder written by python -m genrec_pyg.train')
    parser.add_argument('--split', default='test', choices=('val', 'test'))
    parser.add_argument('--ks', type=int, nargs='+', default=[10, 20, 50], help='lengths of the lists')
    parser.add_argument('--protocol', choices=PROTOCOLS, help="the run's own by default")
    parser.add_argument('--root', help='folder of the data sets, where it has moved since')
    parser.add_argument('--device', default='auto')
    parser.add_argument('--batch_size', type=int, default=1024, help='users per block')
    parser.add_argument('--debug', action='store_true', help='show tracebacks')
    arguments = parser.parse_args(argv)
    with launch() as distributed:
        return _evaluate(arguments, distributed)


def _evaluate(arguments: argparse.Namespace, distributed: Distributed) -> dict[str, float]:
    processes = distributed.processes
    with processes.one_per_machine_first():
        config, data, model = load_run(arguments.run, arguments.root, 'cpu')
    model.to(distributed.device(resolve_device(arguments.device)))
    protocol = arguments.protocol or config.protocol
    figures = evaluate_model(model, data, arguments.split, arguments.ks, protocol, arguments.batch_size, processes)
    if not processes.is_main:
        return figures
    write_json(Path(arguments.run) / f'evaluation-{arguments.split}.json',
               {'split': arguments.split, 'protocol': protocol, **figures})
    lines = [f'{config.model} on {config.dataset}, {arguments.split} split, protocol {protocol}']
    lines += [f'{name:<16}{value:.4f}' for name, value in figures.items()]
    sys.stdout.write('\n'.join(lines) + '\n')
    return figures


def main(argv: Optional[Sequence[str]] = None) -> int:
    r"""Entry point; returns the exit code."""
    return run_command(evaluate, argv)


if __name__ == '__main__':
    sys.exit(main())
