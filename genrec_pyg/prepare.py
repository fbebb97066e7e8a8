r"""Prepares logs of any size for training: ``python -m genrec_pyg.prepare LOG... --output DIR``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from genrec_pyg.datasets.io.layouts import FORMATS
from genrec_pyg.datasets.io.rows import ON_BAD_ROW
from genrec_pyg.datasets.preparation import Options, Report, prepare_log
from genrec_pyg.utils.command_line import parse_named_files, path_argument, run_command
from genrec_pyg.utils.files import check_stdout, write_stdout


def prepare(argv: Sequence[str]) -> Report:
    r"""Prepares what the command line names, and prints what each step left out."""
    parser = argparse.ArgumentParser(
        prog='python -m genrec_pyg.prepare',
        description='Prepares logs of any size for training.',
        allow_abbrev=False,
    )
    parser.add_argument(
        'logs',
        nargs='+',
        type=path_argument,
        metavar='LOG',
        help='file, folder of files or pattern: CSV, TSV, JSON lines (plain, gzip, bzip2, zstd) '
        'or Parquet; RecBole, MMRec, MovieLens, Amazon reviews, user item lines',
    )
    for role, what in (
        ('user', 'users'),
        ('item', 'items'),
        ('time', 'times: seconds, milliseconds or ISO dates'),
        ('rating', 'ratings'),
    ):
        parser.add_argument(
            f'--{role}',
            metavar='COLUMN',
            help=f'column of {what}, by default the one of a usual name; '
            'a number from 1 where there is no header',
        )
    parser.add_argument(
        '--format', choices=FORMATS, help='layout of the logs, by default as their content says'
    )
    parser.add_argument(
        '--items', type=path_argument, metavar='FILE', help='table of items with ids and titles'
    )
    parser.add_argument(
        '--features',
        nargs='+',
        default=[],
        metavar='NAME=FILE',
        help='features of items: .npy with a list of ids NAME.ids.txt beside it, or Parquet with '
        'a column of lists',
    )
    parser.add_argument(
        '--min_rating', type=float, help='least rating that counts as an interaction'
    )
    parser.add_argument(
        '--k_core', type=int, default=0, help='least number of items per user and users per item'
    )
    parser.add_argument(
        '--split',
        help='random:0.1,0.1, time:0.1,0.1, users:0.1,0.1, cold_items:0.1,0.1 (validation, test), '
        'leave_one_out, column:NAME or none; by default that of the log, else random:0.1,0.1',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of random splits')
    parser.add_argument(
        '--on_bad_row',
        choices=ON_BAD_ROW,
        default='error',
        help='what a row that cannot be read does: error, or skip, which counts and shows such '
        'rows',
    )
    parser.add_argument(
        '--memory',
        default='2GB',
        help='what the engine may hold; the rest goes to the disk of --output',
    )
    parser.add_argument(
        '--output', type=path_argument, required=True, metavar='DIR', help='folder to make'
    )
    parser.add_argument('--debug', action='store_true', help='show tracebacks')
    arguments = parser.parse_args(argv)
    check_stdout()
    columns = {
        role: name
        for role in ('user', 'item', 'time', 'rating')
        if (name := getattr(arguments, role)) is not None
    }
    kind, colon, column = (arguments.split or '').partition(':')
    if kind == 'column' and colon:
        columns['split'] = column
    features = parse_named_files('--features', arguments.features)
    options = Options(
        columns,
        arguments.format,
        arguments.min_rating,
        arguments.k_core,
        arguments.split,
        arguments.seed,
        arguments.items,
        features,
        arguments.on_bad_row,
        arguments.memory,
    )
    command = shlex.join(['python', '-m', 'genrec_pyg.prepare', *argv])
    report = prepare_log(arguments.logs, Path(arguments.output), options, command)
    train = f'train on it: python -m genrec_pyg.train --dataset {shlex.quote(arguments.output)}'
    write_stdout('\n'.join([*report.lines(), train]) + '\n')
    return report


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    return run_command(prepare, argv)


if __name__ == '__main__':
    sys.exit(main())
