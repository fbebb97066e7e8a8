r"""Configuration of a run without a command line.

Later layers win: defaults of the signatures, ``config/defaults/FAMILY/MODEL.yaml`` (``default:``,
then the section of the dataset, then both of the chosen variant), files, overrides.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from genrec_pyg.config.parser import CALL_KEYS, build_parser, set_defaults
from genrec_pyg.config.schema import RunConfig, flatten, plain, unflatten
from genrec_pyg.config.shipped import read_yaml, shipped_defaults
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import get_model
from genrec_pyg.nn.models.settings import dotted, nested, upgrade

logger = logging.getLogger(__name__)


def resolve_config(
    model: str | None = None,
    dataset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    file: str | Path | None = None,
) -> RunConfig:
    r"""The configuration that ``python -m genrec_pyg.train`` would have, typed and complete.

    .. code-block:: python

        config = resolve_config('GenRec', 'tiktok', {'epochs': 20, 'hparams.encoder.num_layers': 3})
        data = make_data(config)
        make_trainer(config).fit(make_model(config, data), data)

    Args:
        model: Name of the model; :obj:`None` takes that of ``file``, else GenRec.
        dataset: Name of the dataset; :obj:`None` takes that of ``file``, else ``'demo'``.
        overrides: Settings by dotted name (``'trainer.lr'``) or nested, over everything else. One
            that has no effect is kept, for the model to refuse.
        file: YAML file with further settings, such as the ``config.yaml`` of a run.

    Raises:
        ConfigError: On an unknown name, or a value of the wrong type; the message names it.
    """
    layer = {} if file is None else read_yaml(Path(file))
    model = model or layer.get('model') or RunConfig.model
    dataset = dataset or layer.get('dataset') or RunConfig.dataset
    given = _undotted(overrides or {})
    for key, named in (('model', model), ('dataset', dataset)):
        if given.get(key, named) != named:
            raise ConfigError(
                f'overrides: {key}: got {given[key]!r} with {key}={named!r}, accepted is the '
                f'argument'
            )
    parser = build_parser(model)
    if isinstance(given.get('hparams', {}), dict):
        given['hparams'] = nested(upgrade(get_model(model), given.get('hparams', {})))
    variant = next(
        (
            hparams['variant']
            for hparams in (given['hparams'], layer.get('hparams'))
            if isinstance(hparams, dict) and 'variant' in hparams
        ),
        None,
    )
    set_defaults(parser, shipped_defaults(model, dataset, variant), f'configs/{model}.yaml')
    if file is not None:
        set_defaults(parser, layer, str(file))
    set_defaults(parser, {**given, 'model': model, 'dataset': dataset}, 'overrides')
    values = {
        key: value
        for key, value in plain(parser.get_defaults().as_dict()).items()
        if key not in CALL_KEYS
    }
    if values.get('hparams'):
        flags = {f'--{name}' for name in flatten({'hparams': given['hparams']}, model)}
        values['hparams'] = settle(model, values['hparams'], [layer], flags)
    return RunConfig(**values)


def _undotted(settings: Mapping[str, Any]) -> dict[str, Any]:
    r"""Nested settings from some that may have dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        layer = unflatten({name: value})
        key = name.partition('.')[0]
        found = _joined(found, layer) if '.' in name and key in found else {**found, **layer}
    return found


def _joined(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    joined = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(joined.get(key), dict)
        joined[key] = _joined(joined[key], value) if both else value
    return joined


def check_settings(model: str, settings: dict[str, Any], source: str) -> dict[str, Any]:
    r"""Settings by dotted name (``'trainer.lr'``), in the types of the flags of ``model``.

    Raises:
        ConfigError: On a name or a value that the flags do not take; the message begins with
            ``source``.
    """
    parser = build_parser(model)
    set_defaults(parser, unflatten(settings), source)
    typed = flatten(parser.get_defaults().as_dict())
    return {name: typed[name] for name in settings}


def settle(
    model: str,
    hparams: Mapping[str, Any],
    layers: Sequence[Mapping[str, Any]] = (),
    flags: Collection[str] = (),
) -> dict[str, Any]:
    r"""Gives options that others take the place of the values that count, so that a configuration
    says what is trained.

    Defaults of this package do so silently, files of the user's with a warning; flags are left for
    the model to refuse.
    """
    cls = get_model(model)
    flat = dotted(cls, hparams)
    given = {name for layer in layers for name in upgrade(cls, layer.get('hparams') or {})}
    for name, (value, by) in cls.ineffective_options(hparams).items():
        if f'--hparams.{name}' in flags:
            continue
        if name in given:
            logger.warning(
                'hparams.%s: %r has no effect with %s and is taken as %r',
                name,
                flat[name],
                by,
                value,
            )
        flat[name] = value
    return nested(flat)
