r"""GenRec without settings on many datasets, beside simple models tuned on each.

``python -m benchmarks.quality.transfer --root DIR --datasets amazon-beauty lastfm-2k --seeds 0 1
2`` trains models with their shipped defaults, tunes those in closed form on the validation split of
every dataset, writes ``results/transfer.json``, ``.md`` and ``.svg``: validation and test Recall@20
with their deviation over the seeds, seconds, and for every dataset the paired test per user of
GenRec against each other model, corrected by Holm. The test split is read once per run. Runs with
the recall of every user are kept in the file ``--state``; one that is there is not repeated, so the
script goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.flags import positive
from benchmarks.common.machine import machine, machine_line, prepare
from benchmarks.common.reports import RESULTS, markdown_table, write_report
from benchmarks.quality.transfer_data import DATASETS
from benchmarks.quality.transfer_picture import picture
from benchmarks.quality.transfer_tuned import FINAL, search, train

logger = logging.getLogger(__name__)

#: Models in closed form, tuned on validation.
CLOSED_FORM = ('Popularity', 'ItemKNN', 'EASE', 'GraphFilter', 'ItemKNNCBF', 'AddEASE')
#: Models trained with their shipped defaults.
TRAINED = ('GenRec', 'LightGCN')
#: Datasets whose figures were seen while the defaults of GenRec were chosen.
LOOKED_AT = (
    'tiktok',
    'lfm2k',
    'lastfm-2k',
    'ml-100k-likes',
    'ml-100k-posters',
    'hin-amazon',
    'amazon-beauty',
)
#: Trained models that are tuned, by ``--rivals``.
RIVALS = ('LightGCN', 'SGL', 'MGCN', 'FREEDOM')
#: Ending of their rows.
TUNED = ', tuned'
#: Limit of a search in closed form where none is given.
SEARCH_SECONDS = 300.0


def tuned_model(name: str, data, seconds: float | None):
    r"""A model in closed form, tuned on validation within ``seconds``."""
    from genrec_pyg.nn.models import get_model
    from genrec_pyg.tuning import tune_on_validation

    if name == 'Popularity':
        return get_model(name)(data, modalities=[])
    return tune_on_validation(name, data, max_seconds=seconds or SEARCH_SECONDS).model


def ended_early(entry: dict[str, Any]) -> bool:
    r"""Whether the limit ended a run or a search."""
    return entry.get('limit') is not None and entry['seconds'] >= entry['limit']


def trained_model(name: str, data, seed: int, seconds: float | None):
    r"""A model trained with its defaults, the validation figures of its parts and what it chose."""
    from genrec_pyg.config import resolve_config
    from genrec_pyg.nn.models import get_model
    from genrec_pyg.training import Trainer, seed_everything

    config = resolve_config(name, 'unknown', {'seed': seed})
    seed_everything(seed)
    model = get_model(name)(data, **config.hparams)
    trainer = Trainer(
        epochs=config.epochs,
        seed=seed,
        device='cpu',
        progress=False,
        **{**config.trainer, 'max_seconds': seconds},
    )
    result = trainer.fit(model, data)
    return model, {
        'epoch': result.epoch,
        'epochs': len(result.history),
        'parts': result.parts,
        'choice': result.choice,
    }


def run(dataset: str, name: str, seed: int, root: Path, seconds: float | None) -> dict[str, Any]:
    r"""One run: validation and test Recall@20, that of every test user, and seconds."""
    from genrec_pyg.evaluation import Evaluator, evaluate
    from genrec_pyg.nn.models import MODELS

    data = DATASETS[dataset](root)
    if not MODELS[name].trained and seconds is None:
        seconds = SEARCH_SECONDS
    begin, processor = time.perf_counter(), time.process_time()
    more: dict[str, Any] = {}
    if MODELS[name].trained:
        model, more = trained_model(name, data, seed, seconds)
    else:
        model = tuned_model(name, data, seconds)
    took = {
        'seconds': time.perf_counter() - begin,
        'processor_seconds': time.process_time() - processor,
    }
    recall = Evaluator(data, 'test', (20,)).user_recall(model, 20)[1]
    return {
        'validation': evaluate(model, data, 'val', (20,))['recall@20'],
        'test': float(recall.mean()),
        'user_recall': [round(value, 6) for value in recall.tolist()],
        'limit': seconds,
        **took,
        **more,
    }


def run_tuned(
    dataset: str, name: str, seed: int, root: Path, seconds: float, found: dict[str, Any] | None
) -> dict[str, Any]:
    r"""One run of a trained rival with the setting that a search of ``seconds`` of the processor
    found; ``found`` is that of another seed.
    """
    from genrec_pyg.evaluation import Evaluator

    data = DATASETS[dataset](root)
    found = found or search(name, data, seconds)
    begin, processor = time.perf_counter(), time.process_time()
    model, result = train(name, data, found['settings'], seed, FINAL * seconds)
    processor = time.process_time() - processor
    recall = Evaluator(data, 'test', (20,)).user_recall(model, 20)[1]
    return {
        'validation': result.validation['recall@20'],
        'test': float(recall.mean()),
        'user_recall': [round(value, 6) for value in recall.tolist()],
        'seconds': time.perf_counter() - begin,
        'processor_seconds': processor + found['tuning_seconds'],
        'epoch': result.epoch,
        'epochs': len(result.history),
        'stopped': result.stopped,
        'search': found,
    }


def report(document: dict[str, Any]) -> str:
    r"""The report in Markdown."""
    from genrec_pyg.evaluation import holm, paired_comparison

    text = [
        '# GenRec with its defaults, beside simple models tuned on each dataset',
        '',
        machine_line(document['machine']),
        '',
        'Test Recall@20, mean and standard deviation over the seeds; every setting and epoch '
        'chosen on validation. `p` is of the paired t-test per user (mean over the seeds) of '
        'GenRec against the model, after Holm over the models of the dataset. GenRec and LightGCN '
        'have their shipped defaults, the models in closed form are tuned on validation. A trained '
        'rival that is tuned has the best of the settings that a search tries, the shipped default '
        'first, within processor seconds of its own (in its row, the final training included).',
        '',
        f'Looked at while the defaults were chosen: {", ".join(LOOKED_AT)}. The other datasets '
        f'were not.',
        '',
    ]
    for dataset, systems in document['runs'].items():
        rows, users = [], {}
        for name, runs in systems.items():
            tests = [entry['test'] for entry in runs.values()]
            users[name] = np.mean([entry['user_recall'] for entry in runs.values()], axis=0)
            deviation = f'{statistics.stdev(tests):.4f}' if len(tests) > 1 else '-'
            rows.append(
                [
                    name,
                    len(tests),
                    statistics.mean(entry['validation'] for entry in runs.values()),
                    statistics.mean(tests),
                    deviation,
                    statistics.mean(e['processor_seconds'] for e in runs.values()),
                ]
            )
            for part in next(iter(runs.values())).get('parts', {}):
                mean = {
                    split: statistics.mean(
                        entry['parts'][part][split]['recall@20'] for entry in runs.values()
                    )
                    for split in ('validation', 'test')
                }
                rows.append(
                    [f'{name}, {part} alone', len(tests), mean['validation'], mean['test'], '', '']
                )
        p = {}
        if 'GenRec' in users:
            p = holm(
                {
                    name: paired_comparison(users['GenRec'], values).p
                    for name, values in users.items()
                    if name != 'GenRec'
                }
            )
        rows = [
            [
                row[0],
                row[1],
                f'{row[2]:.4f}',
                f'{row[3]:.4f}',
                row[4],
                f'{row[5]:.0f}' if row[5] != '' else '',
                f'{p[row[0]]:.3g}' if row[0] in p else '',
            ]
            for row in sorted(rows, key=lambda row: -row[3])
        ]
        early = [
            f'{name} after {entry["limit"]:.0f} s'
            for name, runs in systems.items()
            for entry in list(runs.values())[:1]
            if ended_early(entry)
        ]
        commits = sorted(
            {
                entry['commit']
                for runs in systems.values()
                for entry in runs.values()
                if 'commit' in entry
            }
        )
        header = ['model', 'runs', 'validation', 'test', 'deviation', 'processor s', 'p']
        text += [f'## {dataset}', '', markdown_table(header, rows), '']
        if early:
            text += [f'Ended by the clock: {", ".join(early)}.', '']
        if commits:
            text += [f'Measured at {", ".join(commits)}.', '']
    return '\n'.join(text)


def without_users(document: dict[str, Any]) -> dict[str, Any]:
    r"""The document without the recall of every user."""
    runs = {
        dataset: {
            name: {
                seed: {key: value for key, value in entry.items() if key != 'user_recall'}
                for seed, entry in entries.items()
            }
            for name, entries in systems.items()
        }
        for dataset, systems in document['runs'].items()
    }
    return {**document, 'runs': runs}


def main(argv: Sequence[str] | None = None) -> None:
    r"""Command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument(
        '--root', type=Path, required=True, help='folder that holds the folders of the datasets'
    )
    parser.add_argument(
        '--datasets',
        nargs='+',
        default=list(DATASETS),
        choices=list(DATASETS),
        help='all by default',
    )
    parser.add_argument(
        '--models', nargs='+', default=[*CLOSED_FORM, *TRAINED], help='models to run'
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], help='seeds of trained models')
    parser.add_argument('--seconds', type=positive, help='limit of every training and search')
    parser.add_argument(
        '--rivals', nargs='*', default=[], choices=RIVALS, help='trained models to tune and run'
    )
    parser.add_argument(
        '--rival_seconds',
        type=positive,
        default=300,
        help='processor seconds of the search of a rival on a dataset',
    )
    parser.add_argument('--threads', type=positive, default=1)
    parser.add_argument(
        '--state', type=Path, default=Path('runs') / 'transfer.json', help='file of finished runs'
    )
    parser.add_argument(
        '--output', type=Path, default=RESULTS / 'transfer', help='report without ending'
    )
    args = parser.parse_args(argv)
    prepare(args.threads)
    from genrec_pyg.nn.models import MODELS
    from genrec_pyg.utils.files import write_json

    unknown = [name for name in args.models if name not in MODELS]
    if unknown:
        parser.error(f'--models: got {", ".join(unknown)}, accepted are {", ".join(MODELS)}')
    document = json.loads(args.state.read_text()) if args.state.is_file() else {'runs': {}}
    document['machine'] = machine(args.threads)
    for dataset in args.datasets:
        systems = document['runs'].setdefault(dataset, {})
        modalities = any(t not in ('user', 'item') for t in DATASETS[dataset](args.root).node_types)
        models = [name for name in args.models if modalities or not MODELS[name].needs_modality]
        rivals = [name for name in args.rivals if modalities or not MODELS[name].needs_modality]
        plan = [
            (name, name, seed)
            for name in models
            for seed in (args.seeds if MODELS[name].trained else [0])
        ] + [(name + TUNED, name, seed) for name in rivals for seed in args.seeds]
        for row, name, seed in plan:
            done = systems.get(row, {})
            if str(seed) in done:
                continue
            if row == name:
                entry = run(dataset, name, seed, args.root, args.seconds)
            else:
                found = next((other['search'] for other in done.values()), None)
                entry = run_tuned(dataset, name, seed, args.root, args.rival_seconds, found)
            entry['commit'] = document['machine']['commit']
            systems.setdefault(row, {})[str(seed)] = entry
            print(
                f'{dataset} {row} seed {seed}: validation {entry["validation"]:.4f} test '
                f'{entry["test"]:.4f} {entry["processor_seconds"]:.0f} s',
                flush=True,
            )
            args.state.parent.mkdir(parents=True, exist_ok=True)
            write_json(args.state, document)
            write_report(args.output, without_users(document), report(document))
            args.output.with_suffix('.svg').write_text(picture(document), encoding='utf-8')


if __name__ == '__main__':
    main()
