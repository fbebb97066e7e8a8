r"""Users taken out of the training and folded in from their items, beside a model that was trained
with them.

.. code-block:: console

    python -m benchmarks.quality.fold_in --root DIR --datasets lfm2k tiktok \
        --models EASE ItemKNN LightGCN GenRec

A tenth of the users that have a test interaction loses all training interactions; the model is
trained without these and serves them from the lists that they had (``recommend --history``). Beside
it stands the model with the same settings and seed that was trained with their interactions too.
Test Recall@20 of these users, and the seconds in which lists for 1,000 of them are made, the fit of
the linear map included.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common.machine import machine_line
from benchmarks.common.machine import prepare as prepare_machine
from benchmarks.common.reports import RESULTS, markdown_table, write_report

K = 20
#: Features of a dataset whose files are not named after modalities.
MODALITIES = {'lfm2k': ['text=all-MiniLM-L6-v2', 'audio=vggish']}


def recall(item: Tensor, user: Tensor, test: Tensor) -> float:
    r"""Mean Recall@K of lists ``[B, K]`` of the users ``[B]`` against test pairs ``[2, n]``."""
    found = []
    for number, one in enumerate(user.tolist()):
        wanted = test[1, test[0] == one]
        found.append(float(torch.isin(wanted, item[number]).sum()) / wanted.numel())
    return sum(found) / len(found)


def measure(name: str, dataset: str, root: Path, epochs: int | None, seed: int) -> dict[str, Any]:
    r"""Recall of users that were in the training and of the same users folded in, and seconds for
    1,000 of them.
    """
    from genrec_pyg.config import parse_train_arguments
    from genrec_pyg.datasets import load_dataset
    from genrec_pyg.graph import INTERACTS, split_edges
    from genrec_pyg.nn.models import get_model
    from genrec_pyg.ops import Adjacency
    from genrec_pyg.retrieval import make_search, retrieve
    from genrec_pyg.retrieval.fold_in import history_search
    from genrec_pyg.training import Trainer

    flags = ['--model', name, '--dataset', dataset, *(['--epochs', str(epochs)] if epochs else [])]
    config = parse_train_arguments(flags).config
    whole = load_dataset(dataset, root, MODALITIES.get(dataset))
    train, val, test = (split_edges(whole, split) for split in ('train', 'val', 'test'))
    able = test[0].unique()
    able = able[torch.isin(able, train[0])]
    out = (
        able[
            torch.randperm(able.numel(), generator=torch.Generator().manual_seed(seed))[
                : able.numel() // 10
            ]
        ]
        .sort()
        .values
    )
    without = copy.deepcopy(whole)
    store = without[INTERACTS]
    for split in ('train', 'val'):
        store[f'{split}_mask'] &= ~torch.isin(store.edge_index[0], out)

    def fit(data: Any) -> Any:
        model = get_model(name)(data, **config.hparams)
        settings = {
            **config.trainer,
            'epochs': config.epochs,
            'seed': seed,
            'progress': False,
            'device': 'cpu',
        }
        Trainer(**settings).fit(model, data)
        return model

    size = (int(whole['user'].num_nodes), int(whole['item'].num_nodes))
    with torch.no_grad():
        known = Adjacency.from_edge_index(torch.cat([train, val], dim=1), size=size)
        model = fit(whole)
        with model.cached_embeddings():
            lists = torch.cat([item for _, _, item in retrieve(make_search(model), out, K, known)])
        trained = recall(lists, out, test)
        model = fit(without)
        mine = torch.isin(train[0], out)
        rows = torch.stack([torch.searchsorted(out, train[0, mine]), train[1, mine]])
        histories = Adjacency.from_edge_index(rows, size=(out.numel(), size[1]))
        hidden = Adjacency(*known.select_rows(out), None, histories.size)
        with model.cached_embeddings():
            search = history_search(model, histories)
            lists = torch.cat(
                [item for _, _, item in retrieve(search, torch.arange(out.numel()), K, hidden)]
            )
            folded = recall(lists, out, test)
            many = torch.arange(1000) % out.numel()
            thousand = Adjacency(*histories.select_rows(many), None, (1000, size[1]))
            seconds = []
            for _ in range(5):
                begin = time.perf_counter()
                list(retrieve(history_search(model, thousand), torch.arange(1000), K, thousand))
                seconds.append(time.perf_counter() - begin)
    return {
        'users': out.numel(),
        'trained': trained,
        'folded': folded,
        'kept': folded / trained if trained else float('nan'),
        'seconds': sorted(seconds)[2],
    }


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.quality.fold_in', description=__doc__.partition('\n')[0]
    )
    parser.add_argument('--root', type=Path, required=True, help='folder of the datasets')
    parser.add_argument(
        '--datasets', nargs='+', default=['lfm2k', 'tiktok'], help='datasets with a split'
    )
    parser.add_argument(
        '--models', nargs='+', default=['EASE', 'ItemKNN', 'LightGCN', 'GenRec'], help='models'
    )
    parser.add_argument(
        '--epochs', type=int, help='largest number of epochs (default: that of the model)'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed')
    parser.add_argument('--output', type=Path, default=RESULTS, help='folder of the report')
    parser.add_argument('--name', default='fold-in', help='name of the report')
    arguments = parser.parse_args(argv)
    facts = prepare_machine(1)
    found: dict[str, dict[str, Any]] = {}
    for dataset in arguments.datasets:
        for name in arguments.models:
            found.setdefault(dataset, {})[name] = measure(
                name, dataset, arguments.root, arguments.epochs, arguments.seed
            )
            print(dataset, name, json.dumps(found[dataset][name]), file=sys.stderr, flush=True)
            report(arguments, facts, found)  # what is there counts if the next does not end
    return 0


def report(
    arguments: argparse.Namespace,
    facts: dict[str, Any],
    found: dict[str, dict[str, dict[str, Any]]],
) -> None:
    r"""Writes the report of what is measured."""
    rows = [
        [
            f'{dataset}, {name}',
            row['users'],
            f'{row["trained"]:.4f}',
            f'{row["folded"]:.4f}',
            f'{row["kept"]:.2f}',
            f'{row["seconds"]:.3f}',
        ]
        for dataset, models in found.items()
        for name, row in models.items()
    ]
    header = [
        'dataset, model',
        'users',
        'trained with them',
        'folded in',
        'kept',
        'seconds for 1,000 users',
    ]
    most = f'at most {arguments.epochs}' if arguments.epochs else "each model's own number of"
    about = ' '.join(__doc__.split('\n\n')[3].split())
    text = '\n'.join(
        [
            '# Users folded in',
            '',
            machine_line(facts),
            '',
            f'Seed {arguments.seed}; {most} epochs. {about}',
            '',
            markdown_table(header, rows),
        ]
    )
    write_report(
        arguments.output / arguments.name,
        {'machine': facts, 'seed': arguments.seed, 'figures': found},
        text,
    )


if __name__ == '__main__':
    sys.exit(main())
