r"""A model kept fresh by ``train --from`` beside one that is trained from nothing, while a log
grows.

.. code-block:: console

    python -m benchmarks.quality.freshness --root DIR --datasets ml-100k lfm2k \
        --models MFBPR LightGCN GenRec

A first training on the first half of the interactions, then five parts of a tenth each. After every
part a model is trained from nothing, and one from the one before (rows and moments of the optimizer
by ids, new rows folded in), in a fifth of the seconds of the former. ``no step`` is the fresh model
before its first step. Of MovieLens 100K, in order of time, the last tenth of what is known then is
the test and the twentieth before it validation, so that most users of the test have come lately and
many have no training interaction at all: their row is never trained. Of Last.fm 2K, which has no
times, the training interactions come in an order drawn at random, and its own validation and test
stay: those of the users and items that are known.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch_geometric.data import HeteroData

from benchmarks.common.machine import machine_line
from benchmarks.common.machine import prepare as prepare_machine
from benchmarks.common.reports import RESULTS, figure, markdown_table, write_report

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


def grow_by_time(root: Path, share: float) -> HeteroData:
    r"""MovieLens 100K until a share of its log, see :func:`known_until`."""
    log = read_log(root / 'ml-100k' / 'ml-100k.inter')
    return known_until(log, int(len(log[0]) * share))


def grow_at_random(root: Path, share: float, seed: int = 0) -> HeteroData:
    r"""Last.fm 2K with a share of its training pairs, and the held-out pairs of their users and
    items.
    """
    from genrec_pyg.datasets import from_table, load_dataset
    from genrec_pyg.graph import split_edges

    data = load_dataset('lfm2k', root, ['text=all-MiniLM-L6-v2'])
    train, val, test = (split_edges(data, split).numpy() for split in ('train', 'val', 'test'))
    order = np.random.default_rng(seed).permutation(train.shape[1])
    train = train[:, order[: int(share * len(order))]]
    held_out = [
        pairs[:, np.isin(pairs[0], train[0]) & np.isin(pairs[1], train[1])] for pairs in (val, test)
    ]
    pairs = np.concatenate([train, *held_out], axis=1)
    label = np.repeat(np.arange(3), [part.shape[1] for part in (train, *held_out)])
    return from_table({'user': pairs[0], 'item': pairs[1], 'split': label})


#: Datasets by name: the graph when a share of the interactions is known.
GROWING = {'ml-100k': grow_by_time, 'lfm2k': grow_at_random}


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
    model_name: str, grow: Callable[[float], HeteroData], epochs: int, seed: int
) -> list[dict[str, Any]]:
    r"""Figures after every part, of the model from nothing and of the fresh one."""
    from genrec_pyg.config import parse_train_arguments
    from genrec_pyg.evaluation import evaluate
    from genrec_pyg.graph import INTERACTS, ITEM, USER, raw_ids, split_edges
    from genrec_pyg.nn.models import get_model
    from genrec_pyg.runs.checkpoint import load_checkpoint
    from genrec_pyg.runs.warm_start import take_over, take_over_moments
    from genrec_pyg.training import Trainer

    config = parse_train_arguments(['--model', model_name]).config

    def fit(
        model: Any, data: HeteroData, seconds: float | None, moments: Any = None
    ) -> tuple[Any, Any]:
        r"""Result of a training, and the state of its optimizer at the epoch that it chose."""
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(
                **{
                    **config.trainer,
                    'epochs': epochs,
                    'seed': seed,
                    'progress': False,
                    'device': 'cpu',
                    'max_seconds': seconds,
                    'output': Path(folder) / 'run',
                }
            )
            result = trainer.fit(model, data, moments=moments)
            state = load_checkpoint(Path(folder) / 'run' / 'checkpoints' / 'best.pt')
        return result, state['optimizer']

    found, before = [], None
    for part in range(PARTS + 1):
        data = grow(FIRST + (1 - FIRST) * part / PARTS)
        ids = raw_ids(data, USER), raw_ids(data, ITEM)
        model = get_model(model_name)(data, **config.hparams)
        result, optimizer = fit(model, data, None)
        test = split_edges(data, 'test')[0].unique()
        trained = split_edges(data, 'train')[0].unique()
        row = {
            'part': part,
            'interactions': data[INTERACTS].edge_index.size(1),
            'test users': test.numel(),
            'of them with training interactions': int(np.isin(test.numpy(), trained.numpy()).sum()),
            'from nothing': result.test[FIGURE],
            'seconds': result.seconds,
            'epochs': len(result.history),
        }
        if before is None:
            before = model, ids, optimizer
        else:
            fresh = get_model(model_name)(data, **config.hparams)
            take_over(fresh, ids, *before[:2])
            moments = take_over_moments(fresh, ids, *before)
            row['no step'] = evaluate(fresh, data, 'test', [20])[FIGURE]
            again, optimizer = fit(fresh, data, SHARE * result.seconds, moments)
            row |= {
                'fresh': again.test[FIGURE],
                'fresh seconds': again.seconds,
                'fresh epochs': len(again.history),
                'ratio': again.test[FIGURE] / result.test[FIGURE],
            }
            before = fresh, ids, optimizer
        found.append(row)
        print(model_name, json.dumps(row), file=sys.stderr, flush=True)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.quality.freshness', description=__doc__.partition('\n')[0]
    )
    parser.add_argument('--root', type=Path, required=True, help='folder of the datasets')
    parser.add_argument(
        '--datasets', nargs='+', choices=GROWING, default=list(GROWING), help='data that grow'
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
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for dataset in arguments.datasets:
        for name in arguments.models:
            found.setdefault(dataset, {})[name] = measure(
                name, partial(GROWING[dataset], arguments.root), arguments.epochs, arguments.seed
            )
            report(arguments, facts, found)  # what is there counts if the next does not end
    return 0


def report(
    arguments: argparse.Namespace,
    facts: dict[str, Any],
    found: dict[str, dict[str, list[dict[str, Any]]]],
) -> None:
    r"""Writes table and curves of what is measured."""
    header = [
        'dataset, model',
        'interactions',
        'test users (trained)',
        'from nothing',
        'seconds (epochs)',
        'no step',
        'fresh',
        'seconds (epochs) ',
        'fresh / from nothing',
    ]
    rows = [
        [
            f'{dataset}, {name}',
            f'{row["interactions"]:,}',
            f'{row["test users"]} ({row["of them with training interactions"]})',
            f'{row["from nothing"]:.4f}',
            f'{row["seconds"]:.1f} ({row["epochs"]})',
            *(
                (
                    f'{row["no step"]:.4f}',
                    f'{row["fresh"]:.4f}',
                    f'{row["fresh seconds"]:.1f} ({row["fresh epochs"]})',
                    f'{row["ratio"]:.2f}',
                )
                if 'fresh' in row
                else ('', '', '', '')
            ),
        ]
        for dataset, models in found.items()
        for name, parts in models.items()
        for row in parts
    ]
    about = ' '.join(__doc__.split('\n\n')[3].split())
    text = '\n'.join(
        [
            '# Fresh every day',
            '',
            machine_line(facts),
            '',
            f'Test Recall@20, seed {arguments.seed}, at most {arguments.epochs} epochs from '
            f'nothing. {about}',
            '',
            '![Recall@20 after every part, from nothing and fresh](freshness.svg)',
            '',
            markdown_table(header, rows),
        ]
    )
    write_report(
        arguments.output / 'freshness',
        {'machine': facts, 'seed': arguments.seed, 'figures': found},
        text,
    )
    draw(arguments.output / 'freshness.svg', found)


def draw(path: Path, found: dict[str, dict[str, list[dict[str, Any]]]]) -> None:
    r"""Draws both curves of every model, a row of panels per dataset."""
    columns = max(map(len, found.values()))
    with figure(path, len(found), columns, 3.2, 2.4) as axes:
        for line, (dataset, models) in zip(axes, found.items()):
            for axis in line[len(models) :]:
                axis.set_visible(False)
            for axis, (name, parts) in zip(line, models.items()):
                axis.plot(
                    [row['part'] for row in parts],
                    [row['from nothing'] for row in parts],
                    'o-',
                    label='from nothing',
                )
                fresh = [row for row in parts if 'fresh' in row]
                axis.plot(
                    [row['part'] for row in fresh],
                    [row['fresh'] for row in fresh],
                    's--',
                    label='fresh, a fifth of the time',
                )
                axis.set_title(f'{dataset}, {name}', fontsize=9)
                axis.set_xlabel('part', fontsize=8)
                axis.set_ylabel('Recall@20', fontsize=8)
                axis.set_ylim(bottom=0)
        axes[0, 0].legend(fontsize=7)


if __name__ == '__main__':
    sys.exit(main())
