r"""Finished runs with the values of their users, grouped into systems: the same model and settings
under several seeds.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genrec_pyg.config import flatten, read_yaml
from genrec_pyg.evaluation import PerUser, read_per_user
from genrec_pyg.exceptions import ConfigError, DataError

logger = logging.getLogger(__name__)

#: Entries of a configuration in which runs of one system may differ.
_FREE = ('seed', 'output', 'root', 'device', 'references', 'trainer.trackers')
#: Most settings that tell systems of one model apart in their names.
_NAMED = 3


@dataclass(frozen=True)
class FinishedRun:
    r"""A run as :mod:`genrec_pyg.compare` and :mod:`genrec_pyg.report` read it.

    Args:
        folder: Its folder.
        settings: Its configuration with dotted names.
        metrics: Content of ``metrics.json``; empty where there is none.
        values: Values of its users.
    """

    folder: Path
    settings: dict[str, Any]
    metrics: dict[str, Any]
    values: PerUser

    @property
    def model(self) -> str:
        r"""Name of the model."""
        return str(self.settings.get('model')).rpartition(':')[2]

    def figures(self, split: str) -> dict[str, float]:
        r"""Figures of ``'validation'`` or ``'test'`` in ``metrics.json``, beyond accuracy too."""
        found = {**_mapping(self.metrics.get(split))}
        found.update(_mapping(_mapping(self.metrics.get('further')).get(split)))
        return {name: value for name, value in found.items() if isinstance(value, (int, float))}

    @property
    def identity(self) -> str:
        r"""What runs of one system share."""
        return json.dumps(
            {name: value for name, value in sorted(self.settings.items()) if name not in _FREE},
            default=str,
        )


@dataclass(frozen=True)
class System:
    r"""Runs of one model with the same settings.

    Args:
        name: The model, with the settings that tell it from other systems of the model.
        runs: Its runs, by seed.
    """

    name: str
    runs: list[FinishedRun]

    def means(self, metric: str) -> np.ndarray:
        r"""Mean of a metric over the users, one per run."""
        return np.array([run.values.users[metric].mean() for run in self.runs])

    def users(self, metric: str) -> np.ndarray:
        r"""Mean of a metric over the runs, one per user ``[n]``."""
        return np.mean([run.values.users[metric] for run in self.runs], axis=0)

    def found(self, k: int) -> np.ndarray:
        r"""Share of the runs in which a held-out pair is among the first ``k`` items ``[L]``."""
        return np.mean(
            [(run.values.pairs['rank'] > 0) & (run.values.pairs['rank'] <= k) for run in self.runs],
            axis=0,
        )


def read_runs(folders: Sequence[str], split: str = 'test') -> list[FinishedRun]:
    r"""Reads runs without building their models or loading their data.

    Raises:
        ConfigError: If one is no run, is given twice, or is of other data, another split or another
            protocol.
        DataError: If its values are missing or damaged.
    """
    runs: list[FinishedRun] = []
    for folder in folders:
        path = Path(folder)
        if any(path.resolve() == run.folder.resolve() for run in runs):
            raise ConfigError(f'RUN: {folder} is given twice, accepted is once')
        if not (path / 'config.yaml').is_file():
            raise ConfigError(
                f'RUN: {folder} holds no config.yaml, accepted is a folder written by python -m '
                f'genrec_pyg.train'
            )
        content = read_yaml(path / 'config.yaml')
        members = content.pop('members', None)
        run = FinishedRun(
            path,
            {**flatten(content), **({} if members is None else {'members': members})},
            _read_metrics(path / 'metrics.json'),
            read_per_user(path, split),
        )
        if runs:
            _check_same(run, runs[0])
        runs.append(run)
    return runs


def _read_metrics(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text('utf-8'))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f'{path}: cannot be read ({error})') from error
    if not isinstance(found, dict):
        raise DataError(f'{path}: holds {type(found).__name__}, accepted are the figures of a run')
    return found


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _check_same(run: FinishedRun, first: FinishedRun) -> None:
    names = {
        'training': 'training interactions',
        'held_out': 'held-out interactions',
        'split': 'split',
        'protocol': 'protocol',
    }
    for key, name in names.items():
        mine, other = run.values.origin.get(key), first.values.origin.get(key)
        if mine != other:
            raise ConfigError(
                f'RUN: {run.folder} has other {name} ({str(mine)[:12]}) than {first.folder} '
                f'({str(other)[:12]}); accepted are runs of the same data, split and protocol'
            )
    for name in ('user', 'interactions', 'held_out'):
        if not np.array_equal(run.values.users[name], first.values.users[name]):
            raise ConfigError(f'RUN: {run.folder} was measured on other users than {first.folder}')
    for name in ('user', 'item', 'popularity'):
        if not np.array_equal(run.values.pairs[name], first.values.pairs[name]):
            raise ConfigError(
                f'RUN: {run.folder} was measured on other held-out pairs than {first.folder}'
            )


def group_runs(runs: Sequence[FinishedRun]) -> list[System]:
    r"""Systems in the order of their first runs.

    Raises:
        ConfigError: If two runs have the same settings and the same seed, so that their spread
            would say nothing.
    """
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        for other in groups.setdefault(run.identity, []):
            if other.settings.get('seed') == run.settings.get('seed'):
                raise ConfigError(
                    f'RUN: {run.folder} and {other.folder} have the same settings and seed '
                    f'{run.settings.get("seed")}, accepted is one of the two'
                )
        groups[run.identity].append(run)
    names: dict[str, str] = {}
    for key, members in groups.items():
        rivals = [other[0] for other in groups.values() if other[0].model == members[0].model]
        names[key] = members[0].model + _difference(members[0], rivals)
    for key, name in list(names.items()):
        if list(names.values()).count(name) > 1:
            names[key] = f'{name} {groups[key][0].folder.name}'
    return [
        System(names[key], sorted(members, key=lambda run: run.settings.get('seed') or 0))
        for key, members in groups.items()
    ]


def _difference(run: FinishedRun, rivals: Sequence[FinishedRun]) -> str:
    if len(rivals) < 2:
        return ''
    differing = [
        name
        for name in run.settings
        if name not in _FREE
        and any(rival.settings.get(name) != run.settings[name] for rival in rivals)
    ]
    shown = [f'{name.rpartition(".")[2]} {run.settings[name]}' for name in differing[:_NAMED]]
    return f' ({", ".join(shown)}{", …" if len(differing) > _NAMED else ""})' if shown else ''
