r"""Tunes a model: ``python -m genrec_pyg.tune --model M --dataset D``."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from genrec_pyg.config import parse_train_arguments
from genrec_pyg.exceptions import ConfigError, OutputError
from genrec_pyg.runs.folder import RunFolder
from genrec_pyg.tuning.session import TuningSession
from genrec_pyg.utils.command_line import path_argument, run_command
from genrec_pyg.utils.files import check_stdout, write_stdout

#: Flags of the training that a study has no use for.
_NOT_HERE = (
    '--resume',
    '--print_config',
    '--distributed',
    '--distributed_timeout',
    '--grid',
    '--checkpoint',
)


def tune(argv: Sequence[str]) -> float:
    r"""Tunes as the command line asks; returns the best validation value, NaN where nothing was
    chosen.
    """
    parser = argparse.ArgumentParser(
        prog='python -m genrec_pyg.tune',
        allow_abbrev=False,
        description='Tunes a model on the validation split; the same command goes on where it '
        'was stopped.',
        epilog='Every other flag is one of python -m genrec_pyg.train and holds in all trials: '
        '--model, --dataset, --root, --epochs and so on. A setting that is given is not tuned.',
    )
    parser.add_argument(
        '--trials', type=int, default=20, help='settings tried in all, the default first'
    )
    parser.add_argument('--hours', type=float, help='hours after which this call ends')
    parser.add_argument(
        '--jobs', type=int, default=1, help='trials at a time, each in a process of its own'
    )
    parser.add_argument(
        '--output',
        type=path_argument,
        help='folder of the study (default: runs/tune-MODEL-DATASET)',
    )
    parser.add_argument(
        '--no_prune', action='store_true', help='train hopeless settings to their end too'
    )
    parser.add_argument('--debug', action='store_true', help='show tracebacks')
    arguments, flags = parser.parse_known_args(argv)
    for name in ('trials', 'jobs', 'hours'):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise ConfigError(f'--{name}: got {value}, accepted are positive numbers')
    for flag in flags:
        if flag.partition('=')[0] in _NOT_HERE:
            raise ConfigError(f'{flag}: is no flag of a study, which goes on by itself')
    check_stdout()
    config = parse_train_arguments(flags).config
    folder = Path(
        arguments.output
        or Path('runs') / f'tune-{config.model}-{config.dataset}'.replace(os.sep, '_')
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f'{folder}: cannot be made ({error.strerror}); --output names another folder'
        ) from error
    with RunFolder.open(folder):
        seconds = None if arguments.hours is None else 3600 * arguments.hours
        value = TuningSession(
            folder, flags, arguments.trials, arguments.jobs, seconds, not arguments.no_prune
        ).run()
    found = 'nothing was chosen' if math.isnan(value) else f'{value:.4f}'
    write_stdout(
        f'best on validation: {found}; report in {folder / "report.md"}\n'
        f'train it with: python -m genrec_pyg.train --config {folder / "best.yaml"}\n'
    )
    return value


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    return run_command(tune, argv)


if __name__ == '__main__':
    sys.exit(main())
