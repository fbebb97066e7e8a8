r"""The configuration of a run: one declaration for flags, YAML files and what is printed.

Fixed flags are declared in :func:`build_parser`; ``--trainer.*`` come from the signature of
:class:`~genrec_pyg.training.Trainer` and ``--hparams.*`` from the constructor of the chosen model, so a new model needs no
configuration code. Later entries win: signature defaults, ``config/defaults/FAMILY/MODEL.yaml`` (``default:``, then
the dataset's section,
then both of the chosen variant), ``--config FILE``, flags.
"""
from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Optional

import yaml
from jsonargparse import ArgumentParser

from genrec_pyg.datasets.prepared import is_prepared
from genrec_pyg.datasets.saved import GRAPH_FILE
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import MODELS, get_model
from genrec_pyg.training import Trainer
from genrec_pyg.training.trainer import NO_GROUP

logger = logging.getLogger(__name__)

#: Keys that hold settings of one part each.
_GROUPS = ('trainer', 'hparams')
#: Keys of a configuration that name this call rather than the run.
_CALL_KEYS = ('config', 'print_config', 'resume', 'final', 'from', 'debug', 'distributed', 'distributed_timeout', 'grid',
              'checkpoint')
#: What may differ from the interrupted run under ``--resume``; anything else would not continue the same experiment.
_RESUME_MAY_CHANGE = ('root', 'check_features', 'epochs', 'device', 'references', 'trainer.patience', 'trainer.max_seconds',
                      'trainer.eval_every', 'trainer.precision', 'trainer.cuda_graph')


@dataclass
class RunConfig:
    r"""Resolved configuration of a run; every field is a flag and a YAML key of the same name.

    Args:
        dataset: Dataset, the name of its folder or the path of its table under ``root``, or ``'demo'``.
        root: Folder of the datasets.
        modalities: Modalities to use, ``NAME`` or ``NAME=FILE``; :obj:`None` takes all.
        columns: Columns of a table, ``ROLE=NAME``; others are found by usual names.
        min_rating: Least rating that counts as an interaction.
        core: Least number of items per user and users per item.
        split: Split in place of that of the dataset, see :func:`~genrec_pyg.datasets.from_table`.
        check_features: What follows from features that do not belong to the items: ``'error'``, ``'warn'`` or ``'off'``, see
            :func:`~genrec_pyg.datasets.from_table`.
        model: Name of the model.
        seed: Seed.
        epochs: Largest number of epochs.
        device: ``'auto'`` or a torch device.
        protocol: ``'validation'`` or ``'published'``.
        mirror_gradient: Whether Mirror Gradient wraps the optimizer.
        references: Whether reference models, tuned on validation, are evaluated next to the model.
        output: Folder of the run.
        trainer: Further arguments of the trainer.
        hparams: Hyper-parameters of the model.
    """
    dataset: str = 'demo'
    root: str = 'data'
    modalities: Optional[list[str]] = None
    columns: Optional[list[str]] = None
    min_rating: Optional[float] = None
    core: int = 0
    split: Optional[str] = None
    check_features: str = 'error'
    model: str = 'GenRec'
    seed: int = 0
    epochs: int = 50
    device: str = 'auto'
    protocol: str = 'validation'
    mirror_gradient: bool = False
    references: bool = True
    output: Optional[str] = None
    trainer: dict[str, Any] = field(default_factory=dict)
    hparams: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        r"""Plain values, as written to ``config.yaml``."""
        return asdict(self)

    def to_yaml(self) -> str:
        r"""YAML that ``--config`` reads back."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)


@dataclass
class Call:
    r"""A parsed command line.

    Args:
        config: Configuration of the run.
        resume: Folder of the run to continue, if any.
        debug: Whether errors come with a traceback.
        print_config: Whether to print the configuration and leave.
        distributed: How processes share the model; no part of the configuration, since it does not change the result.
        distributed_timeout: Seconds that a process waits for the others to start, if not as long as torch does.
        start: Folder of the run whose parameters the model starts from, if any.
        grid: Blocks of nodes times blocks of channels with ``distributed='grid'``.
        checkpoint: Whether its checkpoints have tables ``'whole'`` or ``'sharded'``, or ``'auto'``, by their size.
    """
    config: RunConfig
    resume: Optional[str] = None
    debug: bool = False
    print_config: bool = False
    distributed: Optional[str] = None
    distributed_timeout: Optional[float] = None
    start: Optional[str] = None
    grid: str = 'auto'
    checkpoint: str = 'auto'


def parse_train_arguments(argv: Sequence[str]) -> Call:
    r"""Resolves the flags of ``python -m genrec_pyg.train``.

    Raises:
        ConfigError: On an unknown flag, key, model or a value of the wrong type; the message names it.
    """
    # Of others the last one counts, these would be dropped unseen.
    for flag in ('--config', '--resume', '--final', '--from', '--modalities', '--columns'):
        times = sum(argument == flag or argument.startswith(f'{flag}=') for argument in argv)
        if times > 1:
            raise ConfigError(f'{flag}: given {times} times, accepted is once')
    first = _first_look(argv)
    for flag in ('final', 'from'):
        if first.resume is not None and getattr(first, flag) is not None:
            raise ConfigError(f'--{flag}: got {getattr(first, flag)!r} with --resume, accepted is one of the two')
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
                raise ConfigError(f'--{key}: got {asked!r} with --resume, accepted is {run.get(key)!r} of the run')
        run = {**run, 'output': first.resume}
        if isinstance(run.get('root'), str) and isinstance(run.get('dataset'), str):
            run['root'] = find_root(run['dataset'], run['root'], path.parent)
        layers.append((str(path), run))
    start = getattr(first, 'from')
    if start is not None:
        run = read_yaml(Path(start) / 'config.yaml')
        if first.model not in (None, run.get('model')):
            raise ConfigError(f"--model: got {first.model!r} with --from, accepted is {run.get('model')!r} of the run")
        layers.append((str(Path(start) / 'config.yaml'), {**run, 'output': None}))
    if first.final is not None:
        layers.append((str(Path(first.final) / 'config.yaml'), _final_settings(Path(first.final), first.model)))
    if first.config is not None:
        layers.append((first.config, read_yaml(Path(first.config))))
    named = {key: value for _, layer in layers for key, value in layer.items() if key in ('model', 'dataset')}
    model = first.model or named.get('model', RunConfig.model)
    dataset = first.dataset or named.get('dataset', RunConfig.dataset)
    variant = first.variant
    for _, layer in layers:
        hparams = layer.get('hparams')
        variant = first.variant or (hparams.get('variant') if isinstance(hparams, dict) else None) or variant
    parser = build_parser(model)
    interrupted: dict[str, Any] = {}
    for source, layer in [(f'configs/{model}.yaml', shipped_defaults(model, dataset, variant)), *layers]:
        _set_defaults(parser, layer, source)
        if first.resume is not None and not interrupted and layer.get('output') == first.resume:
            defaults = _plain(parser.get_defaults().as_dict())
            if defaults.get('hparams'):
                defaults['hparams'] = _settle(model, defaults['hparams'])
            interrupted = flatten(defaults)
    values = _parse(parser, argv)
    flags = {argument.partition('=')[0] for argument in argv if argument.startswith('--hparams.')}
    if values.get('hparams'):  # a model may have no settings
        values['hparams'] = _settle(model, values['hparams'], [layer for _, layer in layers], flags)
    call = {key: values.pop(key) for key in _CALL_KEYS}
    for flag in ('output', 'root'):
        if values[flag] == '':
            raise ConfigError(f"--{flag}: got '', accepted is the name of a folder")
    if not layers and not any(argument.partition('=')[0] == '--root' for argument in argv):
        values['root'] = _root_here(values['dataset'], values['root'])
    if first.final is not None and values['split'] != 'none':
        raise ConfigError(f"--split: got {values['split']!r} with --final, which trains on all interactions; accepted is none")
    if first.resume is not None:
        _check_resumed(interrupted, flatten(values))
    return Call(RunConfig(**values), call['resume'], call['debug'], call['print_config'], call['distributed'],
                call['distributed_timeout'], call['from'], call['grid'],
                call['checkpoint'])


def build_parser(model: str) -> ArgumentParser:
    r"""The parser for ``model``.

    Raises:
        ConfigError: If there is no such model.
    """
    parser = _Parser(prog='python -m genrec_pyg.train', description='Trains and evaluates a recommendation model.',
                     exit_on_error=False, allow_abbrev=False, print_config=None)  # the built-in one misses our layers
    root = os.environ.get('GENREC_DATA') or RunConfig.root
    parser.add_argument('--config', type=str, help='YAML file with any of these keys, for example of a run')
    parser.add_argument('--print_config', action='store_true', help='print the resolved configuration and leave')
    parser.add_argument('--resume', type=str, help='folder of a run to continue')
    parser.add_argument('--final', '--like', type=str, help='folder of a finished run: its settings and number of epochs, '
                        'on all interactions')
    parser.add_argument('--from', type=str, help='folder of a run: its settings, and its parameters as the start, on data '
                        'that have grown since (--dataset); users and items are matched by their ids')
    parser.add_argument('--debug', action='store_true', help='show tracebacks')
    parser.add_argument('--distributed', type=str, help='under torchrun: ddp (its default), sharded, which splits '
                        'the tables too, or grid, which divides the work of every step')
    parser.add_argument('--grid', type=str, default='auto', help='with --distributed grid: blocks of nodes x blocks of '
                        'channels, such as 2x4 (default: auto, the cheapest expected)')
    parser.add_argument('--distributed_timeout', type=Optional[float], help='under torchrun: seconds to wait for the other '
                        'processes to start (default: half an hour)')
    parser.add_argument('--checkpoint', type=str, default='auto', help='with --distributed grid: whole, sharded (every '
                        'process writes its block of the tables), or auto, sharded from 2 GB')
    parser.add_argument('--dataset', type=str, default=RunConfig.dataset, help='folder under --root, also one that '
                        'python -m genrec_pyg.prepare made, table NAME/FILE under it (CSV, TSV, JSON lines, Parquet, .inter) '
                        'or demo; a table or prepared folder may also be a path from the current folder')
    parser.add_argument('--root', type=str, default=root, help='folder of the datasets (default: $GENREC_DATA, else data)')
    parser.add_argument('--modalities', type=str, nargs='*', help='NAME or NAME=FILE; all by default')
    parser.add_argument('--columns', type=str, nargs='*', help='columns of a table, as user=NAME item=NAME rating=NAME '
                        'time=NAME; numbers from 1 where it has no header')
    parser.add_argument('--min-rating', type=Optional[float], help='least rating that counts as an interaction')
    parser.add_argument('--core', type=int, default=RunConfig.core, help='least number of items per user and users per item')
    parser.add_argument('--split', type=Optional[str], help='random:0.1,0.1, time:0.1,0.1, users:0.1,0.1, '
                        'cold_items:0.1,0.1 (validation, test), leave-one-out, column:NAME or none (all for the training); by '
                        'default that of the dataset, else random:0.1,0.1')
    parser.add_argument('--check_features', type=str, default=RunConfig.check_features, help='features that do not belong '
                        'to the items are an error, named in a warning (warn), or not looked for (off)')
    parser.add_argument('--model', type=str, default=model, help=f"one of {', '.join(MODELS)}, "
                        "the entry point of an installed package, or package.module:Class")
    parser.add_argument('--seed', type=int, default=RunConfig.seed, help='seed of everything that is drawn at random')
    parser.add_argument('--epochs', type=int, default=RunConfig.epochs, help='largest number of epochs')
    parser.add_argument('--device', type=str, default=RunConfig.device, help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--protocol', type=str, default=RunConfig.protocol, help='validation or published')
    parser.add_argument('--mirror-gradient', action='store_true',
                        help='Mirror Gradient; its coefficients are --trainer.mg_alpha1, mg_alpha2 and mg_interval')
    parser.add_argument('--references', type=bool, default=RunConfig.references, help='evaluate the reference models too')
    parser.add_argument('--output', type=str, help='folder of the run (default: runs/MODEL-DATASET-seedN)')
    parser.add_class_arguments(Trainer, 'trainer', skip=NO_GROUP)
    parser.add_class_arguments(get_model(model), 'hparams', skip={'data', 'modalities'})
    return parser


def _final_settings(folder: Path, model: Optional[str]) -> dict[str, Any]:
    r"""Settings of a training on all interactions after the run in ``folder``: those of the run, as many epochs as it chose.

    Raises:
        ConfigError: If the run is not finished or has another model.
    """
    run = read_yaml(folder / 'config.yaml')
    if model not in (None, run.get('model')):
        raise ConfigError(f"--model: got {model!r} with --final, accepted is {run.get('model')!r} of the run")
    try:
        epoch = json.loads((folder / 'metrics.json').read_text('utf-8'))['epoch']
        epochs = max(int(epoch) + 1, 1)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f'--final: {folder} has no metrics.json with the epoch that was chosen, accepted is the folder of a '
                          'finished run') from error
    trainer = {**(run.get('trainer') or {}), 'max_seconds': None}
    if isinstance(run.get('root'), str) and isinstance(run.get('dataset'), str):
        run['root'] = find_root(run['dataset'], run['root'], folder)
    return {**run, 'output': None, 'split': 'none', 'protocol': 'validation', 'references': False, 'epochs': epochs,
            'trainer': trainer}


def find_root(dataset: str, root: str, run: Optional[Path] = None) -> str:
    r"""The folder in which the dataset of a run lies now: the run itself, which holds the graph of a training in Python,
    ``root``, that of the training, or ``$GENREC_DATA``."""
    if run is not None and dataset == GRAPH_FILE and (run / dataset).is_file():
        return str(run)
    for candidate in (root, os.environ.get('GENREC_DATA')):
        if candidate and (Path(candidate) / dataset).exists():
            return candidate
    return root


def _root_here(dataset: str, root: str) -> str:
    r"""The current folder in place of ``root``, where a path from here names a file or a prepared folder and one from there
    names nothing."""
    path = Path(dataset)
    here = dataset != 'demo' and '\0' not in dataset and not (Path(root) / dataset).exists() \
        and (path.is_file() or is_prepared(path))
    return os.curdir if here else root


def parse_columns(entries: Optional[Sequence[str]]) -> Optional[dict[str, str]]:
    r"""Role to column of a table from ``ROLE=NAME`` entries.

    Raises:
        ConfigError: On an entry of another form or a role that is given twice.
    """
    found: dict[str, str] = {}
    for entry in entries or ():
        role, equals, name = entry.partition('=')
        if not (role and equals and name) or role in found:
            raise ConfigError(f'--columns: got {entry!r}, accepted are user=NAME item=NAME rating=NAME time=NAME, each once')
        found[role] = name
    return found or None


def shipped_defaults(model: str, dataset: str, variant: Optional[str] = None) -> dict[str, Any]:
    r"""Defaults of this package for a model, or a variant of it, on a dataset, from ``config/defaults/FAMILY/MODEL.yaml``."""
    content = shipped_file(model)
    merged: dict[str, Any] = {}
    for section in (content, (content.get('variants') or {}).get(variant) or {}):
        merged = merge(merged, section.get('default') or {})
        merged = merge(merged, (section.get('datasets') or {}).get(dataset) or {})
    return merged


def shipped_file(model: str) -> dict[str, Any]:
    r"""Content of ``config/defaults/FAMILY/MODEL.yaml``, empty where there is none: the sections ``default``,
    ``datasets``, ``variants`` and
    ``search`` (:mod:`genrec_pyg.tuning`)."""
    entry = MODELS.get(model)
    if entry is None:
        return {}
    source = resources.files('genrec_pyg.config') / 'defaults' / entry.family / f'{model}.yaml'
    return (yaml.safe_load(source.read_text('utf-8')) or {}) if source.is_file() else {}


def check_settings(model: str, settings: dict[str, Any], source: str) -> dict[str, Any]:
    r"""Settings by dotted name (``'trainer.lr'``), in the types of the flags of ``model``.

    Raises:
        ConfigError: On a name or a value that the flags do not take; the message begins with ``source``.
    """
    layer: dict[str, Any] = {}
    for name, value in settings.items():
        group, dot, key = name.partition('.')
        layer.update({group: {**layer.get(group, {}), key: value}} if dot else {name: value})
    parser = build_parser(model)
    _set_defaults(parser, layer, source)
    typed = flatten(parser.get_defaults().as_dict())
    return {name: typed[name] for name in settings}


def read_yaml(path: Path) -> dict[str, Any]:
    r"""Reads a configuration file.

    Raises:
        ConfigError: If it is missing or no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text('utf-8'))
    except OSError as error:
        raise ConfigError(f'{path}: cannot be read ({error.strerror}); accepted is a YAML file such as the config.yaml of a '
                          'run') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path}: not a YAML file ({str(error).splitlines()[0]})') from error
    if not isinstance(content, dict):
        raise ConfigError(f'{path}: holds {type(content).__name__}, accepted is a mapping of settings')
    return content


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Optional[Exception] = None) -> None:
        raise ConfigError(' '.join(str(message).split()))


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


def _parse(parser: ArgumentParser, argv: Sequence[str]) -> dict[str, Any]:
    try:
        values = parser.parse_args(list(argv))
    except (argparse.ArgumentError, ConfigError, ValueError, TypeError) as error:
        raise ConfigError(_explain(str(error), parser, '--')) from error
    return _plain(values.as_dict())


def _explain(message: str, parser: ArgumentParser, prefix: str) -> str:
    r"""One line that names flag or key, value and what is accepted, from a message of the parser."""
    message = re.sub(r'^(Parser key|argument) "?(?:--)?([\w.]+)"?:', rf'{prefix}\2:', ' '.join(message.split()))
    unknown = re.match(r'unrecognized arguments: (--(trainer|hparams)\.)?', message, re.IGNORECASE)
    if unknown is None:
        return f'{message}; see --help'
    group = unknown[2]
    accepted = parser.get_defaults().as_dict()
    names = [f'--{group}.{name}' for name in accepted.get(group) or {}] if group else [
        f'--{name}.*' if name in _GROUPS else f'--{name}' for name in accepted]
    return f"{message}; accepted are {', '.join(names) or 'none'}"


def _set_defaults(parser: ArgumentParser, values: dict[str, Any], source: str) -> None:
    r"""Makes ``values`` of a YAML file the defaults of the flags, types checked."""
    accepted = parser.get_defaults().as_dict()
    keys = [key for key in accepted if key not in _CALL_KEYS]
    for key, value in values.items():
        if key not in keys and not (key in _GROUPS and not value):
            raise ConfigError(f"{source}: unknown key {key!r}, accepted are {', '.join(keys)}")
        if key not in _GROUPS:
            continue
        if not isinstance(value or {}, dict):
            raise ConfigError(f'{source}: {key}: got {value!r}, accepted is a mapping of settings')
        for name in value or {}:
            if name not in accepted[key]:
                raise ConfigError(f"{source}: unknown key '{key}.{name}', accepted are {', '.join(accepted[key])}")
    for key in ('modalities', 'columns'):
        names = values.get(key)
        if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ConfigError(f'{source}: {key}: got {names!r}, accepted is a list of names')
    values = {key: value for key, value in values.items() if key not in _GROUPS or value}
    try:
        checked = flatten(parser.parse_object(values).as_dict())
        parser.set_defaults({key: checked[key] for key in flatten(values)})
    except (ConfigError, ValueError, TypeError, argparse.ArgumentError) as error:
        raise ConfigError(f'{source}: {_explain(str(error), parser, "")}') from error


def _check_resumed(before: dict[str, Any], after: dict[str, Any]) -> None:
    for key, value in after.items():
        if key not in _RESUME_MAY_CHANGE and value != before.get(key):
            raise ConfigError(f'--{key}: got {value!r} with --resume, accepted is {before.get(key)!r} of the run; '
                              f"what may change is {', '.join(_RESUME_MAY_CHANGE)}")


def _settle(model: str, hparams: dict[str, Any], layers: Sequence[dict[str, Any]] = (),
            flags: Collection[str] = ()) -> dict[str, Any]:
    r"""Gives options that others take the place of the values that count, so that a configuration says what is trained.

    Defaults of this package do so silently, files of the user's with a warning; flags are left for the model to refuse.
    """
    hparams = dict(hparams)
    for name, (value, by) in get_model(model).ineffective_options(hparams).items():
        if f'--hparams.{name}' in flags:
            continue
        if any(name in (layer.get('hparams') or {}) for layer in layers):
            logger.warning('hparams.%s: %r has no effect with %s and is taken as %r', name, hparams[name], by, value)
        hparams[name] = value
    return hparams


def flatten(values: dict[str, Any]) -> dict[str, Any]:
    r"""The same settings with dotted names (``'trainer.lr'``)."""
    flat = {}
    for key, value in values.items():
        if key in _GROUPS:
            flat.update({f'{key}.{name}': _plain(entry) for name, entry in (value or {}).items()})
        else:
            flat[key] = _plain(value)
    return flat


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    r"""``base`` with the entries of ``over``; the settings within groups one by one."""
    merged = dict(base)
    for key, value in over.items():
        merged[key] = {**(merged.get(key) or {}), **(value or {})} if key in _GROUPS else value
    return merged


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value
