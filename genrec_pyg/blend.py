r"""Fuses finished runs into one: ``python -m genrec_pyg.blend RUN RUN ...``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genrec_pyg.config.blending import Weights, blend, choose_weights, load_members, save_blend
from genrec_pyg.config.build import Run, fuse
from genrec_pyg.evaluation import Evaluator, evaluate, write_per_user
from genrec_pyg.graph import has_split
from genrec_pyg.nn.interest.held_out import MIN_USERS
from genrec_pyg.reporting.reference_models import result_table
from genrec_pyg.runs.folder import RunFolder
from genrec_pyg.utils.command_line import path_argument, run_command
from genrec_pyg.utils.files import check_stdout, write_stdout


def blend_command(argv: Sequence[str]) -> Weights:
    r"""Blends runs as the command line asks and prints members and blend."""
    parser = argparse.ArgumentParser(
        prog='python -m genrec_pyg.blend',
        allow_abbrev=False,
        description='Adds the scores of finished runs, standardized per user, with weights found '
        'on the validation split.',
    )
    parser.add_argument(
        'run', nargs='+', type=path_argument, help='folders of runs of the same data and split'
    )
    parser.add_argument(
        '--output', type=path_argument, help='folder of the blend (default: runs/Blend-DATASET)'
    )
    parser.add_argument(
        '--root', type=path_argument, help='folder of the datasets, where it has moved since'
    )
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--debug', action='store_true', help='show tracebacks')
    arguments = parser.parse_args(argv)
    check_stdout()
    runs = load_members(arguments.run, arguments.root, arguments.device)
    # refuses runs that do not fit, before anything is measured
    fuse(runs, dict.fromkeys(runs, 1.0), False)
    config = next(iter(runs.values())).config
    if arguments.output is not None:
        taken = RunFolder.create(Path(arguments.output))
    else:
        taken = RunFolder.create_numbered(
            Path('runs') / f'Blend-{config.dataset}'.replace(os.sep, '_')
        )
    with taken as folder:
        weights = choose_weights(runs)
        blended = blend(runs, weights)
        figures = {name: _figures(run) for name, run in {**runs, 'Blend': blended}.items()}
        metrics = {
            **figures['Blend'],
            'model': 'Blend',
            'dataset': config.dataset,
            'protocol': config.protocol,
            'selection': blended.selection,
            'weights': weights.values,
            'recall_of_search': weights.recall,
            'members': {name: figures[name] for name in runs},
        }
        save_blend(folder.path, dict(zip(runs, arguments.run)), weights, metrics)
        folder.keep()
        for split in ('val', 'test'):
            if has_split(blended.data, split):
                write_per_user(
                    folder.path, Evaluator(blended.data, split).measure(blended.model).users
                )
    write_stdout(
        f'{result_table(figures, f"{config.dataset}, {blended.selection}")}\n{_sentence(weights)}\n'
        f'run folder {folder.path}\n'
    )
    return weights


def _figures(run: Run) -> dict[str, dict[str, Any]]:
    return {
        label: evaluate(run.model, run.data, split, (10, 20)) if has_split(run.data, split) else {}
        for split, label in (('val', 'validation'), ('test', 'test'))
    }


def _sentence(weights: Weights) -> str:
    values = ', '.join(f'{name} {weight:g}' for name, weight in weights.values.items())
    if weights.chosen:
        return f'weights: {values} (found on {weights.num_users} users of the validation split)'
    return (
        f'weights: {values} (equal: {weights.num_users} users have validation items, fewer than '
        f'the {MIN_USERS} on which weights are chosen)'
    )


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    return run_command(blend_command, argv)


if __name__ == '__main__':
    sys.exit(main())
