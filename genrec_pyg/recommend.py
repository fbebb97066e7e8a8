r"""Lists for users from a run: ``python -m genrec_pyg.recommend RUN --users 3 17 --k 20``."""
from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

import pyarrow
import torch
from pyarrow import parquet
from torch import Tensor
from torch_geometric.data import HeteroData

from genrec_pyg.config.build import load_run
from genrec_pyg.evaluation import check_scores
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import HISTORY, ITEM, USER, check_held_out, has_split, raw_ids, split_edges
from genrec_pyg.nn.models import Recommender
from genrec_pyg.ops import Adjacency
from genrec_pyg.retrieval import INDEXES, Search, make_search, retrieve
from genrec_pyg.retrieval.fold_in import history_search, read_histories, without_items
from genrec_pyg.retrieval.new_item_lists import new_item_search, read_new_items
from genrec_pyg.retrieval.reasons import Explain, explain
from genrec_pyg.runs.folder import CONTENT, MEMBERS
from genrec_pyg.utils.command_line import parse_named_files, path_argument, run_command
from genrec_pyg.utils.files import check_stdout, check_writable, write_atomically, write_stdout

FORMATS = ('csv', 'json', 'parquet')
COLUMNS = ('user', 'item', 'rank', 'score')
#: Splits whose interactions are left out.
EXCLUDE = {'known': ('train', 'val', 'test'), 'seen': ('train', 'val'), 'train': ('train',), 'none': ()}


@torch.no_grad()
def top_items(model: Recommender, data: HeteroData, user: Tensor, k: int = 20, exclude: str = 'known',
              batch_size: int = 1024, index: str = 'exact', num_cells: Optional[int] = None,
              num_probes: int = 16, blocked: Optional[Tensor] = None, why: int = 0) -> dict[str, list]:
    r"""Best items of users, known ones left out.

    Args:
        model: Trained model.
        data: Its graph.
        user: Numbers of the users ``[n]``, a tensor, array or list.
        k: Items per user; a user with fewer candidates gets fewer rows.
        exclude: Which interactions of a user are not offered again: ``'known'`` all of them, ``'seen'`` those of training
            and validation, ``'train'`` those of training, ``'none'`` none. To measure lists on the test split take ``'seen'``,
            on the validation split ``'train'``.
            Histories of users outside the training are left out with the training interactions. What is left out is also
            what a model that reads histories knows of a user; with ``'none'`` it knows all.
        batch_size: Users per block.
        index: ``'exact'``, or ``'approximate'`` with faiss, see :class:`~genrec_pyg.retrieval.ApproximateIndex`.
        num_cells: Cells of the approximate index.
        num_probes: Cells that a query visits.
        blocked: Items ``[n]`` that nobody is offered.
        why: Reasons per item, see :class:`~genrec_pyg.retrieval.reasons.Reasons`; 0 gives none.

    Returns:
        Columns ``user``, ``item`` (raw ids where the graph has ``raw_id``), ``rank`` (from 1), ``score`` and, where the
        graph has them, ``title``; with ``why`` also ``why``, the items of the history that speak for the item, and ``rest``,
        what is left of the score without any.

    Raises:
        ConfigError: On a user number out of range, a ``k`` below 1, an unknown ``exclude`` or index, or an index that the
            model or this environment does not have.
        DataError: If the model was made from another split, so that pairs it was trained on would be listed.
        GenRecError: If a listed score is NaN or infinite.
    """
    if exclude not in EXCLUDE:
        raise ConfigError(f"exclude: got {exclude!r}, accepted are {', '.join(map(repr, EXCLUDE))}")
    if k < 1:
        raise ConfigError(f'k: got {k}, accepted are integers from 1')
    user = torch.as_tensor(user).reshape(-1).long()
    if user.numel() > 0 and not 0 <= int(user.min()) <= int(user.max()) < model.num_users:
        raise ConfigError(f'user: got numbers from {int(user.min())} to {int(user.max())}, accepted are 0 to '
                          f'{model.num_users - 1}')
    left_out, read = ([name for name in (*EXCLUDE[which], HISTORY) if EXCLUDE[which] and has_split(data, name)]
                      for which in (exclude, 'known' if exclude == 'none' else exclude))
    check_held_out(model.graph, data, [split for split in ('val', 'test') if left_out and split not in left_out])
    known = torch.cat([torch.empty(2, 0, dtype=torch.long), *(split_edges(data, split) for split in left_out)], dim=1)
    device = model.graph.edge_index.device
    matrix = Adjacency.from_edge_index(known, size=(model.num_users, model.num_items)).to(device)
    with model.known_edges(data, read), model.cached_embeddings():
        search = make_search(model, index, num_cells, num_probes)
        reasons = explain(model, data, _training_rows(model), why) if why else None
        return _lists(search, user.to(device), raw_ids(data, USER), data, matrix, k, batch_size, blocked, reasons)


@torch.no_grad()
def top_items_of_histories(model: Recommender, data: HeteroData, names: Sequence[Any], histories: Adjacency, k: int = 20,
                           batch_size: int = 1024, blocked: Optional[Tensor] = None, why: int = 0) -> dict[str, list]:
    r"""Best items of users outside the graph, from the items that they have, which are left out.

    Args:
        model: Trained model.
        data: Its graph.
        names: Ids of the users ``[B]``.
        histories: Their items ``[B, I]``, without values, see :func:`~genrec_pyg.retrieval.fold_in.history_search`.
        k: Items per user.
        batch_size: Users per block.
        blocked: Items ``[n]`` that nobody is offered.
        why: As in :func:`top_items`.

    Returns:
        As :func:`top_items`.

    Raises:
        ConfigError: If the model knows only the users that it was trained with.
    """
    device = model.graph.edge_index.device
    histories = histories.to(device)
    with model.cached_embeddings():
        search = history_search(model, histories)
        reasons = explain(model, data, histories, why) if why else None
        return _lists(search, torch.arange(len(names), device=device), names, data, histories, k, batch_size, blocked, reasons)


@torch.no_grad()
def top_new_items(model: Recommender, data: HeteroData, features: Mapping[str, Tensor], ids: Sequence[Any],
                  user: Optional[Tensor] = None, names: Sequence[Any] = (), histories: Optional[Adjacency] = None,
                  k: int = 20, batch_size: int = 1024) -> dict[str, list]:
    r"""New items in order for users, by their features alone.

    Args:
        model: Trained model with item embeddings and modalities.
        data: Its graph.
        features: Raw features ``[n, d_m]`` by modality, see
            :func:`~genrec_pyg.retrieval.new_item_lists.read_new_items`.
        ids: Ids of the new items ``[n]``.
        user: Numbers of users of the graph, or :obj:`None` for the users of ``histories``.
        names: Ids of the users of ``histories``.
        histories: As in :func:`top_items_of_histories`.
        k: Items per user.
        batch_size: Users per block.

    Returns:
        As :func:`top_items`.

    Raises:
        ConfigError: If the model knows only the items that it was trained with.
    """
    device = model.graph.edge_index.device
    histories = None if histories is None else histories.to(device)
    user_ids = raw_ids(data, USER) if histories is None else names
    user = torch.arange(len(names), device=device) if histories is not None else torch.as_tensor(user).to(device)
    nothing = Adjacency.from_edge_index(torch.empty(2, 0, dtype=torch.long), size=(len(user_ids), len(ids))).to(device)
    with model.cached_embeddings():
        search = new_item_search(model, features, histories)
        return _lists(search, user, user_ids, data, nothing, k, batch_size, None, None, ids)


def _training_rows(model: Recommender) -> Adjacency:
    return Adjacency.from_edge_index(model.graph.edge_index, size=(model.num_users, model.num_items))


def _lists(search: Search, user: Tensor, user_ids: Sequence[Any], data: HeteroData, known: Adjacency, k: int, batch_size: int,
           blocked: Optional[Tensor], reasons: Optional[Explain] = None,
           new_ids: Optional[Sequence[Any]] = None) -> dict[str, list]:
    item_ids, titles = (raw_ids(data, ITEM), data[ITEM].get('title')) if new_ids is None else (new_ids, None)
    columns: dict[str, list] = {name: [] for name in (*COLUMNS, *([] if titles is None else ['title']),
                                             *(['why', 'rest'] if reasons else []))}
    search = search if blocked is None else without_items(search, blocked)
    for block, score, item in retrieve(search, user, k, known, batch_size):
        check_scores(score, block)
        row, rank = (item < len(item_ids)).nonzero(as_tuple=True)
        columns['user'] += [user_ids[u] for u in block[row].tolist()]
        columns['item'] += [item_ids[i] for i in item[row, rank].tolist()]
        columns['rank'] += (rank + 1).tolist()
        columns['score'] += score[row, rank].tolist()
        if titles is not None:
            columns['title'] += [titles[i] for i in item[row, rank].tolist()]
        for number, u in enumerate(block.tolist() if reasons else ()):
            listed = item[number] < len(item_ids)
            for found, rest in reasons(u, item[number, listed], score[number, listed]):
                columns['why'].append(found)
                columns['rest'].append(rest)
    return columns


def find_blocked(block: Optional[str], candidates: Optional[str], data: HeteroData) -> Optional[Tensor]:
    r"""Items that are not offered: those in the file ``block``, and all that are not in the file ``candidates`` (one raw id
    per line, UTF-8).

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
        try:
            names = [line.strip() for line in Path(path).read_text('utf-8-sig').splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f'{flag}: {path} cannot be read ({error})') from error
        unknown = [name for name in names if name not in number]
        if unknown:
            raise ConfigError(f'{flag}: {path} names {len(unknown)} items that are not there, the first is {unknown[0]!r}')
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
        try:
            wanted += [line.strip() for line in Path(name[1:]).read_text('utf-8-sig').splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f'--users: {name[1:]} cannot be read ({error})') from error
    for name in wanted:
        if name not in number:
            raise ConfigError(f'--users: no user {name!r}, accepted are {len(ids)} ids such as {ids[0]} and {ids[-1]}')
    return torch.tensor([number[name] for name in dict.fromkeys(wanted)], dtype=torch.long)


def write_table(columns: dict[str, list], form: str, path: Optional[Path] = None) -> None:
    r"""Writes columns as CSV (lists within it as JSON), JSON (a list of records) or Parquet, in UTF-8.

    Args:
        columns: Columns of equal length.
        form: ``'csv'``, ``'json'`` or ``'parquet'``.
        path: File, replaced atomically (see :func:`genrec_pyg.utils.files.replacing`); :obj:`None` is standard output.

    Raises:
        OutputError: If the system refuses.
    """
    if form == 'parquet':
        buffer = io.BytesIO()
        parquet.write_table(pyarrow.table(columns), buffer)
        content = buffer.getvalue()
    elif form == 'json':
        content = (json.dumps([dict(zip(columns, row)) for row in zip(*columns.values())], indent=1) + '\n').encode()
    else:
        text = io.StringIO(newline='')
        writer = csv.writer(text, lineterminator='\n')
        writer.writerow(columns)
        writer.writerows([json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value for value in row]
                         for row in zip(*columns.values()))
        content = text.getvalue().encode()
    if path is None:
        write_stdout(content)
    else:
        write_atomically(path, lambda file: file.write(content))


def recommend(argv: Sequence[str]) -> dict[str, list]:
    r"""Writes recommendations as the command line asks."""
    parser = argparse.ArgumentParser(prog='python -m genrec_pyg.recommend', description='Recommends items to users.',
                                     allow_abbrev=False)
    parser.add_argument('run', type=path_argument, help='folder written by python -m genrec_pyg.train')
    parser.add_argument('--users', nargs='+', action='extend', default=[],
                        help='raw ids, @FILE with one per line, or all')
    parser.add_argument('--history', type=path_argument, help='table of users and items: lists for these users, whom training '
                        'need not have seen, from these items')
    parser.add_argument('--candidates', type=path_argument, help='file of item ids, one per line: only these are offered')
    parser.add_argument('--block', type=path_argument, help='file of item ids, one per line: these are not offered')
    parser.add_argument('--item-features', nargs='+', metavar='NAME=FILE', help='lists of new items alone, which training has '
                        'not seen, by their features: .npy with a list of ids NAME.ids.txt beside it, or Parquet')
    parser.add_argument('--why', type=int, nargs='?', const=3, default=0, metavar='N', help='also the N (3) items of the '
                        'history that speak most for each item, through the graph or a modality, with their shares')
    parser.add_argument('--k', type=int, default=20, help='items per user')
    parser.add_argument('--exclude', choices=EXCLUDE, default='known',
                        help='interactions of a user that are not offered again: known (the default) is all of them, seen '
                        'those of training and validation, train those of training')
    parser.add_argument('--format', choices=FORMATS, help="by the suffix of --output, else csv")
    parser.add_argument('--output', type=path_argument, help='file; standard output by default')
    parser.add_argument('--root', type=path_argument, help='folder of the datasets, where it has moved since')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--batch_size', type=int, default=1024, help='users per block')
    parser.add_argument('--index', choices=INDEXES, default='exact', help='approximate: visits few of the items; needs faiss')
    parser.add_argument('--num_cells', type=int, help='cells of the approximate index (default: by the number of items)')
    parser.add_argument('--num_probes', type=int, default=16, help='cells that a query visits')
    parser.add_argument('--debug', action='store_true', help='show tracebacks')
    arguments = parser.parse_args(argv)
    if arguments.k < 1 or arguments.batch_size < 1:
        raise ConfigError(f'--k, --batch_size: got {arguments.k}, {arguments.batch_size}, accepted are integers from 1')
    if arguments.why < 0:
        raise ConfigError(f'--why: got {arguments.why}, accepted are integers from 0')
    if bool(arguments.users) == (arguments.history is not None):
        raise ConfigError('--users, --history: accepted is one of the two')
    new_items = parse_named_files('--item-features', arguments.item_features or ())
    for flag, given in (('--candidates', arguments.candidates), ('--block', arguments.block), ('--why', arguments.why)):
        if new_items and given:
            raise ConfigError(f'{flag}: got {given!r} with --item-features, which lists new items alone; accepted is one of '
                              'the two')
    if arguments.history is not None and arguments.index != 'exact':
        raise ConfigError(f"--index: got {arguments.index!r} with --history, accepted is 'exact'")
    output = None if arguments.output is None else Path(arguments.output)
    if output is not None:
        _check_no_input(output, arguments)
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
        names, histories = read_histories(Path(arguments.history), number, model.num_items)
        if new_items:
            columns = top_new_items(model, data, features, new_ids, None, names, histories, arguments.k, arguments.batch_size)
        else:
            columns = top_items_of_histories(model, data, names, histories, arguments.k, arguments.batch_size, blocked,
                                             arguments.why)
    else:
        user = find_users(arguments.users, data)
        if new_items:
            columns = top_new_items(model, data, features, new_ids, user, k=arguments.k, batch_size=arguments.batch_size)
        else:
            columns = top_items(model, data, user, arguments.k, arguments.exclude, arguments.batch_size, arguments.index,
                                arguments.num_cells, arguments.num_probes, blocked, arguments.why)
    write_table(columns, form, output)
    return columns


def _check_no_input(output: Path, arguments: argparse.Namespace) -> None:
    r"""Refuses an output that is a file of the run, of its data or of ``--users``."""
    run = Path(arguments.run)
    inputs = [run / name for name in CONTENT] + [path for name in ('checkpoints', 'tensorboard', MEMBERS)
                                                 for path in (run / name).rglob('*')]
    inputs += [Path(name[1:]) for name in arguments.users if name.startswith('@')]
    inputs += [Path(name) for name in (arguments.history, arguments.candidates, arguments.block) if name is not None]
    if output.is_file() and any(path.is_file() and path.samefile(output) for path in inputs):
        raise ConfigError(f'--output: {output} is read or kept by this run, accepted is another file')


def _format_of(output: Optional[Path]) -> str:
    suffix = '' if output is None else output.suffix.lstrip('.').lower()
    return suffix if suffix in FORMATS else 'csv'


def main(argv: Optional[Sequence[str]] = None) -> int:
    r"""Entry point; returns the exit code."""
    return run_command(recommend, argv)


if __name__ == '__main__':
    sys.exit(main())
