r"""Lists for users from a run: ``python -m genrec_pyg.recommend RUN --users 3 17 --k 20``."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import torch
from pyarrow import parquet
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.config.build import load_run
from genrec_pyg.datasets.io.item_features import ids_path
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import ITEM, USER, raw_ids
from genrec_pyg.loader import Sequences
from genrec_pyg.reporting.lists import EXCLUDE, top_items, top_items_of_histories, top_new_items
from genrec_pyg.retrieval import INDEXES
from genrec_pyg.retrieval.fold_in import one_history, read_histories
from genrec_pyg.retrieval.new_item_lists import read_new_items
from genrec_pyg.runs.folder import CONTENT, MEMBERS
from genrec_pyg.utils.command_line import parse_named_files, path_argument, run_command
from genrec_pyg.utils.files import check_stdout, check_writable, write_atomically, write_stdout

FORMATS = ('csv', 'json', 'parquet')


def find_blocked(block: str | None, candidates: str | None, data: HeteroData) -> Tensor | None:
    r"""Items that are not offered: those in the file ``block``, and all that are not in the file
    ``candidates`` (one raw id per line, UTF-8).

    Raises:
        ConfigError: If a file cannot be read or names an item that is not there.
    """
    if block is None and candidates is None:
        return None
    number = {str(raw): index for index, raw in enumerate(raw_ids(data, ITEM))}
    out = torch.zeros(len(number), dtype=torch.bool)
    for flag, path in (('--candidates', candidates), ('--block', block)):
        if path is None:
            continue
        names = _read_lines(flag, path)
        unknown = [name for name in names if name not in number]
        if unknown:
            raise ConfigError(
                f'{flag}: {path} names {len(unknown)} items that are not there, the first is '
                f'{unknown[0]!r}'
            )
        listed = torch.tensor([number[name] for name in names], dtype=torch.long)
        if flag == '--candidates':
            out[:] = True
        out[listed] = flag == '--block'
    return out.nonzero().view(-1)


def find_users(names: Sequence[str], data: HeteroData) -> Tensor:
    r"""Users by raw id, each once; ``all`` means every user and ``@FILE`` one id per line (UTF-8).

    An id that begins with ``@`` is a user where there is such a user.

    Raises:
        ConfigError: If a file cannot be read or a user is unknown.
    """
    ids = raw_ids(data, USER)
    if list(names) == ['all']:
        return torch.arange(len(ids))
    number = {str(raw): index for index, raw in enumerate(ids)}
    wanted: list[str] = []
    for name in names:
        if name in number or not name.startswith('@'):
            wanted.append(name)
            continue
        wanted += _read_lines('--users', name[1:])
    for name in wanted:
        if name not in number:
            raise ConfigError(
                f'--users: no user {name!r}, accepted are {len(ids)} ids such as {ids[0]} '
                f'and {ids[-1]}'
            )
    return torch.tensor([number[name] for name in dict.fromkeys(wanted)], dtype=torch.long)


def _read_lines(flag: str, path: str) -> list[str]:
    try:
        return [
            line.strip() for line in Path(path).read_text('utf-8-sig').splitlines() if line.strip()
        ]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'{flag}: {path} cannot be read ({error})') from error


def write_table(columns: dict[str, list], form: str, path: Path | None = None) -> None:
    r"""Writes columns as CSV (lists within it as JSON), JSON (a list of records) or Parquet, in
    UTF-8.

    Args:
        columns: Columns of equal length.
        form: ``'csv'``, ``'json'`` or ``'parquet'``.
        path: File, replaced atomically (see :func:`genrec_pyg.utils.files.replacing`); :obj:`None`
            is standard output.

    Raises:
        OutputError: If the system refuses.
    """
    if form == 'parquet':
        buffer = io.BytesIO()
        parquet.write_table(pyarrow.table(columns), buffer)
        content = buffer.getvalue()
    elif form == 'json':
        content = (
            json.dumps([dict(zip(columns, row)) for row in zip(*columns.values())], indent=1) + '\n'
        ).encode()
    else:
        text = io.StringIO(newline='')
        writer = csv.writer(text, lineterminator='\n')
        writer.writerow(columns)
        writer.writerows(
            [
                json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
                for value in row
            ]
            for row in zip(*columns.values())
        )
        content = text.getvalue().encode()
    if path is None:
        write_stdout(content)
    else:
        write_atomically(path, lambda file: file.write(content))


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m genrec_pyg.recommend',
        description='Recommends items to users.',
        allow_abbrev=False,
    )
    parser.add_argument(
        'run', type=path_argument, help='folder written by python -m genrec_pyg.train'
    )
    parser.add_argument(
        '--users',
        nargs='+',
        action='extend',
        default=[],
        help='raw ids, @FILE with one per line, or all',
    )
    parser.add_argument(
        '--history',
        nargs='+',
        type=path_argument,
        metavar='ITEM|FILE',
        help='ids of items that one person has, oldest first, or a table of users and items: lists '
        'for people whom training need not have seen',
    )
    parser.add_argument(
        '--candidates',
        type=path_argument,
        help='file of item ids, one per line: only these are offered',
    )
    parser.add_argument(
        '--block', type=path_argument, help='file of item ids, one per line: these are not offered'
    )
    parser.add_argument(
        '--item_features',
        nargs='+',
        metavar='NAME=FILE',
        help='lists of new items alone, which training has '
        'not seen, by their features: .npy with a list of ids NAME.ids.txt beside it, or Parquet',
    )
    parser.add_argument(
        '--why',
        type=int,
        nargs='?',
        const=3,
        default=0,
        metavar='N',
        help='also the N (3) items of the history that speak most for each item, through the '
        'graph or a modality, with their shares',
    )
    parser.add_argument('--k', type=int, default=20, help='items per user')
    parser.add_argument(
        '--exclude',
        choices=EXCLUDE,
        help='interactions of a user that are not offered again: known (the default) is all of '
        'them, seen those of training and validation, train those of training',
    )
    parser.add_argument('--format', choices=FORMATS, help='by the suffix of --output, else csv')
    parser.add_argument('--output', type=path_argument, help='file; standard output by default')
    parser.add_argument(
        '--root', type=path_argument, help='folder of the datasets, where it has moved since'
    )
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--batch_size', type=int, default=1024, help='users per block')
    parser.add_argument(
        '--index',
        choices=INDEXES,
        default='exact',
        help='approximate: visits few of the items; needs faiss',
    )
    parser.add_argument(
        '--num_cells',
        type=int,
        help='cells of the approximate index (default: by the number of items)',
    )
    parser.add_argument('--num_probes', type=int, default=16, help='cells that a query visits')
    parser.add_argument('--debug', action='store_true', help='show tracebacks')
    arguments = parser.parse_args(argv)
    if arguments.k < 1 or arguments.batch_size < 1:
        raise ConfigError(
            f'--k, --batch_size: got {arguments.k}, {arguments.batch_size}, accepted are '
            f'integers from 1'
        )
    if arguments.why < 0:
        raise ConfigError(f'--why: got {arguments.why}, accepted are integers from 0')
    if bool(arguments.users) == (arguments.history is not None):
        raise ConfigError('--users, --history: accepted is one of the two')
    for flag in (
        ('--candidates', '--block', '--why', '--exclude') if arguments.item_features else ()
    ):
        if given := getattr(arguments, flag[2:]):
            raise ConfigError(
                f'{flag}: got {given!r} with --item_features, which lists new items alone; '
                f'accepted is one of the two'
            )
    for flag, given in (
        ('--history', arguments.history),
        ('--item_features', arguments.item_features),
    ):
        if given and arguments.index != 'exact':
            raise ConfigError(f"--index: got {arguments.index!r} with {flag}, accepted is 'exact'")
    if arguments.history is not None and arguments.exclude is not None:
        raise ConfigError(
            f'--exclude: got {arguments.exclude!r} with --history, whose items are left out; '
            f'accepted is one of the two'
        )
    return arguments


def recommend(argv: Sequence[str]) -> dict[str, list]:
    r"""Writes recommendations as the command line asks."""
    arguments = _parse(argv)
    new_items = parse_named_files('--item_features', arguments.item_features or ())
    output = None if arguments.output is None else Path(arguments.output)
    if output is not None:
        _check_no_input(output, arguments, new_items)
    form = arguments.format or _format_of(output)
    if output is None:
        check_stdout()
    else:
        check_writable(arguments.output)
    _, data, model, _ = load_run(arguments.run, arguments.root, arguments.device)
    blocked = find_blocked(arguments.block, arguments.candidates, data)
    new_ids, features = read_new_items(new_items) if new_items else ((), {})
    if arguments.history is not None:
        number = {str(raw): index for index, raw in enumerate(raw_ids(data, ITEM))}
        names, histories = _read_history(arguments.history, number, model.num_items)
        if new_items:
            columns = top_new_items(
                model,
                data,
                features,
                new_ids,
                None,
                names,
                histories,
                arguments.k,
                arguments.batch_size,
            )
        else:
            columns = top_items_of_histories(
                model,
                data,
                names,
                histories,
                arguments.k,
                arguments.batch_size,
                blocked,
                arguments.why,
            )
    else:
        user = find_users(arguments.users, data)
        if new_items:
            columns = top_new_items(
                model, data, features, new_ids, user, k=arguments.k, batch_size=arguments.batch_size
            )
        else:
            columns = top_items(
                model,
                data,
                user,
                arguments.k,
                arguments.exclude or 'known',
                arguments.batch_size,
                arguments.index,
                arguments.num_cells,
                arguments.num_probes,
                blocked,
                arguments.why,
            )
    write_table(columns, form, output)
    return columns


def _read_history(
    given: Sequence[str], number: Mapping[str, int], num_items: int
) -> tuple[Sequence[Any], Sequences]:
    r"""Users and items of ``--history``: of a file, or of one user, who is called ``history``."""
    path = Path(given[0])
    if len(given) > 1 or given[0] in number and not path.is_file():
        return ['history'], one_history(given, number, num_items)
    if not path.is_file():
        raise ConfigError(
            f'--history: got {given[0]!r}, which is neither a file nor an item; accepted are a '
            f'table of users and items, or ids such as {next(iter(number), None)!r}'
        )
    return read_histories(path, number, num_items)


def _check_no_input(
    output: Path, arguments: argparse.Namespace, new_items: Mapping[str, str]
) -> None:
    r"""Refuses an output that is a file of the run or one that the command reads."""
    run = Path(arguments.run)
    inputs = [run / name for name in CONTENT] + [
        path for name in ('checkpoints', 'tensorboard', MEMBERS) for path in (run / name).rglob('*')
    ]
    inputs += [Path(name[1:]) for name in arguments.users if name.startswith('@')]
    inputs += [
        Path(name)
        for name in (*(arguments.history or ()), arguments.candidates, arguments.block)
        if name is not None
    ]
    for file in new_items.values():
        path = Path(file.rpartition(':')[0] if '.parquet:' in file else file)
        inputs += [path, ids_path(path)]
    if output.is_file() and any(path.is_file() and path.samefile(output) for path in inputs):
        raise ConfigError(
            f'--output: {output} is read or kept by this run, accepted is another file'
        )


def _format_of(output: Path | None) -> str:
    suffix = '' if output is None else output.suffix.lstrip('.').lower()
    return suffix if suffix in FORMATS else 'csv'


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    return run_command(recommend, argv)


if __name__ == '__main__':
    sys.exit(main())
