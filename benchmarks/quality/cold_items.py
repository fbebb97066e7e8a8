r"""How often items are found that nobody has touched: one table of models.

.. code-block:: console

    python -m benchmarks.quality.cold_items --root DIR --dataset tiktok \
        --models VBPR CLCRec FREEDOM GenRec

A tenth of the items loses all interactions and is the test, another tenth is validation
(:class:`~genrec_pyg.transforms.ColdItemSplit`). Every user with a test item gets a list of 20 of
the test items: drawn at random it has 20 divided by their number of the wanted ones. ``own`` ranks
by the scores of the model, to which the test items were nodes with features and without
interactions; ``by features`` by the rows that the map of ``recommend --item_features`` gives them,
as if they had come after the training.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

from benchmarks.common.machine import machine_line
from benchmarks.common.machine import prepare as prepare_machine
from benchmarks.common.reports import RESULTS, markdown_table, write_report

K = 20
#: Models whose scores follow from features alone, or in which features have a part.
MODELS = (
    'ItemKNNCBF',
    'AddEASE',
    'VBPR',
    'CLCRec',
    'LightGCN',
    'LGCNM',
    'BM3',
    'FREEDOM',
    'MGCN',
    'DiffMM',
    'GenRec',
)


def recall(scores: torch.Tensor, wanted: torch.Tensor) -> float:
    r"""Mean Recall@K from scores ``[B, n]`` of the test items and whether they are wanted
    ``[B, n]``.
    """
    top = scores.topk(min(K, scores.size(1)), dim=1).indices
    return float((wanted.gather(1, top).sum(dim=1) / wanted.sum(dim=1)).mean())


def measure(
    name: str, data: HeteroData, dataset: str, epochs: int | None, seed: int
) -> dict[str, Any]:
    r"""Recall of the test items by the scores of the model and by its map from features."""
    from genrec_pyg.config import parse_train_arguments
    from genrec_pyg.exceptions import ConfigError
    from genrec_pyg.graph import split_edges
    from genrec_pyg.nn.models import get_model
    from genrec_pyg.retrieval.new_item_lists import new_item_search
    from genrec_pyg.training import Trainer

    flags = ['--model', name, '--dataset', dataset, *(['--epochs', str(epochs)] if epochs else [])]
    config = parse_train_arguments(flags).config
    begin = time.perf_counter()
    model = get_model(name)(data, **config.hparams)
    settings = {
        **config.trainer,
        'epochs': config.epochs,
        'seed': seed,
        'progress': False,
        'device': 'cpu',
    }
    result = Trainer(**settings).fit(model, data)
    seconds = time.perf_counter() - begin
    test, cold = split_edges(data, 'test'), split_edges(data, 'test')[1].unique()
    user, row = test[0].unique(return_inverse=True)
    wanted = torch.zeros(user.numel(), cold.numel(), dtype=torch.bool)
    wanted[row, torch.searchsorted(cold, test[1])] = True
    active = torch.isin(user, split_edges(data, 'train')[0])
    user, wanted = user[active], wanted[active]
    found: dict[str, Any] = {
        'users': user.numel(),
        'items': cold.numel(),
        'random': K / cold.numel(),
        'seconds': seconds,
        'epoch': result.epoch,
        'epochs': len(result.history),
    }
    with torch.no_grad(), model.cached_embeddings():
        found['own'] = recall(
            torch.cat([model.score(block)[:, cold] for block in user.split(512)]), wanted
        )
        try:
            features = {
                modality: block.item_features()[cold]
                for modality, block in model.graph.modalities.items()
            }
            search = new_item_search(model, features)
        except ConfigError as error:
            found['by features'], found['cannot'] = None, str(error)
            return found
        item = torch.cat([search(block, K, None)[1] for block in user.split(512)])
        scores = torch.zeros(wanted.shape).scatter_(1, item, 1.0)
        found['by features'] = recall(scores, wanted)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    from genrec_pyg.datasets import load_dataset
    from genrec_pyg.transforms import ColdItemSplit

    parser = argparse.ArgumentParser(
        prog='python -m benchmarks.quality.cold_items', description=__doc__.partition('\n')[0]
    )
    parser.add_argument('--root', type=Path, required=True, help='folder of the datasets')
    parser.add_argument('--dataset', default='tiktok', help='dataset with modalities')
    parser.add_argument('--models', nargs='+', default=list(MODELS), help='models')
    parser.add_argument(
        '--epochs', type=int, help='largest number of epochs (default: that of the model)'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the split and of the training')
    parser.add_argument('--output', type=Path, default=RESULTS, help='folder of the report')
    parser.add_argument('--name', default='cold-items', help='name of the report')
    arguments = parser.parse_args(argv)
    facts = prepare_machine(1)
    found: dict[str, dict[str, Any]] = {}
    for name in arguments.models:
        data = ColdItemSplit(0.1, 0.1, seed=arguments.seed)(
            load_dataset(arguments.dataset, arguments.root)
        )
        found[name] = measure(name, data, arguments.dataset, arguments.epochs, arguments.seed)
        print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
        report(arguments, facts, found)  # what is there counts if the next does not end
    return 0


def report(
    arguments: argparse.Namespace, facts: dict[str, Any], found: dict[str, dict[str, Any]]
) -> None:
    r"""Writes the report of the models that are measured."""

    def cell(row: dict[str, Any], key: str) -> str:
        return '-' if row[key] is None else f'{row[key]:.4f} ({row[key] / row["random"]:.1f}x)'

    rows = [
        [
            name,
            cell(row, 'own'),
            cell(row, 'by features'),
            f'{row["epoch"]} of {row["epochs"]}',
            f'{row["seconds"]:.0f}',
        ]
        for name, row in found.items()
    ]
    first = next(iter(found.values()))
    most = f'at most {arguments.epochs}' if arguments.epochs else "each model's own number of"
    about = ' '.join(__doc__.split('\n\n')[3].split())
    text = '\n'.join(
        [
            f'# Cold items of {arguments.dataset}',
            '',
            machine_line(facts),
            '',
            f'Seed {arguments.seed}, {first["users"]} users, {first["items"]} items, at random '
            f'{first["random"]:.4f}; {most} '
            f'epochs, the best on validation is measured. {about}',
            '',
            markdown_table(
                ['model', 'own (times random)', 'by features', 'epoch chosen', 'seconds'], rows
            ),
        ]
    )
    write_report(
        arguments.output / arguments.name,
        {'machine': facts, 'seed': arguments.seed, 'figures': found},
        text,
    )


if __name__ == '__main__':
    sys.exit(main())
