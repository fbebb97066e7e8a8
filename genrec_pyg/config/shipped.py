r"""Settings that this package ships, and YAML files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from genrec_pyg.config.schema import merge
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import MODELS


def shipped_defaults(model: str, dataset: str, variant: str | None = None) -> dict[str, Any]:
    r"""Defaults of this package for a model, or a variant of it, on a dataset, from
    ``config/defaults/FAMILY/MODEL.yaml``.
    """
    content = shipped_file(model)
    merged: dict[str, Any] = {}
    for section in (content, (content.get('variants') or {}).get(variant) or {}):
        merged = merge(merged, section.get('default') or {}, model)
        merged = merge(merged, (section.get('datasets') or {}).get(dataset) or {}, model)
    return merged


def shipped_file(model: str) -> dict[str, Any]:
    r"""Content of ``config/defaults/FAMILY/MODEL.yaml``, empty where there is none: the sections
    ``default``, ``datasets``, ``variants`` and ``search`` (:mod:`genrec_pyg.tuning`).
    """
    entry = MODELS.get(model)
    if entry is None:
        return {}
    source = resources.files('genrec_pyg.config') / 'defaults' / entry.family / f'{model}.yaml'
    return (yaml.safe_load(source.read_text('utf-8')) or {}) if source.is_file() else {}


def read_yaml(path: Path) -> dict[str, Any]:
    r"""Reads a configuration file.

    Raises:
        ConfigError: If it is missing or no mapping.
    """
    try:
        content = yaml.safe_load(path.read_text('utf-8'))
    except OSError as error:
        raise ConfigError(
            f'{path}: cannot be read ({error.strerror}); accepted is a YAML file such as the '
            f'config.yaml of a run'
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path}: not a YAML file ({str(error).splitlines()[0]})') from error
    if not isinstance(content, dict):
        raise ConfigError(
            f'{path}: holds {type(content).__name__}, accepted is a mapping of settings'
        )
    return content
