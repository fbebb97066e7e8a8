r"""Flags of a run, from the signatures of the trainer and of the chosen model.

Fixed flags are declared in :func:`build_parser`; ``--trainer.*`` come from the signature of
:class:`~genrec_pyg.training.Trainer` and ``--hparams.*`` from the constructor of the model, so a
new model needs no configuration code.
"""

from __future__ import annotations

import argparse
import inspect
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import docstring_parser
import yaml
from jsonargparse import ArgumentParser

from genrec_pyg.config.schema import GROUPS, RunConfig, flatten, plain, unflatten
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import MODELS, get_model
from genrec_pyg.nn.models.settings import former_settings, nested, upgrade
from genrec_pyg.training import Trainer
from genrec_pyg.training.trainer import NO_GROUP

#: Keys of a configuration that name this call rather than the run.
CALL_KEYS = (
    'config',
    'print_config',
    'resume',
    'final',
    'from',
    'debug',
    'distributed',
    'distributed_timeout',
    'grid',
    'checkpoint',
)


#: Keys of a configuration by their names in an earlier version.
FORMER_KEYS = {'core': 'k_core'}


class Parser(ArgumentParser):
    r"""Parser of the flags of ``python -m genrec_pyg.train`` for one model."""

    #: Class of the model.
    model: type

    def error(self, message: str, ex: Exception | None = None) -> None:
        raise ConfigError(' '.join(str(message).split()))


def build_parser(model: str) -> Parser:
    r"""The parser for ``model``.

    Raises:
        ConfigError: If there is no such model.
    """
    parser = Parser(
        prog='python -m genrec_pyg.train',
        description='Trains and evaluates a recommendation model.',
        # the built-in one misses our layers
        exit_on_error=False,
        allow_abbrev=False,
        print_config=None,
    )
    parser.model = get_model(model)
    root = os.environ.get('GENREC_DATA') or RunConfig.root
    parser.add_argument(
        '--config', type=str, help='YAML file with any of these keys, for example of a run'
    )
    parser.add_argument(
        '--print_config', action='store_true', help='print the resolved configuration and leave'
    )
    parser.add_argument('--resume', type=str, help='folder of a run to continue')
    parser.add_argument(
        '--final',
        '--like',
        type=str,
        help='folder of a finished run: its settings and number of epochs, on all interactions',
    )
    parser.add_argument(
        '--from',
        type=str,
        help='folder of a run: its settings, and its parameters as the start, on data '
        'that have grown since (--dataset); users and items are matched by their ids',
    )
    parser.add_argument('--debug', action='store_true', help='show tracebacks')
    parser.add_argument(
        '--distributed',
        type=str,
        help='under torchrun: ddp (its default), sharded, which splits '
        'the tables too, or grid, which divides the work of every step',
    )
    parser.add_argument(
        '--grid',
        type=str,
        default='auto',
        help='with --distributed grid: blocks of nodes x blocks of '
        'channels, such as 2x4 (default: auto, the cheapest expected)',
    )
    parser.add_argument(
        '--distributed_timeout',
        type=float | None,
        help='under torchrun: seconds to wait for the other '
        'processes to start (default: half an hour)',
    )
    parser.add_argument(
        '--checkpoint',
        type=str,
        default='auto',
        help='with --distributed grid: whole, sharded (every '
        'process writes its block of the tables), or auto, sharded from 2 GB',
    )
    parser.add_argument(
        '--dataset',
        type=str,
        default=RunConfig.dataset,
        help='folder under --root, also one that python -m genrec_pyg.prepare made, table '
        'NAME/FILE under it (CSV, TSV, JSON lines, Parquet, .inter), a pattern of logs that are '
        'read as one, or demo; a table, pattern or prepared folder may also be a path from the '
        'current folder',
    )
    parser.add_argument(
        '--root',
        type=str,
        default=root,
        help='folder of the datasets (default: $GENREC_DATA, else data)',
    )
    parser.add_argument(
        '--modalities', type=str, nargs='*', help='NAME or NAME=FILE; all by default'
    )
    parser.add_argument(
        '--columns',
        type=str,
        nargs='*',
        help='columns of a table, as user=NAME item=NAME rating=NAME '
        'time=NAME; numbers from 1 where it has no header',
    )
    parser.add_argument(
        '--on_bad_row',
        type=str,
        default=RunConfig.on_bad_row,
        help='rows of a table or log that cannot be read are an error, or counted and left out '
        '(skip)',
    )
    parser.add_argument(
        '--min_rating', type=float | None, help='least rating that counts as an interaction'
    )
    parser.add_argument(
        '--k_core',
        type=int,
        default=RunConfig.k_core,
        help='least number of items per user and users per item',
    )
    parser.add_argument(
        '--split',
        type=str | None,
        help='random:0.1,0.1, time:0.1,0.1, users:0.1,0.1, cold_items:0.1,0.1 (validation, test), '
        'leave-one-out, column:NAME or none (all for the training); by default that of the '
        'dataset, else random:0.1,0.1',
    )
    parser.add_argument(
        '--check_features',
        type=str,
        default=RunConfig.check_features,
        help='features that do not belong to the items are an error, named in a warning (warn), '
        'or not looked for (off)',
    )
    parser.add_argument(
        '--model',
        type=str,
        default=model,
        help=f'one of {", ".join(MODELS)}, the entry point of an installed package, or '
        f'package.module:Class',
    )
    parser.add_argument(
        '--seed',
        type=int,
        default=RunConfig.seed,
        help='seed of everything that is drawn at random',
    )
    parser.add_argument(
        '--epochs', type=int, default=RunConfig.epochs, help='largest number of epochs'
    )
    parser.add_argument(
        '--device', type=str, default=RunConfig.device, help='auto, cpu, cuda or cuda:N'
    )
    parser.add_argument(
        '--protocol', type=str, default=RunConfig.protocol, help='validation or published'
    )
    parser.add_argument(
        '--mirror_gradient',
        action='store_true',
        help='Mirror Gradient; its coefficients are --trainer.mg_alpha1, mg_alpha2 and mg_interval',
    )
    parser.add_argument(
        '--references',
        type=bool,
        default=RunConfig.references,
        help='evaluate the reference models too',
    )
    parser.add_argument(
        '--output', type=str, help='folder of the run (default: runs/MODEL-DATASET-seedN)'
    )
    parser.add_class_arguments(Trainer, 'trainer', skip=NO_GROUP)
    parser.add_class_arguments(parser.model, 'hparams', skip={'data', 'modalities'})
    _share_sentences(parser)
    return parser


def _share_sentences(parser: Parser) -> None:
    r"""Gives arguments that a docstring names together, as ``rank, layers: ...``, the sentence that
    they share.
    """
    docstring = docstring_parser.parse(inspect.getdoc(parser.model) or '')
    shared = {
        f'hparams.{name}': param.description
        for param in docstring.params
        for name in param.arg_name.split(', ')
        if ', ' in param.arg_name
    }
    for action in parser._actions:
        if not (action.help or '').strip() and shared.get(action.dest):
            action.help = shared[action.dest].replace('%', '%%')


def parse(parser: Parser, argv: Sequence[str]) -> dict[str, Any]:
    r"""Values of the flags ``argv``, with the defaults of ``parser``.

    Raises:
        ConfigError: On an unknown flag or a value of the wrong type.
    """
    try:
        values = parser.parse_args(list(argv))
    except (argparse.ArgumentError, ConfigError, ValueError, TypeError) as error:
        raise ConfigError(explain(str(error), parser, '--')) from error
    return plain(values.as_dict())


def set_defaults(parser: Parser, values: Mapping[str, Any], source: str) -> None:
    r"""Makes ``values``, such as those of a YAML file, the defaults of the flags, types checked;
    settings of earlier versions are taken under their present names.

    Raises:
        ConfigError: On an unknown key or a value of the wrong type; the message begins with
            ``source``.
    """
    accepted = parser.get_defaults().as_dict()
    values = {FORMER_KEYS.get(key, key): value for key, value in values.items()}
    keys = [key for key in accepted if key not in CALL_KEYS]
    for key, value in values.items():
        if key not in keys and not (key in GROUPS and not value):
            raise ConfigError(f'{source}: unknown key {key!r}, accepted are {", ".join(keys)}')
        if key in GROUPS and not isinstance(value or {}, dict):
            raise ConfigError(f'{source}: {key}: got {value!r}, accepted is a mapping of settings')
    if values.get('hparams'):
        values = {**values, 'hparams': nested(upgrade(parser.model, values['hparams']))}
    flat = flatten(values, accepted['model'])
    known = flatten(accepted)
    for name in flat:
        if name.partition('.')[0] in GROUPS and name not in known:
            group = name.rpartition('.')[0]
            group = (
                group
                if any(other.startswith(f'{group}.') for other in known)
                else name.partition('.')[0]
            )
            names = [
                other.removeprefix(f'{group}.') for other in known if other.startswith(f'{group}.')
            ]
            raise ConfigError(
                f"{source}: unknown key '{name}', accepted are {', '.join(names) or 'none'}"
            )
    for key in ('modalities', 'columns'):
        names = values.get(key)
        if names is not None and not (
            isinstance(names, list) and all(isinstance(name, str) for name in names)
        ):
            raise ConfigError(f'{source}: {key}: got {names!r}, accepted is a list of names')
    values = {key: value for key, value in values.items() if key not in GROUPS or value}
    try:
        checked = flatten(
            parser.parse_object(unflatten(flatten(values, accepted['model']))).as_dict()
        )
        parser.set_defaults({name: checked[name] for name in flat})
    except (ConfigError, ValueError, TypeError, argparse.ArgumentError) as error:
        raise ConfigError(f'{source}: {explain(str(error), parser, "")}') from error


def explain(message: str, parser: Parser, prefix: str) -> str:
    r"""One line that names flag or key, value and what is accepted, from a message of the
    parser.
    """
    message = re.sub(
        r'^(Parser key|argument) "?(?:--)?([\w.]+)"?:', rf'{prefix}\2:', ' '.join(message.split())
    )
    group = re.match(rf'{prefix}(hparams\.\w+): Unable to load config \W(.*?)\W(?: |$)', message)
    if group is not None:
        now = _present_name(parser, f'--{group[1]} {group[2]}')
        return (
            f'{prefix}{group[1]}: got {group[2]!r}, accepted is a mapping of its settings'
            f'{f"; it is {now} now" if now else ""}'
        )
    unknown = re.match(r'unrecognized arguments: (--(trainer|hparams)\.)?', message, re.IGNORECASE)
    if unknown is None:
        return f'{message}; see --help'
    group = unknown[2]
    accepted = parser.get_defaults().as_dict()
    now = _present_name(parser, message)
    if now:
        return f'{message}; it is {now} now'
    if group is None:
        names = [f'--{name}.*' if name in GROUPS else f'--{name}' for name in accepted]
    else:
        names = [f'--{name}' for name in flatten(accepted) if name.startswith(f'{group}.')]
    return f'{message}; accepted are {", ".join(names) or "none"}'


def _present_name(parser: Parser, message: str) -> str:
    r"""Flags of a setting that had the name of the flag in ``message`` in an earlier version."""
    found = re.search(r'--(\w+)', message)
    if found and found[1] in FORMER_KEYS:
        return f'--{FORMER_KEYS[found[1]]}'
    found = re.search(r'--hparams\.(\w+)(?:[ =](\S+))?', message)
    conversion = former_settings(parser.model).get(found[1]) if found else None
    if conversion is None:
        return ''
    try:
        settings = conversion(yaml.safe_load(found[2] or 'false'))
    except TypeError:
        return ''
    return ' and '.join(f'--hparams.{name}' for name in settings)
