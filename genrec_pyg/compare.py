r"""Compares runs over the same users: ``python -m genrec_pyg.compare RUN RUN ...``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from genrec_pyg.evaluation.significance import TESTS
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.reporting.comparison import compare_systems
from genrec_pyg.reporting.systems import group_runs, read_runs
from genrec_pyg.reporting.tables import FORMATS, SUFFIXES, Document
from genrec_pyg.utils.command_line import path_argument, run_command
from genrec_pyg.utils.files import check_stdout, check_writable, write_atomically, write_stdout


def compare(argv: Sequence[str]) -> Document:
    r"""Compares runs as the command line asks and prints or writes the comparison."""
    parser = argparse.ArgumentParser(
        prog='python -m genrec_pyg.compare',
        allow_abbrev=False,
        description='Compares runs of the same data and split: means over seeds, paired tests '
        'over users corrected by Holm, confidence intervals, effect sizes, by user activity and '
        'item popularity.',
    )
    parser.add_argument(
        'run',
        nargs='+',
        type=path_argument,
        help='folders of runs; those that differ in their seed alone are one system',
    )
    parser.add_argument(
        '--base',
        help='name of the system that the others are compared with (default: that of the first '
        'run)',
    )
    parser.add_argument(
        '--metrics',
        nargs='+',
        default=['recall@20', 'ndcg@20'],
        help='metrics per user; the first is also given by groups (default: recall@20 ndcg@20)',
    )
    parser.add_argument(
        '--split', default='test', choices=('val', 'test'), help='held-out interactions'
    )
    parser.add_argument('--test', default='t', choices=TESTS, help='paired test over users')
    parser.add_argument(
        '--groups',
        type=int,
        default=4,
        help='groups of users by activity and of items by popularity',
    )
    parser.add_argument(
        '--format', choices=FORMATS, help='by the suffix of --output, else markdown'
    )
    parser.add_argument('--output', type=path_argument, help='file; standard output by default')
    parser.add_argument('--debug', action='store_true', help='show tracebacks')
    arguments = parser.parse_args(argv)
    if arguments.groups < 1:
        raise ConfigError(f'--groups: got {arguments.groups}, accepted are integers from 1')
    output = None if arguments.output is None else Path(arguments.output)
    if output is None:
        check_stdout()
    else:
        check_writable(arguments.output)
    systems = group_runs(read_runs(arguments.run, arguments.split))
    document = compare_systems(
        systems,
        arguments.base or systems[0].name,
        list(dict.fromkeys(arguments.metrics)),
        arguments.test,
        arguments.groups,
    )
    form = arguments.format or SUFFIXES.get(
        '' if output is None else output.suffix.lstrip('.').lower(), 'markdown'
    )
    content = FORMATS[form](document)
    if output is None:
        write_stdout(content)
    else:
        write_atomically(output, lambda file: file.write(content.encode()))
    return document


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    return run_command(compare, argv)


if __name__ == '__main__':
    sys.exit(main())
