r"""Quality and ablation of GenRec through the command line that users call, over seeds, beside the reference models.

``python benchmarks/quality.py --root DIR --dataset tiktok --modalities image audio`` trains every setting of
:data:`SETTINGS` that ``--settings`` selects (all by default) with each seed and writes ``results/quality-NAME.json`` and
``.md``. Every choice, also the epoch, is made on the validation split; the test split is read once per run. A run that is
already in the JSON file is not repeated, so the script resumes where it stopped.
"""
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from _measure import machine, machine_line, markdown_table, thread_environment, write_report

#: Name to flags; each changes one part of the default.
SETTINGS: dict[str, list[str]] = {
    'default': [],
    'no generation at all': ['--hparams.generation', 'false'],
    'generated graph only (paper\'s score)': ['--hparams.interest_weight', '0'],
    'generated score only (no generated graph)': ['--hparams.rebuild_k', '0'],
    'no debiasing': ['--hparams.debias', 'false'],
    'all changes debiased': ['--hparams.sample_ratio', '1.0'],
    'no contrast': ['--hparams.contrast', 'false'],
    'side not in the score': ['--hparams.side_in_score', 'false'],
    'denoiser without modalities': ['--hparams.modality_weight', '0'],
    'one generated edge': ['--hparams.rebuild_k', '1'],
    'ten generated edges': ['--hparams.gen_topk', '10', '--hparams.rebuild_k', '10'],
    'binary edge weights': ['--hparams.edge_weight', 'binary'],
    'edge dropout 0.5': ['--hparams.keep', '0.5'],
    'reverse chain from diffused rows': ['--hparams.start', 'diffused'],
    'half the noise': ['--hparams.noise_scale', '0.5'],
    'double noise': ['--hparams.noise_scale', '2'],
    'tied denoiser, multinomial': ['--hparams.denoiser', 'tied', '--hparams.denoiser_layers', '2'],
    'tied denoiser, graph only': ['--hparams.denoiser', 'tied', '--hparams.denoiser_layers', '2',
                                  '--hparams.interest_weight', '0'],
    'perceptron, multinomial': ['--hparams.denoiser', 'transformer', '--hparams.denoiser_layers', '0'],
    'transformer, multinomial': ['--hparams.denoiser', 'transformer'],
    'transformer, focal': ['--hparams.denoiser', 'transformer', '--hparams.objective', 'focal'],
    'transformer, binary cross-entropy': ['--hparams.denoiser', 'transformer', '--hparams.objective', 'bce'],
    'transformer, multinomial + variational': ['--hparams.denoiser', 'transformer', '--hparams.variational_weight', '0.01'],
    'released variant, our protocol': ['--hparams.variant', 'released'],
}
METRICS = ('recall@20', 'ndcg@20', 'precision@20')


def run(arguments: argparse.Namespace, flags: list[str], seed: int) -> dict[str, object]:
    r"""One training run in a process of its own; returns the content of its ``metrics.json``."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / 'run'
        command = [sys.executable, '-m', 'genrec_pyg.train', '--model', 'GenRec', '--dataset', arguments.dataset,
                   '--root', arguments.root, '--modalities', *arguments.modalities, '--seed', str(seed),
                   '--output', str(output), '--references', 'false', *arguments.flags, *flags]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=thread_environment(arguments.threads))
        return json.loads((output / 'metrics.json').read_text())


def table(runs: dict[str, dict[str, dict]], references: dict[str, dict]) -> str:
    r"""Markdown: validation and test figures, mean and standard deviation over the seeds."""
    rows = []
    for name, metrics in references.items():
        rows.append([name, 1, f"{metrics['validation']['recall@20']:.4f}",
                     *(f"{metrics['test'][metric]:.4f}" for metric in METRICS), '', ''])
    for name, seeds in runs.items():
        results = list(seeds.values())

        def spread(values: list[float]) -> str:
            deviation = f' ± {statistics.stdev(values):.4f}' if len(values) > 1 else ''
            return f'{statistics.mean(values):.4f}{deviation}'

        rows.append([name, len(results), spread([r['validation']['recall@20'] for r in results]),
                     *(spread([r['test'][metric] for r in results]) for metric in METRICS),
                     f"{statistics.mean(r['epoch'] + 1 for r in results):.0f}",
                     f"{statistics.mean(r['seconds'] for r in results):.0f}"])
    return markdown_table(['setting', 'seeds', 'validation Recall@20', 'test Recall@20', 'test NDCG@20', 'test Precision@20',
                           'best epoch', 'seconds'], rows)


def main() -> None:
    r"""Runs what is missing and writes the report after every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', required=True)
    parser.add_argument('--dataset', default='tiktok')
    parser.add_argument('--modalities', nargs='+', default=['image', 'audio'])
    parser.add_argument('--name', help='name of the report, the data set by default')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--settings', nargs='+', choices=list(SETTINGS), default=list(SETTINGS), metavar='SETTING')
    parser.add_argument('--flags', nargs=argparse.REMAINDER, default=[], help='further flags of genrec_pyg.train, last')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--output', type=Path, default=Path(__file__).parent / 'results')
    arguments = parser.parse_args()
    stem = arguments.output / f'quality-{arguments.name or arguments.dataset}'
    source = stem.with_name(stem.name + '.json')
    document = json.loads(source.read_text()) if source.exists() else {'runs': {}, 'references': {}}
    if not document['references']:
        document['references'] = references(arguments)
    for seed in arguments.seeds:  # one seed of everything before the next: an interrupted table is still a whole one
        for setting in arguments.settings:
            done = document['runs'].setdefault(setting, {})
            if str(seed) not in done:
                done[str(seed)] = run(arguments, SETTINGS[setting], seed)
                report(stem, document, arguments)
    report(stem, document, arguments)


def references(arguments: argparse.Namespace) -> dict[str, dict]:
    r"""Validation and test figures of the instant reference models."""
    found = {}
    for model in ('Popularity', 'ItemKNN', 'EASE'):
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / 'run'
            command = [sys.executable, '-m', 'genrec_pyg.train', '--model', model, '--dataset', arguments.dataset,
                       '--root', arguments.root, '--modalities', *arguments.modalities, '--output', str(output),
                       '--references', 'false']
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=thread_environment(arguments.threads))
            found[model] = json.loads((output / 'metrics.json').read_text())
    return found


def report(stem: Path, document: dict, arguments: argparse.Namespace) -> None:
    r"""Writes JSON and Markdown."""
    document['machine'] = machine(arguments.threads)
    document['flags'] = {name: SETTINGS[name] for name in document['runs']}
    runs = {name: seeds for name, seeds in document['runs'].items() if seeds}
    text = (f'# Quality of GenRec on {arguments.name or arguments.dataset} ({" + ".join(arguments.modalities)})\n\n'
            'Every setting changes one part of the default. Epochs and settings were chosen on validation Recall@20; at test '
            'training and validation items are masked. Mean and standard deviation over the seeds.\n\n'
            f"{table(runs, document['references'])}\n\n{machine_line(document['machine'])}\n")
    write_report(stem, document, text)


if __name__ == '__main__':
    main()
