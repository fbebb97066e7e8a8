r"""Robustness of models with and without Mirror Gradient, its cost, and the sharpness of the minima
that they find.

.. code-block:: console

    python -m benchmarks.quality.robustness --root DIR --dataset tiktok --modalities image audio

Every model of ``--models`` trains with its shipped settings (except :data:`COMMON` and
:data:`FLAGS`), plain and with Mirror Gradient, once per seed on the graph as it is, and once per
share of noise interactions (``AddNoiseInteractions``) and strength of noise on the features
(``AddFeatureNoise``) in it. The models trained on the graph as it is then meet perturbed features
at test time: noise, features shuffled among a share of the items (``ShuffleFeatures``) and
modalities taken from a share of the items (``DropModality``). While they train, sharpness is
estimated by the increase of the loss in one step of ascent and by the largest curvature
(``genrec_pyg.optim.sharpness``). The cost of Mirror Gradient is that of epochs with and without it,
measured in turn in one process. Each training runs in a process of its own; what is in the JSON
file is not repeated, so the script resumes where it stopped. With the defaults on tiktok it takes
about an hour and a half on one core.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.common.flags import check_models, positive
from benchmarks.common.machine import machine, machine_line, thread_environment
from benchmarks.common.reports import RESULTS, figure, markdown_table, write_report
from benchmarks.quality.study import spread

MODELS = ('MFBPR', 'LightGCN', 'VBPR', 'BM3', 'FREEDOM', 'GenRec')
#: Flags of every training: few enough epochs and evaluations for about 150 trainings in an hour and
#: a half on one core.
COMMON = {'epochs': '40', 'trainer.eval_every': '5', 'trainer.patience': '3'}
#: What differs by model: a higher rate where 40 epochs at the shipped one stop short of the best
#: epoch, no early stop of BM3, whose recall rests at the start, and fewer epochs of GenRec, each of
#: which costs ten of the others and learns as much.
FLAGS: dict[str, dict[str, str]] = {
    'MFBPR': {'trainer.lr': '0.005'},
    'BM3': {'trainer.patience': '0'},
    'FREEDOM': {'trainer.lr': '0.005'},
    'GenRec': {'epochs': '10', 'trainer.eval_every': '2'},
}
OPTIMIZERS: dict[str, list[str]] = {'plain': [], 'MG': ['--mirror_gradient']}
#: Condition of the trainings on the graph as it is.
CLEAN = 'none'
#: Kinds of perturbation at test time, what their strength means, and default strengths.
TEST_KINDS = {
    'noise': (
        'Gaussian noise on the features at test time; strength: its standard deviation '
        'relative to that of the column',
        (0.5, 1.0, 2.0),
    ),
    'shuffled': ('features shuffled at test time; strength: share of the items', (0.25, 0.5, 1.0)),
    'dropped': (
        'modalities dropped at test time; strength: share of the items, drawn for every modality',
        (0.25, 0.5, 1.0),
    ),
}
#: The same for perturbations of the graph before the training.
TRAINING_KINDS = {
    'interactions': (
        'noise interactions in training; strength: share of the training interactions',
        (0.1, 0.3),
    ),
    'training_noise': (
        'Gaussian noise on the features in training and at test; strength as for noise',
        (1.0,),
    ),
}
KINDS = {**TEST_KINDS, **TRAINING_KINDS}

logger = logging.getLogger('robustness')


class Comparison(NamedTuple):
    r"""Test Recall@20 of one model under one condition, one value per seed in the same order.

    Args:
        model: Name of the model.
        kind: Kind of perturbation, or :data:`CLEAN`.
        strength: Its strength.
        plain: Values without Mirror Gradient.
        mirrored: Values with it.
    """

    model: str
    kind: str
    strength: float
    plain: list[float]
    mirrored: list[float]

    @property
    def gain(self) -> float:
        r"""Mean of the paired differences."""
        return statistics.mean(b - a for a, b in zip(self.plain, self.mirrored))

    @property
    def is_significant(self) -> bool:
        r"""Whether zero lies outside the 95 percent interval of Student's t of the paired
        differences; never for one seed.
        """
        from scipy.stats import t

        if len(self.plain) < 2:
            return False
        deviation = statistics.stdev(b - a for a, b in zip(self.plain, self.mirrored))
        return abs(self.gain) > t.ppf(0.975, len(self.plain) - 1) * deviation / math.sqrt(
            len(self.plain)
        )


def call(options: Mapping[str, Any], threads: int) -> dict[str, Any]:
    r"""One measurement in a process of its own."""
    command = [
        sys.executable,
        '-m',
        'benchmarks.quality.robustness_run',
        json.dumps({**options, 'threads': threads}),
    ]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, env=thread_environment(threads), check=True, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def flags_of(model: str, settings: Mapping[str, Any]) -> list[str]:
    r"""Flags of ``python -m genrec_pyg.train`` for ``model``, seed and optimizer excepted."""
    named = {**COMMON, **FLAGS.get(model, {})}
    if settings['epochs'] is not None:
        named['epochs'] = str(settings['epochs'])
    return [
        '--dataset',
        settings['dataset'],
        '--model',
        model,
        *(['--modalities', *settings['modalities']] if settings['modalities'] else []),
        *(part for name, value in named.items() for part in (f'--{name}', value)),
        *settings['flags'],
    ]


def trainings(
    settings: Mapping[str, Any], models: Sequence[str], seeds: Sequence[int]
) -> Iterator[tuple[str, ...]]:
    r"""Model, condition, optimizer and seed of every training; all of one seed before the next, so
    that an interrupted table is still a whole one.
    """
    conditions = [
        CLEAN,
        *(f'{kind} {strength}' for kind in TRAINING_KINDS for strength in settings[kind]),
    ]
    for seed in seeds:
        for model in models:
            for condition in conditions:
                for optimizer in OPTIMIZERS:
                    yield model, condition, optimizer, str(seed)


def comparisons(runs: Mapping[str, Any]) -> list[Comparison]:
    r"""Everything that was measured with both optimizers;
    ``runs[model][condition][optimizer][seed]``.
    """
    found = []
    for model, conditions in runs.items():
        for condition, optimizers in conditions.items():
            seeds = [
                seed for seed in optimizers.get('plain', {}) if seed in optimizers.get('MG', {})
            ]
            if not seeds:
                continue
            pair = [[optimizers[name][seed] for seed in seeds] for name in OPTIMIZERS]
            kind, _, strength = condition.partition(' ')
            found.append(
                Comparison(
                    model,
                    kind,
                    float(strength or 0),
                    *([run['test']['recall@20'] for run in each] for each in pair),
                )
            )
            for kind, strengths in pair[0][0]['perturbed'].items():
                for strength in strengths:
                    found.append(
                        Comparison(
                            model,
                            kind,
                            float(strength),
                            *(
                                [run['perturbed'][kind][strength]['recall@20'] for run in each]
                                for each in pair
                            ),
                        )
                    )
    return found


def split_unaffected(found: Sequence[Comparison]) -> tuple[list[Comparison], dict[str, list[str]]]:
    r"""The comparisons that a perturbation reached, and per kind the models of which no figure
    moved under it, since they do not read what it perturbs.
    """
    clean = {c.model: (c.plain, c.mirrored) for c in found if c.kind == CLEAN}
    reached = {
        (c.model, c.kind)
        for c in found
        if c.kind == CLEAN or (c.plain, c.mirrored) != clean.get(c.model)
    }
    missed: dict[str, list[str]] = {}
    for c in found:
        if (c.model, c.kind) not in reached and c.model not in missed.setdefault(c.kind, []):
            missed[c.kind].append(c.model)
    return [c for c in found if (c.model, c.kind) in reached], missed


def title(kind: str) -> str:
    r"""A kind of perturbation in words."""
    return kind.replace('_', ' ')


def clean_table(runs: Mapping[str, Any]) -> str:
    r"""Markdown: both optimizers without perturbation."""
    rows = []
    for model, conditions in runs.items():
        for optimizer, seeds in conditions.get(CLEAN, {}).items():
            results = list(seeds.values())
            rows.append(
                [
                    model if optimizer == 'plain' else f'{model} + {optimizer}',
                    len(results),
                    *(
                        spread([run[split][metric] for run in results])
                        for split, metric in (
                            ('validation', 'recall@20'),
                            ('test', 'recall@20'),
                            ('test', 'ndcg@20'),
                        )
                    ),
                    f'{statistics.mean(run["epoch"] + 1 for run in results):.0f}',
                ]
            )
    return markdown_table(
        ['model', 'seeds', 'validation Recall@20', 'test Recall@20', 'test NDCG@20', 'best epoch'],
        rows,
    )


def kind_table(found: Sequence[Comparison], kind: str) -> str:
    r"""Markdown: test Recall@20 by strength of one kind of perturbation, the unperturbed figure
    first.
    """
    shown = [c for c in found if c.kind in (CLEAN, kind)]
    strengths = sorted({c.strength for c in shown if c.kind == kind})
    at = {(c.model, c.strength): c for c in shown}  # unperturbed is strength 0
    rows = []
    for model in dict.fromkeys(c.model for c in shown if c.kind == kind):
        cells = [at.get((model, strength)) for strength in (0.0, *strengths)]
        rows.append([model, *('' if c is None else spread(c.plain) for c in cells)])
        rows.append([f'{model} + MG', *('' if c is None else spread(c.mirrored) for c in cells)])
        rows.append(
            [
                'difference',
                *(
                    '' if c is None else f'{c.gain:+.4f}{"*" if c.is_significant else ""}'
                    for c in cells
                ),
            ]
        )
    return markdown_table(['model', CLEAN, *map(str, strengths)], rows)


def verdict(found: Sequence[Comparison]) -> str:
    r"""Markdown: where Mirror Gradient helps and where it does not."""
    against = [c for c in found if c.gain <= 0]
    rows = [
        [
            model,
            len(own),
            sum(c.gain > 0 for c in own),
            sum(c.gain > 0 and c.is_significant for c in own),
            sum(c.gain <= 0 for c in own),
            sum(c.gain <= 0 and c.is_significant for c in own),
        ]
        for model in dict.fromkeys(c.model for c in found)
        for own in [[c for c in found if c.model == model]]
    ]
    table = markdown_table(
        [
            'model',
            'conditions',
            'better with MG',
            'significantly',
            'not better',
            'significantly worse',
        ],
        rows,
    )
    listed = '\n'.join(
        f'* {c.model}, {"unperturbed" if c.kind == CLEAN else f"{title(c.kind)} {c.strength}"}: '
        f'{statistics.mean(c.plain):.4f} plain, {statistics.mean(c.mirrored):.4f} with MG '
        f'({c.gain:+.4f}{", significant" if c.is_significant else ""})'
        for c in against
    )
    return f'{table}\n\nNot better with MG:\n\n{listed or "* nowhere"}'


def sharpness_table(runs: Mapping[str, Any]) -> str:
    r"""Markdown: sharpness at the last epoch that all seeds of both optimizers measured, and the
    ratio of the means.
    """
    rows = []
    for model, conditions in runs.items():
        paths = [
            [run['sharpness'] for run in conditions.get(CLEAN, {}).get(name, {}).values()]
            for name in OPTIMIZERS
        ]
        if not all(paths) or not all(path for group in paths for path in group):
            continue
        last = min(path[-1]['epoch'] for group in paths for path in group)
        row = [model, last + 1]
        for key in ('increase', 'curvature'):
            plain, mirrored = (
                [next(p[key] for p in path if p['epoch'] == last) for path in group]
                for group in paths
            )
            ratio = statistics.mean(mirrored) / (statistics.mean(plain) or math.nan)
            row += [
                *(f'{statistics.mean(values):.3g}' for values in (plain, mirrored)),
                f'{ratio:.2f}',
            ]
        rows.append(row)
    return markdown_table(
        ['model', 'epoch', 'increase, plain', 'MG', 'ratio', 'curvature, plain', 'MG', 'ratio'],
        rows,
    )


def cost_table(costs: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    r"""Markdown: median seconds of an epoch and their ratio."""
    rows = [
        [
            model,
            *(f'{statistics.median(seconds[name]):.3f}' for name in ('plain', 'mirrored')),
            f'{statistics.median(seconds["mirrored"]) / statistics.median(seconds["plain"]):.2f}',
            len(seconds['plain']),
        ]
        for model, seconds in costs.items()
    ]
    return markdown_table(['model', 'plain [s]', 'MG [s]', 'ratio', 'epochs each'], rows)


def draw_recall(found: Sequence[Comparison], path: Path) -> None:
    r"""Test Recall@20 against the strength, a row per model and a column per kind."""
    models = list(dict.fromkeys(c.model for c in found))
    kinds = [kind for kind in KINDS if any(c.kind == kind for c in found)]
    with figure(path, len(models), len(kinds), width=3.2, height=2.4) as axes:
        for line, model in zip(axes, models):
            for plot, kind in zip(line, kinds):
                points = sorted(
                    (c for c in found if c.model == model and c.kind in (CLEAN, kind)),
                    key=lambda c: c.strength,
                )
                x = [c.strength for c in points]  # unperturbed is strength 0
                for label, values in (
                    ('plain', [c.plain for c in points]),
                    ('MG', [c.mirrored for c in points]),
                ):
                    error = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in values]
                    plot.errorbar(
                        x,
                        [statistics.mean(v) for v in values],
                        error,
                        marker='o',
                        capsize=3,
                        label=label,
                    )
                # the perturbation does not reach the model
                if not any(c.kind == kind for c in points):
                    plot.set_visible(False)
                    continue
                plot.set_title(f'{model}, {title(kind)}', fontsize=9)
                plot.grid(True, alpha=0.3)
                plot.set_ylabel('test Recall@20')
                plot.set_xlabel('strength')
                plot.legend(fontsize=8)


def draw_sharpness(runs: Mapping[str, Any], path: Path) -> None:
    r"""Both estimates of sharpness against the epoch, a column per model and a line per seed."""
    with figure(path, 2, len(runs), width=3.2, height=2.6) as axes:
        for column, (model, conditions) in enumerate(runs.items()):
            for line, (key, label) in zip(
                axes, (('increase', 'increase of the loss'), ('curvature', 'largest curvature'))
            ):
                plot = line[column]
                for color, name in zip(('C0', 'C1'), OPTIMIZERS):
                    for number, run in enumerate(conditions.get(CLEAN, {}).get(name, {}).values()):
                        plot.plot(
                            [p['epoch'] + 1 for p in run['sharpness']],
                            [p[key] for p in run['sharpness']],
                            color=color,
                            alpha=0.7,
                            marker='.',
                            label=name if number == 0 else None,
                        )
                plot.set_title(model, fontsize=9)
                plot.grid(True, alpha=0.3)
                if column == 0:
                    plot.set_ylabel(label)
                    plot.legend(fontsize=8)
        for plot in axes[-1]:
            plot.set_xlabel('epoch')


def report(stem: Path, document: dict[str, Any], threads: int) -> None:
    r"""Writes JSON and Markdown."""
    document['machine'] = machine(threads)
    settings, runs = document['settings'], document['runs']
    found, missed = split_unaffected(comparisons(runs))
    parts = [
        f'# Robustness on {settings["dataset"]}, with and without Mirror Gradient',
        'Test Recall@20; the epoch is chosen on validation Recall@20, and at test training and '
        'validation items are masked. Mean and standard deviation over the seeds; `*` marks a '
        'difference whose 95 % interval (paired t) leaves out zero, for each condition by itself. '
        'The seed of a run is that of its perturbations, so both optimizers meet the same ones. '
        'Under features perturbed at test time a model is rebuilt on them and takes '
        "the state that training left (of GenRec that includes the closed-form denoiser's two "
        'matrices and the generated edges). Noise interactions are distinct pairs that occur in '
        'no split.',
        f'## Unperturbed\n\n{clean_table(runs)}',
    ]
    for kind, (words, _) in KINDS.items():
        lines = [f'{words[0].upper()}{words[1:]}.']
        if kind in missed:
            lines.append(f'It does not reach {", ".join(missed[kind])}: no figure moves.')
        if any(c.kind == kind for c in found):
            lines.append(kind_table(found, kind))
        if len(lines) > 1:
            parts.append('\n\n'.join([f'## {title(kind).capitalize()}', *lines]))
    recall, sharpness = (path.name for path in figure_paths(stem))
    parts += [f'![recall]({recall})', f'## Where Mirror Gradient does not help\n\n{verdict(found)}']
    if settings['every'] > 0:
        parts.append(
            f'## Sharpness\n\nOf the training loss on a fixed batch in evaluation mode: its '
            f'increase in one step of steepest ascent of length {settings["radius"]} (Foret et '
            f'al., ICLR 2021), and '
            f"the Hessian's eigenvalue "
            f'of largest magnitude by {settings["iterations"]} power iterations per point, each '
            f'from where the point before '
            f'ended.\n\n{sharpness_table(runs)}\n\n![sharpness]({sharpness})'
        )
    if document['cost']:
        parts.append(
            f'## Cost of an epoch\n\nMedian of epochs with and without Mirror Gradient, in turn '
            f'in one process; by count of forward and backward passes the ratio is 1 + '
            f'1/3.\n\n{cost_table(document["cost"])}'
        )
    flags = '; '.join(f'`{" ".join(flags_of(model, settings))}`' for model in runs)
    parts.append(f'Flags: {flags}.')
    write_report(stem, document, '\n\n'.join([*parts, machine_line(document['machine'])]))


def figure_paths(stem: Path) -> list[Path]:
    r"""Where the figures of recall and sharpness lie."""
    return [stem.with_name(f'{stem.name}{ending}.svg') for ending in ('', '-sharpness')]


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Runs what is missing and writes the report after every measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--root', default='data')
    parser.add_argument('--dataset', default='tiktok')
    parser.add_argument('--modalities', nargs='+', help='NAME or NAME=FILE; all by default')
    parser.add_argument('--name', help='name of the report, the dataset by default')
    parser.add_argument('--models', nargs='+', default=list(MODELS), metavar='MODEL')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    for kind, (words, strengths) in KINDS.items():
        parser.add_argument(
            f'--{kind}',
            type=float,
            nargs='*',
            default=list(strengths),
            metavar='STRENGTH',
            help=words,
        )
    parser.add_argument(
        '--epochs',
        type=positive,
        help='largest number of epochs of every model, in place of its own',
    )
    parser.add_argument(
        '--every', type=int, default=5, help='epochs between estimates of the sharpness; 0 for none'
    )
    parser.add_argument('--radius', type=float, default=0.05, help='length of the ascent step')
    parser.add_argument(
        '--iterations', type=positive, default=5, help='power iterations per estimate'
    )
    parser.add_argument(
        '--repeats',
        type=positive,
        default=5,
        help='epochs of each optimizer that the cost is taken from',
    )
    parser.add_argument('--threads', type=positive, default=1)
    parser.add_argument('--output', type=Path, default=RESULTS)
    parser.add_argument(
        '--flags',
        nargs=argparse.REMAINDER,
        default=[],
        help='further flags of genrec_pyg.train, last',
    )
    args = parser.parse_args(arguments)
    check_models(args.models, parser)
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr)
    names = (
        'dataset',
        'modalities',
        *KINDS,
        'epochs',
        'every',
        'radius',
        'iterations',
        'repeats',
        'flags',
    )
    settings = {name: getattr(args, name) for name in names}
    stem = args.output / f'robustness-{args.name or args.dataset}'
    source = stem.with_name(stem.name + '.json')
    document = (
        json.loads(source.read_text())
        if source.exists()
        else {'settings': settings, 'runs': {}, 'cost': {}}
    )
    for name in names:
        if document['settings'][name] != settings[name]:
            parser.error(
                f'--{name}: got {settings[name]}, but {source} was measured with '
                f'{document["settings"][name]}; give another --name, or remove the file'
            )
    for model, condition, optimizer, seed in trainings(settings, args.models, args.seeds):
        done = (
            document['runs']
            .setdefault(model, {})
            .setdefault(condition, {})
            .setdefault(optimizer, {})
        )
        if seed in done:
            continue
        kind, _, strength = condition.partition(' ')
        is_clean = condition == CLEAN
        done[seed] = call(
            {
                'task': 'run',
                'flags': [
                    *flags_of(model, settings),
                    '--root',
                    args.root,
                    '--seed',
                    seed,
                    *OPTIMIZERS[optimizer],
                ],
                'training': None if is_clean else (kind, float(strength)),
                'strengths': {kind: settings[kind] for kind in TEST_KINDS} if is_clean else {},
                'every': args.every if is_clean else 0,
                'radius': args.radius,
                'num_iterations': args.iterations,
            },
            args.threads,
        )
        logger.info(
            '%s, %s, %s, seed %s: test Recall@20 %.4f, epoch %d, %.0f s',
            model,
            condition,
            optimizer,
            seed,
            done[seed]['test']['recall@20'],
            done[seed]['epoch'],
            done[seed]['seconds'],
        )
        report(stem, document, args.threads)
    for model in args.models:
        if model not in document['cost']:
            document['cost'][model] = call(
                {
                    'task': 'cost',
                    'flags': [*flags_of(model, settings), '--root', args.root],
                    'repeats': args.repeats,
                },
                args.threads,
            )
            report(stem, document, args.threads)
    report(stem, document, args.threads)
    recall, sharpness = figure_paths(stem)
    draw_recall(split_unaffected(comparisons(document['runs']))[0], recall)
    if args.every > 0:
        draw_sharpness(document['runs'], sharpness)
    return 0


if __name__ == '__main__':
    sys.exit(main())
