r"""Repeats the published table of Mirror Gradient on a dataset in MMRec's layout, published figures
beside the measured ones.

.. code-block:: console

    # sports.inter, image_feat.npy, text_feat.npy
    python -m benchmarks.quality.published --root DIR --dataset sports
    python -m benchmarks.quality.published --root DIR --dataset elec --models VBPR BM3 \
        --alpha2 0.1 0.2 0.3

Every model of the published table that this package has (or ``--models``) trains plain and with
Mirror Gradient as the published runs did: Adam, seed 999, at most 1000 epochs, early stopping on
validation Recall@5. The test figures are Recall, Precision, MAP (divided by min(5, n)) and NDCG at
5 over all items of which only training items are masked, as in MMRec. Of several ``--alpha2`` the
one with the best validation Recall@5 is reported. Runs lie under ``--runs`` and are continued where
they stopped, finished ones are not repeated; ``results/published-DATASET.json`` and ``.md`` hold
the table.

What differs from the published runs: their further hyper-parameters were chosen by grid on the
*test* split, so published figures are optimistic; here they are this package's settings, unless
``--flags`` sets others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.flags import check_models, positive
from benchmarks.common.machine import machine, machine_line, thread_environment
from benchmarks.common.reports import RESULTS, markdown_table, write_report

METRICS = ('recall@5', 'precision@5', 'map@5', 'ndcg@5')
#: Figures of :data:`METRICS` without and with Mirror Gradient, from the README of the authors'
#: public code (Zhong et al., WWW 2024).
PUBLISHED: dict[str, dict[str, tuple[tuple[float, ...], tuple[float, ...]]]] = {
    'sports': {
        'VBPR': ((0.0353, 0.0079, 0.0189, 0.0235), (0.0375, 0.0084, 0.0203, 0.0251)),
        'MMGCN': ((0.0216, 0.0049, 0.0114, 0.0143), (0.0241, 0.0054, 0.0126, 0.0158)),
        'GRCN': ((0.0360, 0.0080, 0.0196, 0.0241), (0.0383, 0.0086, 0.0207, 0.0256)),
        'DualGNN': ((0.0374, 0.0084, 0.0206, 0.0253), (0.0387, 0.0086, 0.0212, 0.0261)),
        'SLMRec': ((0.0429, 0.0095, 0.0233, 0.0288), (0.0449, 0.0099, 0.0242, 0.0299)),
        'BM3': ((0.0353, 0.0078, 0.0194, 0.0238), (0.0386, 0.0086, 0.0210, 0.0259)),
        'FREEDOM': ((0.0446, 0.0098, 0.0232, 0.0291), (0.0466, 0.0102, 0.0242, 0.0303)),
        'DRAGON': ((0.0449, 0.0098, 0.0239, 0.0296), (0.0465, 0.0102, 0.0248, 0.0307)),
    },
    'elec': {
        'VBPR': ((0.0182, 0.0042, 0.0098, 0.0122), (0.0203, 0.0046, 0.0110, 0.0136)),
        'MMGCN': ((0.0140, 0.0033, 0.0075, 0.0094), (0.0157, 0.0036, 0.0084, 0.0106)),
        'GRCN': ((0.0226, 0.0051, 0.0126, 0.0155), (0.0250, 0.0057, 0.0139, 0.0171)),
        'DualGNN': ((0.0238, 0.0054, 0.0132, 0.0162), (0.0249, 0.0056, 0.0139, 0.0170)),
        'BM3': ((0.0280, 0.0062, 0.0157, 0.0192), (0.0285, 0.0063, 0.0159, 0.0195)),
        'FREEDOM': ((0.0252, 0.0056, 0.0139, 0.0171), (0.0260, 0.0058, 0.0144, 0.0176)),
    },
}
#: The published stopping rule ends a run after 21 validations without improvement.
FLAGS = [
    '--seed',
    '999',
    '--epochs',
    '1000',
    '--trainer.ks',
    '[5]',
    '--trainer.monitor',
    'recall@5',
    '--trainer.patience',
    '21',
    '--references',
    'false',
]


def train(folder: Path, flags: Sequence[str], threads: int) -> dict[str, Any]:
    r"""Trains into ``folder``, or goes on there, and evaluates the best epoch.

    Returns:
        ``validation`` and ``test`` figures of :data:`METRICS`, ``epoch`` and ``seconds``.

    Raises:
        ConfigError: If the run in ``folder`` has other settings.
    """
    environment = thread_environment(threads)
    started = (folder / 'config.yaml').exists()
    if started:
        check_settings(folder, flags)
    if not (folder / 'metrics.json').exists():
        start = ['--resume', str(folder)] if started else ['--output', str(folder)]
        subprocess.run(
            [sys.executable, '-m', 'genrec_pyg.train', *flags, *start],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
    evaluation = folder / 'evaluation-test.json'
    if not evaluation.exists():
        root = flags[flags.index('--root') + 1]
        # The published protocol masks training items alone at test; the epoch stays the one chosen
        # on validation.
        subprocess.run(
            [
                sys.executable,
                '-m',
                'genrec_pyg.evaluate',
                str(folder),
                '--root',
                root,
                '--ks',
                '5',
                '--protocol',
                'published',
            ],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
    metrics = json.loads((folder / 'metrics.json').read_text())
    test = json.loads(evaluation.read_text())
    return {
        'validation': {name: metrics['validation'][name] for name in METRICS},
        'test': {name: test[name] for name in METRICS},
        'epoch': metrics['epoch'],
        'seconds': metrics['seconds'],
    }


def check_settings(folder: Path, flags: Sequence[str]) -> None:
    r"""Refuses a run with other settings than ``flags``, places of files excepted."""
    from genrec_pyg.config import parse_train_arguments, read_yaml
    from genrec_pyg.exceptions import ConfigError

    asked, found = parse_train_arguments(flags).config.to_dict(), read_yaml(folder / 'config.yaml')
    for name in asked:
        if name not in ('root', 'output') and found.get(name) != asked[name]:
            raise ConfigError(
                f'--runs: {folder} holds a run with {name} {found.get(name)!r}, asked is '
                f'{asked[name]!r}; accepted is another folder'
            )


def best_alpha(runs: Mapping[str, Mapping[str, Any]]) -> str:
    r"""Coefficient of the run with the best validation Recall@5."""
    return max(runs, key=lambda alpha: runs[alpha]['validation']['recall@5'])


def comparison_table(
    runs: Mapping[str, Mapping[str, Any]], published: Mapping[str, Sequence[Sequence[float]]]
) -> str:
    r"""Markdown: measured figures, the published ones in brackets, and the relative gain of both.

    Args:
        runs: Model to its run ``'plain'`` and its runs ``'MG'`` by coefficient.
        published: Entries of :data:`PUBLISHED` of the dataset.
    """
    rows = []
    for model, found in runs.items():
        pair = [found['plain'], found['MG'][best_alpha(found['MG'])]]
        names = [model, f'{model} + MG ({best_alpha(found["MG"])})']
        reported = published.get(model)
        for number, (name, run) in enumerate(zip(names, pair)):
            known = (
                ['-'] * len(METRICS)
                if reported is None
                else [f'{value:.4f}' for value in reported[number]]
            )
            rows.append(
                [
                    name,
                    *(
                        f'{run["test"][metric]:.4f} ({value})'
                        for metric, value in zip(METRICS, known)
                    ),
                    run['epoch'] + 1,
                ]
            )
        gains = (
            ['-'] * len(METRICS)
            if reported is None
            else [gain(*values) for values in zip(*reported)]
        )
        rows.append(
            [
                'gain',
                *(
                    f'{gain(*(run["test"][metric] for run in pair))} ({value})'
                    for metric, value in zip(METRICS, gains)
                ),
                '',
            ]
        )
    return markdown_table(
        ['model', 'Recall@5', 'Precision@5', 'MAP@5', 'NDCG@5', 'best epoch'], rows
    )


def gain(plain: float, mirrored: float) -> str:
    r"""Relative gain in percent."""
    return f'{100 * (mirrored / plain - 1):+.1f} %' if plain > 0 else '-'


def report(stem: Path, document: dict[str, Any], dataset: str, threads: int) -> str:
    r"""Writes JSON and Markdown of the models that are complete; returns the table."""
    document['machine'] = machine(threads)
    table = comparison_table(document['runs'], PUBLISHED.get(document['published'], {}))
    text = (
        f'# Mirror Gradient on {dataset}, measured (published)\n\nTest figures at the epoch of '
        f'the best validation Recall@5, training items masked; in brackets the published ones, '
        f'whose hyper-parameters were chosen on the test split. After MG its coefficient, chosen '
        f'on validation.\n\n{table}\n\n{machine_line(document["machine"])}\n'
    )
    write_report(stem, document, text)
    return table


def choose_models(
    names: Sequence[str] | None, published: Mapping[str, Any], parser: argparse.ArgumentParser
) -> list[str]:
    r"""The models asked for, else those of the published table that are registered."""
    from genrec_pyg.nn.models import MODELS

    if names is None:
        names = [name for name in published if name in MODELS]
        if not names:
            parser.error(
                f'--models: none of the published models '
                f'({", ".join(published) or "none for this dataset"}) is registered, accepted are '
                f'{", ".join(MODELS)}'
            )
    check_models(names, parser)
    return list(names)


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Trains what is missing and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--root', default='data')
    parser.add_argument('--dataset', default='sports', help="folder in MMRec's layout under --root")
    parser.add_argument(
        '--published',
        choices=list(PUBLISHED),
        help='published dataset to compare with (default: --dataset)',
    )
    parser.add_argument('--modalities', nargs='+', help='NAME or NAME=FILE; all by default')
    parser.add_argument(
        '--models', nargs='+', metavar='MODEL', help='those of the published table by default'
    )
    parser.add_argument(
        '--alpha2',
        nargs='+',
        default=['0.2'],
        metavar='ALPHA2',
        help='coefficients of Mirror Gradient',
    )
    parser.add_argument('--threads', type=positive, default=1)
    parser.add_argument(
        '--runs', type=Path, default=Path('runs') / 'published', help='folder of the runs'
    )
    parser.add_argument('--output', type=Path, default=RESULTS)
    parser.add_argument(
        '--flags',
        nargs=argparse.REMAINDER,
        default=[],
        help='further flags of genrec_pyg.train, last',
    )
    args = parser.parse_args(arguments)
    from genrec_pyg.datasets import MMRecDataset
    from genrec_pyg.exceptions import ConfigError

    if not MMRecDataset.recognizes(Path(args.root) / args.dataset):
        parser.error(
            f'--dataset: {Path(args.root) / args.dataset} holds no {MMRecDataset.pattern}; '
            f'accepted is a folder in '
            "MMRec's layout, since other splits may not be compared with the published figures"
        )
    name = args.published or args.dataset
    models = choose_models(args.models, PUBLISHED.get(name, {}), parser)
    common = [
        '--dataset',
        args.dataset,
        '--root',
        args.root,
        *(['--modalities', *args.modalities] if args.modalities else []),
        *FLAGS,
        *args.flags,
    ]
    document: dict[str, Any] = {'published': name, 'flags': [*FLAGS, *args.flags], 'runs': {}}
    stem = args.output / f'published-{args.dataset}'
    table = ''
    for model in models:
        flags, folder = ['--model', model, *common], args.runs / args.dataset / model
        mirrored = {
            alpha: [*flags, '--mirror_gradient', '--trainer.mg_alpha2', alpha]
            for alpha in args.alpha2
        }
        try:
            document['runs'][model] = {
                'plain': train(folder / 'plain', flags, args.threads),
                'MG': {
                    alpha: train(folder / f'mg-{alpha}', mirrored[alpha], args.threads)
                    for alpha in args.alpha2
                },
            }
        except ConfigError as error:
            parser.error(str(error))
        table = report(stem, document, args.dataset, args.threads)
    sys.stdout.write(f'{table}\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
