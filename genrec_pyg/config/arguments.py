r"""The command line of ``python -m genrec_pyg.train``.

Layers as in :mod:`genrec_pyg.config.resolve`: the run that is continued or repeated, then
``--config FILE``, then flags.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrec_pyg.config.parser import CALL_KEYS, build_parser, parse, set_defaults
from genrec_pyg.config.resolve import settle
from genrec_pyg.config.schema import RunConfig, flatten, plain
from genrec_pyg.config.shipped import read_yaml, shipped_defaults
from genrec_pyg.datasets.io.logs import logs_of
from genrec_pyg.datasets.prepared import is_prepared
from genrec_pyg.datasets.saved import GRAPH_FILE
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.utils.command_line import underscored

#: What may differ from the interrupted run under ``--resume``; anything else would not continue the
#: same experiment.
RESUME_MAY_CHANGE = (
    'root',
    'check_features',
    'epochs',
    'device',
    'references',
    'trainer.patience',
    'trainer.max_seconds',
    'trainer.eval_every',
    'trainer.precision',
    'trainer.cuda_graph',
    'trainer.trackers',
)


@dataclass
class Call:
    r"""A parsed command line.

    Args:
        config: Configuration of the run.
        resume: Folder of the run to continue, if any.
        debug: Whether errors come with a traceback.
        print_config: Whether to print the configuration and leave.
        distributed: How processes share the model; no part of the configuration, since it does not
            change the result.
        distributed_timeout: Seconds that a process waits for the others to start, if not as long as
            torch does.
        start: Folder of the run whose parameters the model starts from, if any.
        grid: Blocks of nodes times blocks of channels with ``distributed='grid'``.
        checkpoint: Whether its checkpoints have tables ``'whole'`` or ``'sharded'``, or ``'auto'``,
            by their size.
    """

    config: RunConfig
    resume: str | None = None
    debug: bool = False
    print_config: bool = False
    distributed: str | None = None
    distributed_timeout: float | None = None
    start: str | None = None
    grid: str = 'auto'
    checkpoint: str = 'auto'


def parse_train_arguments(argv: Sequence[str]) -> Call:
    r"""Resolves the flags of ``python -m genrec_pyg.train``.

    Raises:
        ConfigError: On an unknown flag, key, model or a value of the wrong type; the message names
            it.
    """
    argv = underscored(argv)
    # Of others the last one counts, these would be dropped unseen.
    for flag in ('--config', '--resume', '--final', '--from', '--modalities', '--columns'):
        times = sum(argument == flag or argument.startswith(f'{flag}=') for argument in argv)
        if times > 1:
            raise ConfigError(f'{flag}: given {times} times, accepted is once')
    first = _first_look(argv)
    for flag in ('final', 'from'):
        if first.resume is not None and getattr(first, flag) is not None:
            raise ConfigError(
                f'--{flag}: got {getattr(first, flag)!r} with --resume, accepted is one of the two'
            )
    for flag in ('config', 'resume', 'final', 'from'):
        if getattr(first, flag) == '':
            raise ConfigError(f"--{flag}: got '', accepted is the name of a file or folder")
    layers = []
    if first.resume is not None:
        path = Path(first.resume) / 'config.yaml'
        run = read_yaml(path)
        for key in ('model', 'dataset'):  # they decide which other flags and defaults there are
            asked = getattr(first, key)
            if asked not in (None, run.get(key)):
                raise ConfigError(
                    f'--{key}: got {asked!r} with --resume, accepted is {run.get(key)!r} of the run'
                )
        run = {**run, 'output': first.resume}
        if isinstance(run.get('root'), str) and isinstance(run.get('dataset'), str):
            run['root'] = find_root(run['dataset'], run['root'], path.parent)
        layers.append((str(path), run))
    start = getattr(first, 'from')
    if start is not None:
        run = read_yaml(Path(start) / 'config.yaml')
        if first.model not in (None, run.get('model')):
            raise ConfigError(
                f'--model: got {first.model!r} with --from, accepted is {run.get("model")!r} '
                f'of the run'
            )
        layers.append((str(Path(start) / 'config.yaml'), {**run, 'output': None}))
    if first.final is not None:
        layers.append(
            (
                str(Path(first.final) / 'config.yaml'),
                _final_settings(Path(first.final), first.model),
            )
        )
    if first.config is not None:
        layers.append((first.config, read_yaml(Path(first.config))))
    named = {
        key: value
        for _, layer in layers
        for key, value in layer.items()
        if key in ('model', 'dataset')
    }
    model = first.model or named.get('model', RunConfig.model)
    dataset = first.dataset or named.get('dataset', RunConfig.dataset)
    variant = first.variant
    for _, layer in layers:
        hparams = layer.get('hparams')
        variant = (
            first.variant
            or (hparams.get('variant') if isinstance(hparams, dict) else None)
            or variant
        )
    parser = build_parser(model)
    interrupted: dict[str, Any] = {}
    for source, layer in [
        (f'configs/{model}.yaml', shipped_defaults(model, dataset, variant)),
        *layers,
    ]:
        set_defaults(parser, layer, source)
        if first.resume is not None and not interrupted and layer.get('output') == first.resume:
            defaults = plain(parser.get_defaults().as_dict())
            if defaults.get('hparams'):
                defaults['hparams'] = settle(model, defaults['hparams'])
            interrupted = flatten(defaults)
    values = parse(parser, argv)
    flags = {argument.partition('=')[0] for argument in argv if argument.startswith('--hparams.')}
    if values.get('hparams'):  # a model may have no settings
        values['hparams'] = settle(model, values['hparams'], [layer for _, layer in layers], flags)
    call = {key: values.pop(key) for key in CALL_KEYS}
    for flag in ('output', 'root'):
        if values[flag] == '':
            raise ConfigError(f"--{flag}: got '', accepted is the name of a folder")
    if not layers and not any(argument.partition('=')[0] == '--root' for argument in argv):
        values['root'] = _root_here(values['dataset'], values['root'])
    if first.final is not None and values['split'] != 'none':
        raise ConfigError(
            f'--split: got {values["split"]!r} with --final, which trains on all '
            f'interactions; accepted is none'
        )
    if first.resume is not None:
        _check_resumed(interrupted, flatten(values))
    return Call(
        RunConfig(**values),
        call['resume'],
        call['debug'],
        call['print_config'],
        call['distributed'],
        call['distributed_timeout'],
        call['from'],
        call['grid'],
        call['checkpoint'],
    )


def _final_settings(folder: Path, model: str | None) -> dict[str, Any]:
    r"""Settings of a training on all interactions after the run in ``folder``: those of the run, as
    many epochs as it chose.

    Raises:
        ConfigError: If the run is not finished or has another model.
    """
    run = read_yaml(folder / 'config.yaml')
    if model not in (None, run.get('model')):
        raise ConfigError(
            f'--model: got {model!r} with --final, accepted is {run.get("model")!r} of the run'
        )
    try:
        epoch = json.loads((folder / 'metrics.json').read_text('utf-8'))['epoch']
        epochs = max(int(epoch) + 1, 1)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f'--final: {folder} has no metrics.json with the epoch that was chosen, accepted is '
            f'the folder of a finished run'
        ) from error
    trainer = {**(run.get('trainer') or {}), 'max_seconds': None}
    if isinstance(run.get('root'), str) and isinstance(run.get('dataset'), str):
        run['root'] = find_root(run['dataset'], run['root'], folder)
    return {
        **run,
        'output': None,
        'split': 'none',
        'protocol': 'validation',
        'references': False,
        'epochs': epochs,
        'trainer': trainer,
    }


def find_root(dataset: str, root: str, run: Path | None = None) -> str:
    r"""The folder in which the dataset of a run lies now: the run itself, which holds the graph of
    a training in Python, ``root``, that of the training, or ``$GENREC_DATA``.
    """
    if run is not None and dataset == GRAPH_FILE and (run / dataset).is_file():
        return str(run)
    for candidate in (root, os.environ.get('GENREC_DATA')):
        if candidate and ((Path(candidate) / dataset).exists() or logs_of(dataset, candidate)):
            return candidate
    return root


def _root_here(dataset: str, root: str) -> str:
    r"""The current folder in place of ``root``, where a path from here names a file, logs or a
    prepared folder and one from there names nothing.
    """
    path = Path(dataset)
    here = (
        dataset != 'demo'
        and '\0' not in dataset
        and not (Path(root) / dataset).exists()
        and not logs_of(dataset, root)
        and (path.is_file() or is_prepared(path) or bool(logs_of(dataset, os.curdir)))
    )
    return os.curdir if here else root


def parse_columns(entries: Sequence[str] | None) -> dict[str, str] | None:
    r"""Role to column of a table from ``ROLE=NAME`` entries.

    Raises:
        ConfigError: On an entry of another form or a role that is given twice.
    """
    found: dict[str, str] = {}
    for entry in entries or ():
        role, equals, name = entry.partition('=')
        if not (role and equals and name) or role in found:
            raise ConfigError(
                f'--columns: got {entry!r}, accepted are user=NAME item=NAME rating=NAME '
                f'time=NAME, each once'
            )
        found[role] = name
    return found or None


def _first_look(argv: Sequence[str]) -> argparse.Namespace:
    r"""The few flags that decide which other flags there are."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in ('--model', '--dataset', '--config', '--resume'):
        parser.add_argument(flag)
    parser.add_argument('--final', '--like', dest='final')
    parser.add_argument('--from')
    parser.add_argument('--hparams.variant', dest='variant')
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            return parser.parse_known_args([a for a in argv if a not in ('-h', '--help')])[0]
    except (argparse.ArgumentError, SystemExit) as error:
        raise ConfigError(f'{error}; see --help') from error


def _check_resumed(before: dict[str, Any], after: dict[str, Any]) -> None:
    for key, value in after.items():
        if key not in RESUME_MAY_CHANGE and value != before.get(key):
            raise ConfigError(
                f'--{key}: got {value!r} with --resume, accepted is {before.get(key)!r} of the '
                f'run; what may change is {", ".join(RESUME_MAY_CHANGE)}'
            )
