r"""Memory of a process that loads a prepared folder, and of one that maps it.

.. code-block:: console

    python -m benchmarks.scale.mapped --pairs 5000000 --width 256

A folder is prepared from generated interactions (200,000 users, 100,000 items, skewed) and a
feature matrix of all items. Then three processes start from it, one after another: ``load``, the
graph and features as ``train`` reads them, with the normalized adjacency of LightGCN; ``load, half
the rows``, the same, which then reads the features of half of the items, as a process of two does;
and ``map``, the stores of :mod:`genrec_pyg.datasets.mapped` with one neighborhood of 2048 nodes
sampled and the features of half of the items read. Reported are resident memory beyond the imports:
private (anonymous, which every process of a machine has for itself), of mapped files (which they
share, and which the system takes back), and the peak of both together.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.flags import positive
from benchmarks.common.machine import machine, machine_line, thread_environment
from benchmarks.common.reports import RESULTS, markdown_table, write_report

WAYS = ('load', 'load, half the rows', 'map')
_USERS, _ITEMS = 200_000, 100_000


def prepared(folder: Path, pairs: int, width: int) -> Path:
    r"""Generates and prepares a log."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    from genrec_pyg.datasets.preparation import Options, prepare_log

    random = np.random.default_rng(0)
    user = random.integers(_USERS, size=pairs)
    item = (random.random(pairs) ** 2 * _ITEMS).astype(np.int64)
    parquet.write_table(pa.table({'user': user, 'item': item}), folder / 'log.parquet')
    np.save(folder / 'text.npy', random.normal(size=(_ITEMS, width)).astype(np.float32))
    (folder / 'text.ids.txt').write_text('\n'.join(map(str, range(_ITEMS))) + '\n')
    options = Options(split='random:0.05,0.05', features={'text': str(folder / 'text.npy')})
    prepare_log([str(folder / 'log.parquet')], folder / 'ready', options)
    return folder / 'ready'


def resident() -> dict[str, int]:
    r"""Resident bytes of this process: private, of files, and the largest since the start."""
    fields = {}
    for line in Path('/proc/self/status').read_text().splitlines():
        name, _, value = line.partition(':')
        if name in ('RssAnon', 'RssFile', 'VmHWM'):
            fields[name] = int(value.split()[0]) * 1024
    return fields


def child(way: str, folder: Path) -> dict[str, float]:
    r"""What a process holds that starts in a ``way``."""
    import torch

    from genrec_pyg.datasets import load_dataset
    from genrec_pyg.datasets.mapped import MappedFeatures, MappedGraph
    from genrec_pyg.graph import training_graph
    from genrec_pyg.loader import LayerNeighborSampler
    from genrec_pyg.nn.interaction_graph import InteractionGraph

    before, begin = resident(), time.process_time()
    half = torch.arange(_ITEMS // 2)
    if way == 'map':
        graph, features = MappedGraph(folder, check=False), MappedFeatures(folder, check=False)
        adj = graph.adjacency()
        keep: list[Any] = [
            LayerNeighborSampler(adj, 2, 10).sample(torch.arange(min(2048, adj.size[0])), key=0)
        ]
        total = float(features['text', 'x', slice(0, len(half))].sum())
    else:
        found = training_graph(load_dataset(folder.name, folder.parent))
        keep = [found, InteractionGraph(found)]
        rows = found.modalities['text'].x
        total = float((rows[: len(half)] if 'half' in way else rows).sum())
    after = resident()
    return {
        'private': after['RssAnon'] - before['RssAnon'],
        'files': after['RssFile'] - before['RssFile'],
        'peak': after['VmHWM'] - before['RssAnon'] - before['RssFile'],
        'seconds': time.process_time() - begin,
        'sum': total,
        'objects': len(keep),
    }


def markdown(document: dict[str, Any]) -> str:
    r"""The report."""
    about = ' '.join((__doc__ or '').split('\n\n', 3)[3].split())
    about = about.replace('``', '`').replace(':mod:', '')
    return '\n\n'.join(
        [
            '# Memory of prepared folders, loaded and mapped',
            machine_line(document['machine']),
            about,
            f'{document["pairs"]} rows of a log, features of width {document["width"]}.',
            markdown_table(
                ['', 'private [MB]', 'of files [MB]', 'peak [MB]', 'processor time [s]'],
                [
                    [
                        way,
                        *(f'{found[name] / 1e6:.0f}' for name in ('private', 'files', 'peak')),
                        f'{found["seconds"]:.1f}',
                    ]
                    for way, found in document['ways'].items()
                ],
            ),
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(description='Memory of prepared folders, loaded and mapped.')
    parser.add_argument('--pairs', type=positive, default=5_000_000)
    parser.add_argument('--width', type=positive, default=256)
    parser.add_argument(
        '--output', type=Path, default=RESULTS / 'mapped', help='report without ending'
    )
    parser.add_argument('--child', nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.child is not None:
        print(json.dumps(child(arguments.child[0], Path(arguments.child[1]))))
        return 0
    document: dict[str, Any] = {
        'machine': machine(1),
        'pairs': arguments.pairs,
        'width': arguments.width,
        'ways': {},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = prepared(Path(name), arguments.pairs, arguments.width)
        for way in WAYS:
            done = subprocess.run(
                [sys.executable, '-m', 'benchmarks.scale.mapped', '--child', way, str(folder)],
                env=thread_environment(1),
                capture_output=True,
                text=True,
                check=True,
            )
            document['ways'][way] = json.loads(done.stdout.splitlines()[-1])
            print(way, document['ways'][way], file=sys.stderr, flush=True)
    write_report(arguments.output, document, markdown(document))
    print(markdown(document))
    return 0


if __name__ == '__main__':
    sys.exit(main())
