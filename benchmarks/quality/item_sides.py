r"""ID or modality? Equal backbone, loss, sampler, protocol and seeds; only where the rows of items
come from differs.

``python -m benchmarks.quality.item_sides --root DIR --dataset amazon-beauty`` trains what its
report ``results/item-sides-NAME`` lacks, one seed of all settings before the next, and writes the
report after every run, so that it goes on where it was stopped. The question is that of Yuan et al.
(SIGIR 2023, https://arxiv.org/abs/2303.13835); titles and plots go through MiniLM, posters through
EfficientNet-Lite0. Epochs are chosen on validation NDCG@10.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.flags import positive
from benchmarks.common.machine import machine, machine_line, thread_environment
from benchmarks.common.reports import RESULTS, markdown_table, write_report
from benchmarks.quality.item_sides_data import DATASETS, IMAGE_ENCODER, MAX_LENGTH, TEXT_ENCODER
from benchmarks.quality.item_sides_run import GROUPS

#: Encoded side of a content, without what ``--unfreeze`` adds.
ENCODERS = {
    'title': {
        'encoder': TEXT_ENCODER,
        'content': 'title',
        'max_length': MAX_LENGTH,
        'recompute': True,
    },
    'image': {'encoder': IMAGE_ENCODER, 'content': 'image', 'chunk_size': 64, 'recompute': True},
}
#: Item sides; those with ``frozen`` read features, those with ``encoder`` raw content.
SIDES: dict[str, dict[str, Any]] = {
    'id': {},
    'frozen': {'kind': 'frozen'},
    'frozen, 2 layers': {'kind': 'frozen', 'projection_layers': 2},
    'id + frozen': {'kind': 'id+frozen'},
    'end to end': {'kind': 'encoder'},
    'id + end to end': {'kind': 'id+encoder'},
}
#: Models, their settings and those of the trainer.
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    'SASRec': ({'loss': 'inbatch', 'dropout': 0.2}, {'batch_size': 512, 'sampler': 'user'}),
    'DSSM': ({}, {'batch_size': 4096}),
    'LightGCN': ({'num_layers': 2}, {'batch_size': 4096}),
    'GenRec': ({}, {'batch_size': 4096}),
}
#: GenRec reads features or not; the graph of LightGCN needs all items in every step, which an
#: encoder makes slow.
SIDES_OF = {'LightGCN': ('id', 'frozen', 'id + frozen'), 'GenRec': ('id', 'id + frozen')}
REFERENCES = ('Popularity', 'ItemKNN', 'ItemKNNCBF')


def jobs(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    r"""Name of every setting to what :func:`~benchmarks.quality.item_sides_run.measure` takes,
    without the seed.
    """
    found: dict[str, dict[str, Any]] = {}
    common = {
        'dataset': arguments.dataset,
        'root': str(arguments.root),
        'users': arguments.users,
        'cache': None if arguments.cache is None else str(arguments.cache.resolve()),
    }
    contents = [content for content in DATASETS[arguments.dataset] if content in arguments.contents]
    for model in REFERENCES:
        if model != 'ItemKNNCBF':
            found[model] = {**common, 'model': model, 'content': None, 'hparams': {}, 'trainer': {}}
        else:
            found.update(
                {
                    f'{model}, {content}': {
                        **common,
                        'model': model,
                        'content': content,
                        'hparams': {},
                        'trainer': {},
                    }
                    for content in contents
                }
            )
    for model, (hparams, settings) in MODELS.items():
        trainer = {
            'epochs': arguments.epochs,
            'patience': arguments.patience,
            'lr': arguments.lr,
            **settings,
            'max_seconds': arguments.max_seconds,
        }
        for side in SIDES_OF.get(model, SIDES):
            for content in contents if side != 'id' else [None]:
                name = f'{model}, {side}' if content is None else f'{model}, {side}, {content}'
                found[name] = {
                    **common,
                    'model': model,
                    **_setting(model, side, content, hparams, trainer, arguments),
                }
    return {
        name: job
        for name, job in found.items()
        if any(f'{name},'.startswith(f'{part},') for part in arguments.settings)
        or not arguments.settings
    }


def _setting(
    model: str,
    side: str,
    content: str | None,
    hparams: dict[str, Any],
    trainer: dict[str, Any],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    item_side = dict(SIDES[side])
    encodes = item_side.get('kind', '').endswith('encoder')
    if encodes:
        item_side.update(ENCODERS[content], unfreeze=arguments.unfreeze)
        if content == 'title' and arguments.unfreeze != 'all':
            item_side['keep_frozen'] = True
        trainer = {
            **trainer,
            'encoder_lr': arguments.encoder_lr,
            'epochs': arguments.encoder_epochs,
        }
    if model != 'GenRec':  # which reads the modalities that it is given
        hparams = {**hparams, 'item_side': item_side}
    return {'content': None if encodes else content, 'hparams': hparams, 'trainer': trainer}


def run(job: Mapping[str, Any], seed: int) -> dict[str, Any]:
    r"""Measures in a process of its own."""
    command = [
        sys.executable,
        '-m',
        'benchmarks.quality.item_sides_run',
        json.dumps({**job, 'seed': seed}),
    ]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=thread_environment(1)
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def quality_table(runs: Mapping[str, Mapping[str, dict]]) -> str:
    r"""Markdown: NDCG@10 per group of targets, mean and standard deviation over the seeds."""
    rows = []
    for name, seeds in runs.items():
        results = list(seeds.values())
        rows.append(
            [
                name,
                len(results),
                _spread([r['groups']['all']['hit'] for r in results]),
                *(_spread([r['groups'][group]['ndcg'] for r in results]) for group in GROUPS),
            ]
        )
    return markdown_table(
        ['setting', 'seeds', 'HR@10, all', *(f'NDCG@10, {group}' for group in GROUPS)], rows
    )


def cost_table(runs: Mapping[str, Mapping[str, dict]]) -> str:
    r"""Markdown: what a training costs."""
    rows = []
    for name, seeds in runs.items():
        results = [result for result in seeds.values() if result['epochs']]
        if results:

            def mean(key: str, results: Sequence[dict] = results) -> float:
                return statistics.mean(result[key] for result in results)

            stopped = ', '.join(sorted({result['stopped'] for result in results}))
            stopped += ', collapsed' if any(result.get('collapsed') for result in results) else ''
            rows.append(
                [
                    name,
                    f'{mean("parameters") / 1e6:.2f}',
                    f'{mean("epochs"):.0f}',
                    stopped,
                    f'{mean("epoch_seconds"):.1f}',
                    f'{mean("seconds"):.0f}',
                    f'{mean("encoded_per_epoch"):.0f}',
                    f'{mean("encoded_per_second"):.0f}',
                    f'{mean("memory") / 2**30:.2f}',
                ]
            )
    return markdown_table(
        [
            'setting',
            'trained parameters, million',
            'epochs',
            'ended by',
            'seconds per epoch',
            'seconds',
            'items encoded per epoch',
            'per second',
            'peak memory, GiB',
        ],
        rows,
    )


def verdict(runs: Mapping[str, Mapping[str, dict]]) -> str:
    r"""The answer in one paragraph: the best setting of every group of targets, and content against
    ids per model.
    """
    means = {
        name: {
            group: statistics.mean(r['groups'][group]['ndcg'] for r in seeds.values())
            for group in GROUPS
        }
        for name, seeds in runs.items()
    }
    parts = []
    for group in GROUPS:
        best = max(means, key=lambda name: means[name][group])
        parts.append(f'{group}: {best} ({means[best][group]:.4f})')
    gaps = []
    for model in MODELS:
        own = {
            name: values
            for name, values in means.items()
            if name.startswith(f'{model}, ') and name != f'{model}, id'
        }
        if own and f'{model}, id' in means:
            best = max(own, key=lambda name: own[name]['all'])
            by_id, side = means[f'{model}, id']['all'], best.partition(', ')[2]
            gaps.append(f'{model} {by_id:.4f} by id, {own[best]["all"]:.4f} as {side}')
    return (
        f'Highest NDCG@10 of the settings measured, by training interactions of the target: '
        f'{"; ".join(parts)}. Of all targets, {"; ".join(gaps) or "no model has both sides yet"}.'
    )


def _spread(values: Sequence[float]) -> str:
    deviation = f' ± {statistics.stdev(values):.4f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.4f}{deviation}'


def report(stem: Path, document: dict[str, Any], arguments: argparse.Namespace) -> None:
    r"""Writes JSON and Markdown."""
    runs = {name: seeds for name, seeds in document['runs'].items() if seeds}
    document['machine'] = machine(1)
    sizes = next((next(iter(seeds.values()))['sizes'] for seeds in runs.values()), {})
    targets = {
        group: next(iter(next(iter(runs.values())).values()))['groups'][group]['targets']
        for group in GROUPS
    }
    write_report(
        stem,
        document,
        f"""# ID against modality on {arguments.dataset}

{verdict(runs)}

{quality_table(runs)}

{sizes['users']} users, {sizes['items']} items, {
            sizes['training']
        } training interactions; the last item of a user is the test
target, the last but one is for validation, all items are ranked. Training interactions with 5 % of
the items were taken away
first, so that targets can be new. Targets: {
            ', '.join(f'{group} {count}' for group, count in targets.items())
        }. Mean and
standard deviation over seeds. Learned rows of items without interactions are random.

What training costs, with one thread{
            ''
            if arguments.unfreeze == 'all'
            else f'; of an encoder the last {arguments.unfreeze} '
            'blocks are trained, and of MiniLM the outputs of the others are computed once'
        }:

{cost_table(runs)}

Limits: {arguments.epochs} epochs ({arguments.encoder_epochs} with an encoder), patience {
            arguments.patience
        },
{arguments.max_seconds or 'no'} seconds. Seconds depend on what else the machine did.

{machine_line(document['machine'])}
""",
    )


def main(argv: Sequence[str] | None = None) -> None:
    r"""Runs what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--root', type=Path, required=True)
    parser.add_argument('--dataset', choices=list(DATASETS), required=True)
    parser.add_argument('--contents', nargs='+', default=['title', 'image'])
    parser.add_argument(
        '--users', type=int, default=0, help='number of users, drawn at random; all by default'
    )
    parser.add_argument(
        '--settings',
        nargs='*',
        default=[],
        metavar='NAME',
        help="settings, or first parts of their names such as 'SASRec, frozen'; all by default",
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--epochs', type=positive, default=60)
    parser.add_argument('--encoder_epochs', type=positive, default=20)
    parser.add_argument('--patience', type=positive, default=6)
    parser.add_argument('--lr', type=float, default=1e-3)
    parser.add_argument('--encoder_lr', type=float, default=5e-5)
    parser.add_argument(
        '--unfreeze', type=lambda text: int(text) if text.isdigit() else text, default='all'
    )
    parser.add_argument(
        '--cache', type=Path, help='folder in which features are kept from run to run'
    )
    parser.add_argument('--max_seconds', type=float)
    parser.add_argument('--name', help='name of the report, the dataset by default')
    parser.add_argument('--output', type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)
    stem = arguments.output / f'item-sides-{arguments.name or arguments.dataset}'
    source = stem.with_name(stem.name + '.json')
    document = json.loads(source.read_text()) if source.exists() else {'runs': {}}
    for seed in arguments.seeds:
        for name, job in jobs(arguments).items():
            done = document['runs'].setdefault(name, {})
            # fitted models have no seed
            if str(seed) not in done and not (seed != arguments.seeds[0] and not job['trainer']):
                done[str(seed)] = run(job, seed)
                document.setdefault('jobs', {})[name] = {
                    key: value for key, value in job.items() if key not in ('root', 'cache')
                }
                report(stem, document, arguments)


if __name__ == '__main__':
    main()
