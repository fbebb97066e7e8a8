r"""Times the Triton kernels of :mod:`genrec_pyg.ops` on a GPU against what one would use without
them.

.. code-block:: console

    # a random graph with skewed degrees
    python -m benchmarks.speed.gpu.run
    python -m benchmarks.speed.gpu.run --root DIR --dataset tiktok

Every candidate is compared with a plain formula first. A measurement is a number of calls and one
wait for the device, and candidates take turns. *Eager* is the time of a call as a program sees it,
in which small kernels wait for their launches; *device* is the time of the same call replayed from
a CUDA graph, where it can be recorded. Rates follow from a model of the work given beside each
table, not from counters: gathered rows that come out of the cache count, so they may exceed what
the memory delivers. Last come epochs of the trainer on a small graph, with and without
``cuda_graph``.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.common.flags import positive
from benchmarks.common.machine import machine, machine_line
from benchmarks.common.reports import RESULTS, markdown_table, write_report
from benchmarks.speed.gpu.cases import (
    measure_contrast,
    measure_epochs,
    measure_flips,
    measure_products,
    measure_ranking,
    measure_training,
)
from genrec_pyg.datasets import demo_graph, load_dataset
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.graph import training_graph
from genrec_pyg.ops import (
    Adjacency,
    bipartite_adjacency,
)
from genrec_pyg.ops.backends import triton_kernels

logger = logging.getLogger('gpu')


def random_graph(num_users: int, num_items: int, num_edges: int) -> Tensor:
    r"""Distinct user-item pairs ``[2, E]``, at most ``num_edges``; items have a skewed popularity
    (density as the fourth power of a uniform number).
    """
    generator = torch.Generator().manual_seed(0)
    user = torch.randint(num_users, (num_edges,), generator=generator)
    item = (torch.rand(num_edges, generator=generator, dtype=torch.float64) ** 4 * num_items).long()
    return torch.unique(torch.stack([user, item]), dim=1)


def render(document: Mapping[str, object]) -> str:
    r"""The report as Markdown."""
    sections = []
    for label, part in document['results'].items():
        rows = []
        for name, eager in part['eager'].items():
            replayed = part['device'].get(name)
            best = replayed or eager
            rows.append(
                [
                    name,
                    f'{eager["median"] * 1e6:.1f}',
                    f'{replayed["median"] * 1e6:.1f}' if replayed else '-',
                    f'{part["work"] / best["median"] / 1e9:.1f}',
                ]
            )
        header = ['candidate', 'eager [us]', 'device [us]', part['unit']]
        sections.append(f'## {label[0].upper()}{label[1:]}\n\n{markdown_table(header, rows)}')
    text = '\n\n'.join(sections)
    reasons = '; '.join(f'{name}: {reason}' for name, reason in document['left_out'].items())
    left_out = f'\n\nLeft out: {reasons}.' if reasons else ''
    return f"""# Kernels on {document['device']}

{document['graph']}: {document['num_users']} users, {document['num_items']} items, {document['nnz']}
non-zeros in the
normalized adjacency, longest row {document['longest_row']}. Medians of {document['repeats']}
measurements of up to
{document['calls']} calls, candidates in turn, results compared before. Eager: calls as a program
makes them; device: replayed
from a CUDA graph, '-' where that cannot be recorded. The last column is the modeled work over the
device time (else the eager
time): index, weight and row of x per entry and one write per row of a product; two operations per
channel of every inner
product.{left_out}

{text}

{document['device']}. {machine_line(document['machine'])}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Entry point."""
    parser = argparse.ArgumentParser(
        description='Times the Triton kernels of genrec_pyg.ops and recorded training on a GPU.'
    )
    parser.add_argument('--root', type=Path, help='folder that holds the datasets')
    parser.add_argument(
        '--dataset', help='dataset: a folder under the root; a random graph by default'
    )
    parser.add_argument('--users', type=positive, default=100_000, help='users of the random graph')
    parser.add_argument('--items', type=positive, default=50_000, help='items of the random graph')
    parser.add_argument(
        '--edges', type=positive, default=2_000_000, help='pairs drawn for the random graph'
    )
    parser.add_argument(
        '--repeats', type=positive, default=20, help='measurements of each candidate'
    )
    parser.add_argument('--calls', type=positive, default=20, help='calls per measurement')
    parser.add_argument(
        '--output', type=Path, help='report without ending, default benchmarks/results/gpu-GRAPH'
    )
    args = parser.parse_args(arguments)
    if args.dataset is not None and args.root is None:
        parser.error(f'--dataset: got {args.dataset} without --root, accepted is a folder under it')
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr)
    if not torch.cuda.is_available():
        logger.error(
            'gpu.py: torch finds no CUDA device; this benchmark needs one, kernels.py '
            'measures the CPU'
        )
        return 1
    try:
        triton_kernels()
    except ConfigError as error:
        logger.error('gpu.py: %s', error)
        return 1
    device = torch.device('cuda')
    torch.manual_seed(0)
    document = run(args, device, torch.cuda.get_device_name(device))
    write_report(
        args.output or RESULTS / f'gpu-{args.dataset or "random"}', document, render(document)
    )
    logger.info('\n%s', render(document))
    return 0


def run(args: argparse.Namespace, device: torch.device, name: str) -> dict[str, object]:
    r"""All measurements on ``device``, which the report calls ``name``."""
    if args.dataset is None:
        edge_index = random_graph(args.users, args.items, args.edges)
        num_users = args.users
        num_items = args.items
    else:
        graph = training_graph(load_dataset(args.dataset, str(args.root)), [])
        edge_index, num_users, num_items = graph.edge_index, graph.num_users, graph.num_items
    description = machine(torch.get_num_threads())
    edge_index = edge_index.to(device)
    adj = bipartite_adjacency(edge_index, num_users, num_items, self_loops=True)
    known = Adjacency.from_edge_index(edge_index, size=(num_users, num_items))
    few = max(args.calls // 4, 1)
    results, left_out = measure_products(adj, args.repeats, args.calls)
    results = {
        **results,
        **measure_ranking(known, args.repeats, few),
        **measure_flips(known, args.repeats, few),
        **measure_contrast(device, args.repeats, few),
        **measure_training(adj, edge_index, num_users, args.repeats, args.calls),
        **measure_epochs(demo_graph(), device, args.repeats),
    }
    return {
        'device': name,
        'graph': args.dataset or 'Random graph',
        'num_users': num_users,
        'num_items': num_items,
        'nnz': adj.nnz,
        'longest_row': int(adj.row_degree().max()),
        'repeats': args.repeats,
        'calls': args.calls,
        'machine': description,
        'left_out': left_out,
        'results': results,
    }


if __name__ == '__main__':
    sys.exit(main())
