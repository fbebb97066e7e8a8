r"""Flips against Gaussian noise in DiffMM: the process differs and nothing else.

.. code-block:: console

    python -m benchmarks.quality.flip_against_noise --root DIR --dataset tiktok \
        --modalities image audio
trains every setting of :data:`SETTINGS` that ``--settings`` selects (all by default) with each seed
and writes ``results/flip-against-noise-NAME``, ``.json`` and ``.md``; ``--flags --epochs 20``
passes flags on. Every choice, also the epoch, is made on the validation split; the test split is
read once per run. A run that is already in the JSON file is not repeated, so the script resumes
where it stopped.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common.machine import machine, machine_line
from benchmarks.common.reports import markdown_table, write_report
from benchmarks.quality.study import run_study, table, train

#: Name to flags. Each pair of :data:`PAIRS` differs in the process alone.
SETTINGS: dict[str, list[str]] = {
    'Gaussian noise': ['--hparams.diffusion.process', 'gaussian'],
    'flips': ['--hparams.diffusion.process', 'flip'],
    'Gaussian noise, equal steps': [
        '--hparams.diffusion.process',
        'gaussian',
        '--hparams.diffusion.weighting',
        'equal',
    ],
    'flips, equal steps': [
        '--hparams.diffusion.process',
        'flip',
        '--hparams.diffusion.weighting',
        'equal',
    ],
    'Gaussian noise, diffused start': [
        '--hparams.diffusion.process',
        'gaussian',
        '--hparams.diffusion.start',
        'diffused',
        '--hparams.diffusion.sample_noise',
        'true',
    ],
    'flips, diffused start': [
        '--hparams.diffusion.process',
        'flip',
        '--hparams.diffusion.start',
        'diffused',
        '--hparams.diffusion.sample_noise',
        'true',
    ],
    'generated graphs unused': [
        '--hparams.generation.weight',
        '0',
        '--hparams.contrast_weight',
        '0',
    ],
}
#: What is compared, to flips and noise.
PAIRS = {
    'as published': ('flips', 'Gaussian noise'),
    'equal weight of all steps': ('flips, equal steps', 'Gaussian noise, equal steps'),
    'random chain from diffused rows': ('flips, diffused start', 'Gaussian noise, diffused start'),
}


def run(arguments: argparse.Namespace, flags: list[str], seed: int) -> dict[str, object]:
    r"""One training run of DiffMM."""
    return train(arguments, 'DiffMM', [*flags, *arguments.flags], seed)


def share_of_new_edges(result: dict) -> float | None:
    r"""Share of the generated edges at the chosen epoch that no user has yet, mean over
    modalities.
    """
    shares = [
        value for name, value in result['figures'].items() if name.endswith('share_new_edges')
    ]
    return statistics.mean(shares) if shares else None


def comparison(runs: dict[str, dict[str, dict]]) -> str:
    r"""Markdown: flips minus noise, seed by seed; mean, standard error and how often flips were
    better, and the shares of new edges. A pair without a common seed is left out.
    """
    rows = []
    for name, (flips, noise) in PAIRS.items():
        seeds = [seed for seed in runs.get(flips, {}) if seed in runs.get(noise, {})]
        if not seeds:
            continue
        row = [name, len(seeds)]
        for split, metric in (
            ('validation', 'recall@20'),
            ('test', 'recall@20'),
            ('test', 'ndcg@20'),
        ):
            gaps = [
                runs[flips][seed][split][metric] - runs[noise][seed][split][metric]
                for seed in seeds
            ]
            error = (
                f' ± {statistics.stdev(gaps) / math.sqrt(len(gaps)):.4f}' if len(gaps) > 1 else ''
            )
            row.append(f'{statistics.mean(gaps):+.4f}{error}')
        row.append(
            sum(
                runs[flips][seed]['test']['recall@20'] > runs[noise][seed]['test']['recall@20']
                for seed in seeds
            )
        )
        row += [mean_share([runs[setting][seed] for seed in seeds]) for setting in (flips, noise)]
        rows.append(row)
    return markdown_table(
        [
            'flips minus noise',
            'seeds',
            'validation Recall@20',
            'test Recall@20',
            'test NDCG@20',
            'seeds won at test',
            'new edges, flips',
            'new edges, noise',
        ],
        rows,
    )


def mean_share(results: Sequence[dict]) -> str:
    r"""Mean of :func:`share_of_new_edges`, empty where no result has one."""
    shares = [share for share in map(share_of_new_edges, results) if share is not None]
    return f'{statistics.mean(shares):.2f}' if shares else ''


def main() -> None:
    r"""Runs what is missing and writes the report after every run."""
    run_study('flip-against-noise', __doc__, SETTINGS, range(5), run, report)


def report(stem: Path, document: dict, arguments: argparse.Namespace) -> None:
    r"""Writes JSON and Markdown."""
    document['machine'] = machine(arguments.threads)
    document['flags'] = {name: [*SETTINGS[name], *arguments.flags] for name in document['runs']}
    runs = {name: seeds for name, seeds in document['runs'].items() if seeds}
    name = f'{arguments.name or arguments.dataset} ({" + ".join(arguments.modalities)})'
    text = (
        f'# Flips against noise in DiffMM on {name}\n\n'
        'The process differs, everything else is the same: generator, denoisers, objective, '
        'graph, seeds. Epochs were '
        'chosen on validation Recall@20; at test training and validation items are masked. '
        'Mean and standard deviation '
        f'over the seeds.\n\n{table(runs, document["references"])}\n\n'
        'Differences seed by seed, mean and standard error; new edges are the share of '
        'generated edges at the chosen '
        'epoch that the user does not have yet.\n\n'
        f'{comparison(runs)}\n\n{machine_line(document["machine"])}\n'
    )
    write_report(stem, document, text)


if __name__ == '__main__':
    main()
