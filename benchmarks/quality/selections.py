r"""Which interest should learn from a target? Equal model, data, seeds and limits; only the
selection of BaM (Lee, Yun and Kang, IEEE BigData 2024, https://github.com/snudatalab/BaM) and its
multi-interest loss differ.

``python -m benchmarks.quality.selections --root DIR --dataset ml-100k`` trains what the file
``--state`` lacks, one seed of everything before the next, and writes the report
``results/selections-NAME`` after every run, so that it goes on where it was stopped. ``uniform``
draws any interest: where it does as well as ``p`` and ``l``, the correlation of interest and target
is not what helps. Epochs are chosen on validation Recall@10; the last item of a user is the test
target.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.flags import positive
from benchmarks.common.machine import machine, machine_line
from benchmarks.common.reports import RESULTS, write_report
from benchmarks.quality.selections_run import measure
from benchmarks.quality.selections_tables import (
    MODELS,
    comparison_table,
    comparisons,
    draw,
    quality_table,
    use_table,
    verdict,
)
from genrec_pyg.utils.files import write_json

SELECTIONS = ('hard', 'p', 'l', 'uniform', 'label_aware')
#: Fitted at once, and trained with the settings of their own file.
FITTED = ('Popularity', 'ItemKNN', 'EASE')
TRAINED = ('LightGCN', 'GenRec', 'DSSM', 'GRU4Rec', 'SASRec')


def jobs(arguments: argparse.Namespace) -> dict[str, list[str]]:
    r"""Name of every setting to the flags of its training, without the seed."""
    common = ['--dataset', arguments.dataset, '--root', str(arguments.root)]
    common += ['--split', 'leave_one_out', '--device', 'cpu', '--references', 'false']
    found = {name: ['--model', name, *common] for name in FITTED if name in arguments.references}
    limits = ['--trainer.monitor', 'recall@10']
    for name in TRAINED:
        if name in arguments.references:
            found[name] = ['--model', name, *common, *limits]
            found[name] += ['--trainer.max_seconds', str(arguments.reference_seconds)]
    limits += ['--epochs', str(arguments.epochs), '--trainer.lr', str(arguments.lr)]
    limits += ['--trainer.patience', str(arguments.patience)]
    limits += ['--trainer.steps_per_epoch', str(arguments.steps)]
    limits += ['--hparams.history_length', str(arguments.history)]
    limits += ['--hparams.num_negatives', str(arguments.negatives)]
    for model in arguments.models:
        one = ['--hparams.num_interests', '1', '--hparams.selection', 'hard']
        found[f'{model}, one interest'] = ['--model', model, *common, *limits, *one]
        for multi in (False, True):
            for selection in arguments.selections:
                name = f'{model}, {selection}' + (', multi-interest loss' if multi else '')
                flags = [
                    '--hparams.selection',
                    selection,
                    '--hparams.multi_loss',
                    str(multi).lower(),
                ]
                found[name] = ['--model', model, *common, *limits, *flags]
    return found


def report(stem: Path, document: dict[str, Any], arguments: argparse.Namespace) -> None:
    r"""Writes JSON and Markdown."""
    runs = {name: document['runs'][name] for name in jobs(arguments) if document['runs'].get(name)}
    tests = comparisons(runs)
    document.update(machine=machine(1), comparisons=tests)
    sizes = next(iter(next(iter(runs.values())).values()))['sizes']
    text = f"""# Which interest learns, on {arguments.dataset}

{verdict(runs, tests)}

{quality_table(runs)}

{sizes['users']} users, {sizes['items']} items, {sizes['training']} training interactions,
{sizes['targets']} test targets; all items are ranked, known ones are left out, histories at the
test hold the validation item. Mean and standard deviation over seeds. Models with several
interests: four of width 64, at most {arguments.epochs} epochs of {arguments.steps} batches of 128
histories of up to {arguments.history} items, {arguments.negatives} negatives, learning rate
{arguments.lr}, patience {arguments.patience}. REMI adds hard negatives
(1.0) and its routing penalty (100). The others have the settings of their own file and at most
{arguments.reference_seconds} seconds. The tail are the two fifths of the targets that are least
popular. Seconds are of the processor, validation included.

## Beside hard selection, uniform selection and one interest

{comparison_table(tests)}

The same users, means over the seeds of a user first.

## How evenly interests learn and are used

{use_table(runs)}

![shares of interests]({stem.name}.svg)

Darker is the first interest; bars of a setting sum to 1.

Balance is an entropy in units of that of equal shares: 1 is even, 0 is one interest alone.
*Signal*: norm of the gradient that the training loss sends to every interest. *Interests learning
per target*: effective number of those that get a gradient from one target. *Best interest*: which
one scores a training target best. *Softness*: entropy of the softmax of these scores. *Cosine*: of
two interests of a user. *Items attended*: effective number in the attention of an interest.
*Lists*: which interest put an item into a top 10. *Distinct items*: in the top 10 of all four
interests alone, 1 where none is shared. *Interests not missed*: of four, those without which
Recall@20 is as high.

{machine_line(document['machine'])}
"""
    draw(runs, stem.with_name(stem.name + '.svg'))
    shown = {
        name: {seed: {k: v for k, v in run.items() if k != 'rank'} for seed, run in seeds.items()}
        for name, seeds in runs.items()
    }
    write_report(stem, {**document, 'runs': shown}, text)


def main(argv: Sequence[str] | None = None) -> None:
    r"""Runs what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--root', type=Path, required=True)
    parser.add_argument('--dataset', default='ml-100k')
    parser.add_argument('--models', nargs='*', choices=MODELS, default=list(MODELS))
    parser.add_argument('--selections', nargs='+', choices=SELECTIONS, default=list(SELECTIONS))
    parser.add_argument(
        '--references', nargs='*', choices=[*FITTED, *TRAINED], default=[*FITTED, *TRAINED]
    )
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--epochs', type=positive, default=100)
    parser.add_argument('--steps', type=positive, default=1000, help='batches per epoch')
    parser.add_argument('--patience', type=positive, default=15)
    parser.add_argument('--lr', type=float, default=1e-3)
    parser.add_argument('--history', type=positive, default=50, help='most items of a history')
    parser.add_argument('--negatives', type=positive, default=1280, help='negatives per batch')
    parser.add_argument('--reference_seconds', type=float, default=600.0)
    parser.add_argument('--name', help='name of the report, the dataset by default')
    parser.add_argument('--output', type=Path, default=RESULTS)
    parser.add_argument(
        '--state', type=Path, help='file of finished runs, runs/selections-NAME.json by default'
    )
    arguments = parser.parse_args(argv)
    stem = arguments.output / f'selections-{arguments.name or arguments.dataset}'
    state = arguments.state or Path('runs') / f'{stem.name}.json'
    document = json.loads(state.read_text()) if state.exists() else {'runs': {}}
    for seed in arguments.seeds:
        for name, flags in jobs(arguments).items():
            done = document['runs'].setdefault(name, {})
            # fitted models have no seed
            if str(seed) not in done and not (name in FITTED and seed != arguments.seeds[0]):
                done[str(seed)] = measure([*flags, '--seed', str(seed)])
                state.parent.mkdir(parents=True, exist_ok=True)
                write_json(state, document)
                report(stem, document, arguments)
    report(stem, document, arguments)


if __name__ == '__main__':
    main()
