r"""Settings of models: groups of arguments (data classes), their dotted names, and names that they
had before.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from genrec_pyg.exceptions import ConfigError

#: From the value of a setting under its former name to settings by dotted name.
Conversion = Callable[[Any], dict[str, Any]]


def setting_groups(model: type) -> dict[str, Any]:
    r"""Arguments of the constructor of ``model`` that are groups: name to default, an instance of a
    data class.
    """
    parameters = inspect.signature(model.__init__).parameters
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if dataclasses.is_dataclass(parameter.default)
    }


def with_groups(model: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    r"""Arguments of the constructor of ``model``, with every group that is given as a mapping made
    from it; what the mapping does not name has its default.

    Raises:
        ConfigError: On an unknown setting in a group, a value that it refuses, or a former name of
            a setting.
    """
    arguments = dict(arguments)
    groups = setting_groups(model)
    for name, default in groups.items():
        given = arguments.get(name, default)
        if isinstance(given, type(default)):
            continue
        if not isinstance(given, Mapping):
            raise ConfigError(
                f'{name}: got {given!r}, accepted are {type(default).__name__} or a mapping of '
                f'settings{_hint(model, name, given)}'
            )
        accepted = [field.name for field in dataclasses.fields(default)]
        for key in given:
            if key not in accepted:
                raise ConfigError(
                    f'{name}.{key}: no such setting, accepted are {", ".join(accepted)}'
                )
        try:
            arguments[name] = dataclasses.replace(default, **given)
        except ConfigError as error:
            # some groups name themselves
            text = str(error).removeprefix(f'{name}.')
            raise ConfigError(f'{name}.{text}') from error
    for name, value in arguments.items():
        if name in former_settings(model) and name not in groups:
            raise ConfigError(f'{name}: no such setting{_hint(model, name, value)}')
    return arguments


def dotted(model: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    r"""Settings of ``model`` by dotted name (``'encoder.num_layers'``), from groups or nested
    mappings.
    """
    groups, flat = setting_groups(model), {}
    for name, value in settings.items():
        if name in groups and dataclasses.is_dataclass(value):
            value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if name in groups and isinstance(value, Mapping):
            flat.update({f'{name}.{key}': entry for key, entry in value.items()})
        else:
            flat[name] = value
    return flat


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    r"""The inverse of :func:`dotted`, with mappings as groups."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        group, dot, key = name.partition('.')
        if dot:
            found.setdefault(group, {})[key] = value
        else:
            found[name] = value
    return found


def former_settings(model: type) -> Mapping[str, Conversion]:
    r"""Names that settings of ``model`` had before they were grouped or renamed."""
    return getattr(model, 'FORMER_SETTINGS', {})


def upgrade(model: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    r"""Settings by dotted name, from the configuration of this or an earlier version."""
    groups, former = setting_groups(model), former_settings(model)
    flat = dotted(model, settings)
    old = {
        name: value
        for name, value in flat.items()
        if name in former and (name in groups or '.' not in name)
    }
    # in the order of the table: later ones win
    for name in (name for name in former if name in old):
        del flat[name]
        flat.update(former[name](old[name]))
    return flat


def renamed(name: str) -> Conversion:
    r"""Conversion of a setting that has another name now."""
    return lambda value: {name: value}


def moved(group: str, **names: str) -> dict[str, Conversion]:
    r"""Conversions of settings that stand in a group now: name before to name in the group."""
    return {before: renamed(f'{group}.{now}') for before, now in names.items()}


def complement(name: str) -> Conversion:
    r"""Conversion of a share into a setting for one minus it."""
    return lambda value: {name: 1 - value}


def _hint(model: type, name: str, value: Any) -> str:
    r"""What is given now in place of a former setting, for a message."""
    if name not in former_settings(model):
        return ''
    try:
        found = former_settings(model)[name](value)
    except TypeError:
        return ''
    return f'; it is {" and ".join(found)} now' if found else ''
