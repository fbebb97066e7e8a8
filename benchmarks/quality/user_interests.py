r"""Do several interests per user help GenRec? One embedding per user beside four interests by
clusters, under each selection (BaM: Lee, Yun and Kang, IEEE BigData 2024,
https://github.com/snudatalab/BaM), everything else as shipped.

``python -m benchmarks.quality.user_interests --root DIR --datasets tiktok lfm2k --seeds 0 1 2``
trains what the file ``--state`` lacks, one seed of everything before the next, and writes the
report ``results/user-interests`` after every run.
"""

from __future__ import annotations

import argparse
import functools
import json
import operator
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch_geometric.data import HeteroData

from benchmarks.common.flags import positive
from benchmarks.common.machine import machine, machine_line, prepare
from benchmarks.common.reports import RESULTS, markdown_table, write_report
from benchmarks.quality.interest_use import evenness
from benchmarks.quality.transfer import without_users
from benchmarks.quality.transfer_data import DATASETS
from genrec_pyg.utils.files import write_json

#: Setting to the group ``user_interests`` of GenRec, beside the number of interests.
SETTINGS: dict[str, dict[str, Any]] = {
    'one interest': {'count': 1},
    'p': {'selection': 'p'},
    'uniform': {'selection': 'uniform'},
    'hard': {'selection': 'hard', 'multi_loss': False},
}
BASE = 'one interest'


def measure(data: HeteroData, group: dict[str, Any], seed: int) -> dict[str, Any]:
    r"""Trains GenRec once; figures of Recall@20, of every test user too, and of the use of the
    interests in the lists of 20.
    """
    from genrec_pyg.config import resolve_config
    from genrec_pyg.evaluation import Evaluator
    from genrec_pyg.nn.models import get_model
    from genrec_pyg.training import Trainer, seed_everything

    config = resolve_config('GenRec', 'unknown', {'seed': seed})
    seed_everything(seed)
    begin = time.process_time()
    model = get_model('GenRec')(data, **{**config.hparams, 'user_interests': group})
    trainer = Trainer(
        epochs=config.epochs, seed=seed, device='cpu', progress=False, **config.trainer
    )
    result = trainer.fit(model, data)
    seconds = time.process_time() - begin
    users, recall = Evaluator(data, 'test', (20,)).user_recall(model, 20)
    found = {
        'validation': result.validation['recall@20'],
        'test': result.test['recall@20'],
        'graph': {split: result.parts['graph'][split]['recall@20'] for split in _SPLITS},
        'interest_weight': model.interest_weight,
        'epoch': result.epoch,
        'processor_seconds': seconds,
        'user_recall': np.round(recall, 6).tolist(),
    }
    if model.user_interests is not None:
        found['gain'] = float(model.user_interests.gain.detach())
        found['use'] = use_of_interests(model, users)
    return found


_SPLITS = ('validation', 'test')


def use_of_interests(model: Any, users: Any) -> dict[str, float]:
    r"""Which interest puts an item among the 20 best of the graph encoder, over users: evenness of
    the counts, and the interests that a user has in the mean.
    """
    import torch

    weight, model.interest_weight = model.interest_weight, 0.0
    count = torch.zeros(model.user_interests.count, dtype=torch.long)
    with model.cached_embeddings():
        embeddings, items = model.embeddings()
        for block in torch.as_tensor(users).split(256):
            scores = embeddings[block] @ items.t()
            best, which = scores.max(dim=1)
            chosen = which.gather(1, best.topk(min(20, best.size(1)), dim=1).indices)
            count += torch.bincount(chosen.flatten(), minlength=count.numel())
    model.interest_weight = weight
    there = (model.user_interests.num_members > 0).sum(dim=1).double()
    return {**evenness(count), 'per_user': float(there.mean())}


def mean(runs: Sequence[dict[str, Any]], *keys: str) -> float:
    r"""Mean over runs of the figure under ``keys``."""
    return statistics.mean(functools.reduce(operator.getitem, keys, run) for run in runs)


def report(document: dict[str, Any], interests: int) -> str:
    r"""The report in Markdown."""
    from genrec_pyg.evaluation import holm, paired_comparison

    text = [
        '# Several interests per user in GenRec',
        '',
        f'{interests} interests by spectral clusters of the fused features, everything else as '
        'shipped; `p` and `uniform` with the multi-interest loss, `hard` without it, as ComiRec '
        'trains. Recall@20, mean and standard deviation over the seeds; epoch, schedule and '
        'weights chosen on validation. *Graph* is the graph encoder alone, *gain* the learned '
        'weight of the items of a cluster in an interest, *balance* the entropy of how often each '
        'interest gives an item of the list, 1 where all do alike. `p` is of the paired test per '
        f'user against {BASE}, after Holm.',
        '',
    ]
    for dataset, settings in document['runs'].items():
        users = {
            name: np.mean([run['user_recall'] for run in runs.values()], axis=0)
            for name, runs in settings.items()
        }
        p = holm(
            {
                name: paired_comparison(values, users[BASE]).p
                for name, values in users.items()
                if name != BASE
            }
        )
        rows = []
        for name, runs in settings.items():
            entries = list(runs.values())
            test = [run['test'] for run in entries]
            spread = f' ± {statistics.stdev(test):.4f}' if len(test) > 1 else ''

            rows.append(
                [
                    name,
                    len(entries),
                    f'{mean(entries, "validation"):.4f}',
                    f'{statistics.mean(test):.4f}{spread}',
                    f'{mean(entries, "graph", "test"):.4f}',
                    f'{p[name]:.3g}' if name in p else '',
                    f'{mean(entries, "gain"):.2f}' if 'gain' in entries[0] else '',
                    f'{mean(entries, "use", "balance"):.2f}' if 'use' in entries[0] else '',
                    f'{mean(entries, "processor_seconds"):.0f}',
                ]
            )
        header = ['setting', 'seeds', 'validation', 'test', 'graph, test', 'p', 'gain', 'balance']
        text += [f'## {dataset}', '', markdown_table([*header, 'processor s'], rows), '']
    return '\n'.join([*text, machine_line(document['machine']), ''])


def main(argv: Sequence[str] | None = None) -> None:
    r"""Runs what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--root', type=Path, required=True, help='folder of the datasets')
    parser.add_argument(
        '--datasets', nargs='+', default=['tiktok', 'lfm2k'], choices=list(DATASETS)
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--interests', type=positive, default=4, help='interests per user')
    parser.add_argument('--output', type=Path, default=RESULTS / 'user-interests')
    parser.add_argument(
        '--state',
        type=Path,
        default=Path('runs') / 'user-interests.json',
        help='file of finished runs',
    )
    args = parser.parse_args(argv)
    prepare(1)
    document = json.loads(args.state.read_text()) if args.state.exists() else {'runs': {}}
    for seed in args.seeds:
        for dataset in args.datasets:
            data = DATASETS[dataset](args.root)
            for name, group in SETTINGS.items():
                done = document['runs'].setdefault(dataset, {}).setdefault(name, {})
                if str(seed) not in done:
                    done[str(seed)] = measure(data, {'count': args.interests, **group}, seed)
                    document['machine'] = machine(1)
                    args.state.parent.mkdir(parents=True, exist_ok=True)
                    write_json(args.state, document)
                    text = report(document, args.interests)
                    write_report(args.output, without_users(document), text)


if __name__ == '__main__':
    main()
