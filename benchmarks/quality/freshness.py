r"""A model kept fresh by ``train --from`` beside one that is trained from nothing, while a log
grows by its times.

.. code-block:: console

    python -m benchmarks.quality.freshness --root DIR --models LightGCN GenRec MFBPR

MovieLens 100K in order of time: a first training on the first half, then five parts of a tenth
each. After every part a model is trained from nothing, and one from the one before, in a fifth of
the seconds of the former. Of what is known then, the last tenth in time is the test and the
twentieth before it validation, so that most users of the test have come lately and many have no
training interaction at all: their row is never trained, and folding in is most of the gain.
``no step`` is the fresh model before its first step.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch_geometric.data import HeteroData

from benchmarks.common.machine import machine_line
from benchmarks.common.machine import prepare as prepare_machine
from benchmarks.common.reports import RESULTS, markdown_table, write_report

FIGURE = 'recall@20'
#: Share of the log before the first part, number of parts, and share of the seconds of a training
#: from nothing.
FIRST, PARTS, SHARE = 0.5, 5, 0.2


def read_log(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Users, items and times of a log, in the order of time."""
    from genrec_pyg.datasets.io.logs import read_columns
    from genrec_pyg.datasets.io.values import read_ids, read_numbers

    table, name = read_columns(path)
    user, item = (read_ids(table[role], role, name)[1] for role in ('user', 'item'))
    time = read_numbers(table['time'], 'time', name)
    order = np.lexsort((item, user, time))
    return user[order], item[order], time[order]


def known_until(log: tuple[np.ndarray, np.ndarray, np.ndarray], end: int) -> HeteroData:
    r"""The graph of the first ``end`` rows, whose last tenth is held out for the test and the
    twentieth before it for validation.
    """
    from genrec_pyg.datasets import from_table

    label = np.zeros(end, dtype=np.int64)
    label[int(0.85 * end) : int(0.9 * end)] = 1
    label[int(0.9 * end) :] = 2
    user, item, time = (column[:end] for column in log)
    return from_table({'user': user, 'item': item, 'time': time, 'split': label})


def measure(
    model_name: str, log: tuple[np.ndarray, np.ndarray, np.ndarray], epochs: int, seed: int
) -> list[dict[str, Any]]:
    r"""Figures after every part, of the model from nothing and of the fresh one."""
    from genrec_pyg.config import parse_train_arguments
    from genrec_pyg.evaluation import evaluate
    from genrec_pyg.graph import ITEM, USER, raw_ids, split_edges
    from genrec_pyg.nn.models import get_model
    from genrec_pyg.runs.warm_start import take_over
    from genrec_pyg.training import Trainer

    config = parse_train_arguments(['--model', model_name]).config

    def fit(model: Any, data: HeteroData, seconds: float | None) -> Any:
        return Trainer(
            **{
                **config.trainer,
                'epochs': epochs,
                'seed': seed,
                'progress': False,
                'device': 'cpu',
                'max_seconds': seconds,
            }
        ).fit(model, data)

    size, found, before = len(log[0]), [], None
    for part in range(PARTS + 1):
        data = known_until(log, int(size * (FIRST + (1 - FIRST) * part / PARTS)))
        ids = raw_ids(data, USER), raw_ids(data, ITEM)
        model = get_model(model_name)(data, **config.hparams)
        result = fit(model, data, None)
        test = split_edges(data, 'test')[0].unique()
        trained = split_edges(data, 'train')[0].unique()
        row = {
            'part': part,
            'interactions': int(size * (FIRST + (1 - FIRST) * part / PARTS)),
            'test users': test.numel(),
            'of them with training interactions': int(np.isin(test.numpy(), trained.numpy()).sum()),
            'from nothing': result.test[FIGURE],
            'seconds': result.seconds,
            'epochs': len(result.history),
        }
        if before is None:
            before = model, ids
        else:
            fresh = get_model(model_name)(data, **config.hparams)
            take_over(fresh, ids, *before)
            row['no step'] = evaluate(fresh, data, 'test', [20])[FIGURE]
            again = fit(fresh, data, SHARE * result.seconds)
            row |= {
                'fresh': again.test[FIGURE],
                'fresh seconds': again.seconds,
                'fresh epochs': len(again.history),
                'ratio': again.test[FIGURE] / result.test[FIGURE],
            }
            before = fresh, ids
        found.append(row)
        print(model_name, json.dumps(row), file=sys.stderr, flush=True)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.quality.freshness', description=__doc__.partition('\n')[0]
    )
    parser.add_argument(
        '--root',
        type=Path,
        required=True,
        help='folder of the datasets, with ml-100k/ml-100k.inter',
    )
    parser.add_argument(
        '--models',
        nargs='+',
        default=['MFBPR', 'LightGCN', 'GenRec'],
        help='models trained by gradient',
    )
    parser.add_argument(
        '--epochs', type=int, default=40, help='largest number of epochs of a training from nothing'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed')
    parser.add_argument('--output', type=Path, default=RESULTS, help='folder of the report')
    arguments = parser.parse_args(argv)
    facts = prepare_machine(1)
    log = read_log(arguments.root / 'ml-100k' / 'ml-100k.inter')
    found = {
        name: measure(name, log, arguments.epochs, arguments.seed) for name in arguments.models
    }
    header = [
        'model',
        'interactions',
        'test users (trained)',
        'from nothing',
        'seconds',
        'no step',
        'fresh',
        'seconds ',
        'fresh / from nothing',
    ]
    rows = [
        [
            name,
            f'{row["interactions"]:,}',
            f'{row["test users"]} ({row["of them with training interactions"]})',
            f'{row["from nothing"]:.4f}',
            f'{row["seconds"]:.1f}',
            *(
                (
                    f'{row["no step"]:.4f}',
                    f'{row["fresh"]:.4f}',
                    f'{row["fresh seconds"]:.1f}',
                    f'{row["ratio"]:.2f}',
                )
                if 'fresh' in row
                else ('', '', '', '')
            ),
        ]
        for name, parts in found.items()
        for row in parts
    ]
    about = ' '.join(__doc__.split('\n\n')[3].split())
    text = '\n'.join(
        [
            '# Fresh every day',
            '',
            machine_line(facts),
            '',
            f'MovieLens 100K by time, test Recall@20, seed {arguments.seed}. {about}',
            '',
            markdown_table(header, rows),
        ]
    )
    write_report(
        arguments.output / 'freshness',
        {'machine': facts, 'seed': arguments.seed, 'figures': found},
        text,
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
