r"""Recall and speed of the approximate index against the exact search, over numbers of cells and
probes.

.. code-block:: console

    # embeddings of a trained model
    python -m benchmarks.speed.retrieval --run runs/GenRec-tiktok-seed0
    # random ones around random centers
    python -m benchmarks.speed.retrieval --num_items 100000 --cells 400 1600

Recall is the share of the exact list that the approximate one holds, queries per second include
leaving out the known items.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.common.flags import positive
from benchmarks.common.machine import machine, machine_line
from benchmarks.common.reports import RESULTS, markdown_table, write_report
from benchmarks.common.timing import interleaved_seconds, summary
from genrec_pyg.config.build import load_run
from genrec_pyg.exceptions import ConfigError, GenRecError
from genrec_pyg.graph import split_edges
from genrec_pyg.ops import Adjacency
from genrec_pyg.retrieval import ApproximateIndex, ExactIndex, Index, retrieve

logger = logging.getLogger('serving')


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    r"""The command line."""
    parser = argparse.ArgumentParser(
        description='Measures recall and speed of the approximate index.'
    )
    parser.add_argument('--run', help='folder of a run; random embeddings without it')
    parser.add_argument('--root', help='folder of the datasets, where it has moved since')
    parser.add_argument(
        '--num_items', type=positive, default=20000, help='items of the random embeddings'
    )
    parser.add_argument(
        '--num_users',
        type=positive,
        default=1000,
        help='queries, at most as many as the run has users',
    )
    parser.add_argument(
        '--channels', type=positive, default=64, help='width of the random embeddings'
    )
    parser.add_argument('--k', type=positive, default=20, help='items per list')
    parser.add_argument(
        '--cells',
        type=positive,
        nargs='+',
        help='numbers of cells (default: the one for this many items)',
    )
    parser.add_argument(
        '--probes',
        type=positive,
        nargs='+',
        default=[1, 4, 16, 64],
        help='cells that a query visits',
    )
    parser.add_argument('--threads', type=positive, default=1)
    parser.add_argument(
        '--repeats', type=positive, default=5, help='measured passes over the queries'
    )
    parser.add_argument(
        '--output', type=Path, help='report without ending, default benchmarks/results/serving-NAME'
    )
    args = parser.parse_args(arguments)
    return args


def random_embeddings(
    num_users: int, num_items: int, channels: int
) -> tuple[Tensor, Tensor, Adjacency]:
    r"""Users ``[U, d]`` and items ``[I, d]`` around common centers, and 20 known items per user."""
    generator = torch.Generator().manual_seed(0)
    center = torch.randn(100, channels, generator=generator)
    users, items = (
        center[torch.randint(100, (n,), generator=generator)]
        + 0.7 * torch.randn(n, channels, generator=generator)
        for n in (num_users, num_items)
    )
    pairs = torch.stack(
        [
            torch.arange(num_users).repeat_interleave(20),
            torch.randint(num_items, (20 * num_users,), generator=generator),
        ]
    )
    return users, items, Adjacency.from_edge_index(pairs, size=(num_users, num_items))


@torch.no_grad()
def embeddings_of_run(
    folder: str, root: str | None, num_users: int
) -> tuple[str, Tensor, Tensor, Adjacency]:
    r"""Name, embeddings of the first users and of all items of a run, and the users' training
    items.

    Raises:
        ConfigError: If its model has no embeddings.
    """
    config, data, model, _ = load_run(folder, root, 'cpu')
    if not model.has_embeddings:
        raise ConfigError(
            f'--run: {config.model} has no embeddings, accepted is a run of a model that has'
        )
    users, items = model.embed()
    known = Adjacency.from_edge_index(
        split_edges(data, 'train'), size=(model.num_users, model.num_items)
    )
    queries = torch.arange(min(num_users, users.size(0)))
    known = Adjacency(*known.select_rows(queries), None, (queries.numel(), model.num_items))
    return f'{config.model}-{config.dataset}', users[queries], items, known


def lists(index: Index, users: Tensor, k: int, known: Adjacency) -> Tensor:
    r"""Items ``[n, k]`` of all queries."""
    blocks = retrieve(
        lambda user, k, rows: index.search(users[user], k, rows),
        torch.arange(users.size(0)),
        k,
        known,
    )
    return torch.cat([item for _, _, item in blocks])


def recall(exact: Tensor, found: Tensor, num_items: int) -> float:
    r"""Mean share of the exact lists, padding aside, that the found ones hold."""
    row = torch.arange(exact.size(0)).unsqueeze(1) * (num_items + 1)
    listed = exact < num_items
    return float((torch.isin(row + exact, row + found) & listed).sum() / listed.sum())


def measure(
    users: Tensor, items: Tensor, known: Adjacency, args: argparse.Namespace
) -> list[dict[str, object]]:
    r"""One row per setting, the exact search first, which is measured in turn with each of the
    others.
    """
    exact = ExactIndex(items)
    rank_exactly = partial(lists, exact, users, args.k, known)
    expected = rank_exactly()
    rows: list[dict[str, object]] = [{'index': 'exact', 'recall': 1.0}]
    seconds_of_exact: list[float] = []
    for cells in args.cells or [None]:
        begin = time.perf_counter()
        index = ApproximateIndex(items, cells)
        build_seconds = time.perf_counter() - begin
        for probes in args.probes if index.num_cells is not None else args.probes[:1]:
            index.num_probes = probes
            search = partial(lists, index, users, args.k, known)
            found = search()
            seconds = interleaved_seconds(
                {'exact': rank_exactly, 'approximate': search}, args.repeats, warmup=1
            )
            seconds_of_exact += seconds['exact']
            rows.append(
                {
                    'index': 'approximate',
                    'cells': index.num_cells,
                    'probes': probes,
                    'build_seconds': build_seconds,
                    'recall': recall(expected, found, items.size(0)),
                    'seconds': summary(seconds['approximate']),
                    'times_faster': summary(seconds['exact'])['median']
                    / summary(seconds['approximate'])['median'],
                }
            )
    rows[0]['seconds'] = summary(seconds_of_exact)
    for row in rows:
        row['queries_per_second'] = users.size(0) / row['seconds']['median']
    return rows


def render(document: Mapping[str, object]) -> str:
    r"""The report as Markdown."""
    rows = []
    for row in document['rows']:
        settings = [row.get(name, '') for name in ('cells', 'probes')]
        speed = [
            f'{row["queries_per_second"]:.0f}',
            f'{row["times_faster"]:.2f}' if 'times_faster' in row else '',
        ]
        build = f'{row["build_seconds"]:.2f}' if 'build_seconds' in row else ''
        rows.append(
            [
                row['index'],
                *('all' if value is None else value for value in settings),
                f'{row["recall"]:.4f}',
                *speed,
                build,
            ]
        )
    header = [
        'index',
        'cells',
        'probes',
        f'recall of the exact {document["k"]}',
        'queries per second',
        'times faster',
        'build [s]',
    ]
    return f"""# Retrieval on {document['name']}

{markdown_table(header, rows)}

{document['num_users']} queries over {document['num_items']} items of {document['channels']}
channels, known items left out,
lists of {document['k']}. Medians of {document['repeats']} passes over all queries, each index in
turn with the exact search.

{machine_line(document['machine'])}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Entry point: 0 on success, 1 on failure, 2 on bad usage."""
    args = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr)
    torch.set_num_threads(args.threads)
    description = machine(args.threads)
    try:
        if args.run is None:
            name = f'random-{args.num_items}'
            users, items, known = random_embeddings(args.num_users, args.num_items, args.channels)
        else:
            name, users, items, known = embeddings_of_run(args.run, args.root, args.num_users)
        rows = measure(users, items, known, args)
    except GenRecError as error:
        logger.error('error: %s', error)
        return 2 if isinstance(error, ConfigError) else 1
    document = {
        'name': name,
        'num_users': users.size(0),
        'num_items': items.size(0),
        'channels': items.size(1),
        'k': args.k,
        'repeats': args.repeats,
        'machine': description,
        'rows': rows,
    }
    markdown = render(document)
    write_report(args.output or RESULTS / f'retrieval-{name}', document, markdown)
    logger.info('\n%s', markdown)
    return 0


if __name__ == '__main__':
    sys.exit(main())
