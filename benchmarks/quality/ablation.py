r"""Quality and ablation of GenRec through the command line that users call, over seeds, beside the
reference models.

``python -m benchmarks.quality.ablation --root DIR --dataset tiktok --modalities image audio``
trains every setting of :data:`SETTINGS` that ``--settings`` selects (all by default) with each seed
and writes ``results/quality-NAME.json`` and ``.md``. Every choice, also the epoch, is made on the
validation split; the test split is read once per run. A run that is already in the JSON file is not
repeated, so the script resumes where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.common.machine import machine, machine_line
from benchmarks.common.reports import write_report
from benchmarks.quality.study import run_study, table, train

#: Name to flags; each changes one part of the default.
SETTINGS: dict[str, list[str]] = {
    'default': [],
    'no generation at all': ['--hparams.generation.enabled', 'false'],
    "generated graph only (paper's score)": ['--hparams.interest.weight', '0'],
    'generated score only (no generated graph)': ['--hparams.generation.rebuild_k', '0'],
    'no debiasing': ['--hparams.debias.enabled', 'false'],
    'all changes debiased': ['--hparams.debias.sample_ratio', '1.0'],
    'no contrast': ['--hparams.contrast.view_weight', '0', '--hparams.contrast.pair_weight', '0'],
    'side not in the score': ['--hparams.encoder.side_in_score', 'false'],
    'interest of the kernel alone': ['--hparams.interest.view_weights', '{kernel: 1.0}'],
    'constant ridge, no discount (as Gaussian noise)': ['--hparams.diffusion.process', 'gaussian'],
    'BPR in place of the softmax': ['--hparams.ranking.loss', 'bpr'],
    'one generated edge': ['--hparams.generation.rebuild_k', '1'],
    'ten generated edges': [
        '--hparams.generation.topk',
        '10',
        '--hparams.generation.rebuild_k',
        '10',
    ],
    'binary edge weights': ['--hparams.generation.edge_weight', 'binary'],
    'edge dropout 0.5': ['--hparams.generation.edge_dropout', '0.5'],
    'reverse chain from diffused rows': ['--hparams.diffusion.start', 'diffused'],
    'half the ridge': ['--hparams.interest.ridge', '4'],
    'double ridge': ['--hparams.interest.ridge', '16'],
    'tied denoiser, multinomial': [
        '--hparams.denoiser.name',
        'tied',
        '--hparams.denoiser.num_layers',
        '2',
    ],
    'tied denoiser, graph only': [
        '--hparams.denoiser.name',
        'tied',
        '--hparams.denoiser.num_layers',
        '2',
        '--hparams.interest.weight',
        '0',
    ],
    'perceptron, multinomial': [
        '--hparams.denoiser.name',
        'transformer',
        '--hparams.denoiser.num_layers',
        '0',
    ],
    'transformer, multinomial': ['--hparams.denoiser.name', 'transformer'],
    'transformer, focal': [
        '--hparams.denoiser.name',
        'transformer',
        '--hparams.denoiser_training.objective',
        'focal',
    ],
    'transformer, binary cross-entropy': [
        '--hparams.denoiser.name',
        'transformer',
        '--hparams.denoiser_training.objective',
        'bce',
    ],
    'transformer, multinomial + variational': [
        '--hparams.denoiser.name',
        'transformer',
        '--hparams.denoiser_training.variational_weight',
        '0.01',
    ],
    'bfloat16': ['--trainer.precision', 'bf16'],
    'batch 1024, rate by the root': ['--trainer.batch_size', '1024', '--trainer.lr', '3.5e-3'],
    'batch 4096, rate by the root': ['--trainer.batch_size', '4096', '--trainer.lr', '7.1e-3'],
    'released variant, our protocol': ['--hparams.variant', 'released'],
}


def run(arguments: argparse.Namespace, flags: list[str], seed: int) -> dict[str, object]:
    r"""One training run of GenRec."""
    return train(arguments, 'GenRec', [*arguments.flags, *flags], seed)


def main() -> None:
    r"""Runs what is missing and writes the report after every run."""
    run_study('quality', __doc__, SETTINGS, (0, 1, 2), run, report)


def report(stem: Path, document: dict, arguments: argparse.Namespace) -> None:
    r"""Writes JSON and Markdown."""
    document['machine'] = machine(arguments.threads)
    document['flags'] = {name: SETTINGS[name] for name in document['runs']}
    runs = {name: seeds for name, seeds in document['runs'].items() if seeds}
    text = (
        f'# Quality of GenRec on {arguments.name or arguments.dataset} '
        f'({" + ".join(arguments.modalities)})\n\n'
        'Every setting changes one part of the default. Epochs and settings were chosen on '
        'validation Recall@20; at test '
        'training and validation items are masked. Mean and standard deviation over the seeds.\n\n'
        f'{table(runs, document["references"])}\n\n{machine_line(document["machine"])}\n'
    )
    write_report(stem, document, text)


if __name__ == '__main__':
    main()
