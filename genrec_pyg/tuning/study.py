r"""Tuning of hyper-parameters by Optuna: search spaces next to the defaults, and studies that stop
and resume.

The section ``search`` of ``config/defaults/FAMILY/MODEL.yaml`` says what is tuned, in the groups of
the defaults next to it:

.. code-block:: yaml

    search:
      trainer:
        lr: {low: 0.0005, high: 0.005, log: true}   # a range, of integers if the setting is one
      hparams:
        contrast_weight: {low: 0.005, high: 1.0, log: true}
        temperature: [0.1, 0.2, 0.5]                # one of these
        num_layers: null                            # not tuned

It is laid over :data:`SHARED`, the space of a trained model that has no such section, and always
contains the defaults of the dataset, which every study tries first. Names and types are those of
the flags.
"""

from __future__ import annotations

import importlib
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrec_pyg.config import check_settings, flatten, merge, resolve_config, shipped_file
from genrec_pyg.exceptions import ConfigError
from genrec_pyg.nn.models import get_model

if TYPE_CHECKING:
    import optuna

Scalar = bool | int | float | str | None
Settings = dict[str, Scalar]

#: What is tuned in every model that is trained by gradient, as far as it has the setting
#: (collaborative baselines are tuned within these ranges by their papers).
SHARED: dict[str, dict[str, Any]] = {
    'trainer': {'lr': {'low': 5e-4, 'high': 5e-3, 'log': True}},
    'hparams': {
        'l2': {'low': 1e-6, 'high': 1e-2, 'log': True},
        'num_layers': {'low': 1, 'high': 4},
    },
}
#: Trials drawn at random, the default included, before the sampler learns from them.
STARTUP_TRIALS = 4
#: Fewest trials from which the importance of settings is told.
TRIALS_FOR_IMPORTANCE = 10


@dataclass(frozen=True)
class Choice:
    r"""One of several values.

    Args:
        values: The values, all different.
    """

    values: tuple[Scalar, ...]

    def including(self, value: Scalar) -> Choice:
        r"""The same with ``value`` among the values.

        Raises:
            ConfigError: If that is no plain value.
        """
        if not _is_plain(value):
            raise ConfigError(
                f'got the default {value!r}, accepted are plain values; it cannot be tuned'
            )
        return self if value in self.values else Choice((*self.values, value))


@dataclass(frozen=True)
class Range:
    r"""A number between two others, an integer if both are.

    Args:
        low: Smallest value.
        high: Largest value.
        log: Whether the logarithm is uniform.
    """

    low: int | float
    high: int | float
    log: bool = False

    def including(self, value: Scalar) -> Range:
        r"""The same, as wide as ``value`` needs it.

        Raises:
            ConfigError: If that is no number, or not positive in a logarithmic range.
        """
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or (self.log and not value > 0)
        ):
            numbers = 'positive numbers' if self.log else 'numbers'
            raise ConfigError(
                f'got the default {value!r}, accepted in a range are {numbers}, else a list '
                f'of values'
            )
        return replace(self, low=min(self.low, value), high=max(self.high, value))


SearchSpace = dict[str, Choice | Range]


def search_space(model: str, dataset: str = 'demo') -> tuple[SearchSpace, Settings]:
    r"""What is tuned of a model on a dataset, and the default of each of these settings, by dotted
    name (``'trainer.lr'``).

    Raises:
        ConfigError: If there is no such model, or its section ``search`` names what is no setting
            or no space.
    """
    source = f'configs/{model}.yaml: search'
    section = shipped_file(model).get('search') or {}
    if not isinstance(section, dict) or not all(
        isinstance(group or {}, dict) for group in section.values()
    ):
        raise ConfigError(
            f'{source}: got {section!r}, accepted are mappings trainer and hparams from '
            f'setting to space'
        )
    defaults = flatten(resolve_config(model, dataset).to_dict())
    shared = SHARED if get_model(model).trainable else {}
    shared = {
        group: {name: entry for name, entry in entries.items() if f'{group}.{name}' in defaults}
        for group, entries in shared.items()
    }
    entries = {
        name: entry
        for name, entry in flatten(merge(shared, section), model).items()
        if entry is not None
    }
    space = _checked(
        model,
        {name: _parse_entry(entry, f'{source}: {name}') for name, entry in entries.items()},
        source,
    )
    for name in space:
        try:
            space[name] = space[name].including(defaults[name])
        except ConfigError as error:
            raise ConfigError(f'{source}: {name}: {error}') from error
    return space, {name: defaults[name] for name in space}


def setting_flags(settings: Mapping[str, Scalar]) -> list[str]:
    r"""Settings as flags of ``python -m genrec_pyg.train``."""
    return [
        part
        for name, value in settings.items()
        for part in (f'--{name}', value if isinstance(value, str) else json.dumps(value))
    ]


def suggest(trial: optuna.trial.BaseTrial, space: SearchSpace) -> Settings:
    r"""A setting from ``space``, drawn by an Optuna trial; for objectives of your own:

    .. code-block:: python

        space, default = search_space('LightGCN', 'tiktok')
        study.enqueue_trial(default)
        study.optimize(lambda trial: my_recall(suggest(trial, space)), n_trials=20)
    """
    for name, entry in space.items():
        if isinstance(entry, Choice):
            trial.suggest_categorical(name, entry.values)
        else:
            draw = trial.suggest_int if isinstance(entry.low, int) else trial.suggest_float
            draw(name, entry.low, entry.high, log=entry.log)
    return {name: trial.params[name] for name in space}


class Tuner:
    r"""An Optuna study that tries the default, then what its tree-structured Parzen estimator
    suggests.

    It asks and tells, so the caller decides where and when a trial runs, one at a time or several.
    The sampler of the n-th trial is seeded by the study's seed and n, so a study that was
    interrupted goes on as if it had not been: a trial that was under way is asked for again, and
    finished ones are not. A failed trial counts as one.

    Args:
        storage: File of Optuna's journal, made if need be; other studies may share it. Plain JSON
            lines.
        name: Name of the study.
        space: What is tuned.
        default: Setting of the first trial.
        trials: Number of trials; without a space there is one.
        seed: Seed of the sampler.

    Raises:
        ConfigError: If Optuna is missing, or the file holds a study of this name with another
            space, default or seed.
    """

    def __init__(
        self,
        storage: Path,
        name: str,
        space: SearchSpace,
        default: Settings,
        trials: int,
        seed: int = 0,
    ):
        if trials < 1:
            raise ConfigError(f'trials: got {trials}, accepted are integers from 1')
        self._optuna = require_optuna()
        self.name, self.space, self.default, self.seed = name, space, default, seed
        self.trials = trials if space else 1
        storage.parent.mkdir(parents=True, exist_ok=True)
        journal = self._optuna.storages.JournalStorage(
            importlib.import_module('optuna.storages.journal').JournalFileBackend(str(storage))
        )
        self.study = self._optuna.create_study(
            storage=journal, study_name=name, direction='maximize', load_if_exists=True
        )
        # As JSON gives it back, where tuples are lists.
        identity = json.loads(
            json.dumps(
                {
                    'space': {key: asdict(entry) for key, entry in space.items()},
                    'default': default,
                    'seed': seed,
                }
            )
        )
        found = self.study.user_attrs.get('identity')
        if found is None:
            self.study.set_user_attr('identity', identity)
        for part in identity if found is not None else ():
            if found[part] != identity[part]:
                raise ConfigError(
                    f'{storage}: the study {name!r} has the {part} {found[part]!r}, now it is '
                    f'{identity[part]!r}; accepted is another file'
                )
        self._recover()

    @property
    def finished(self) -> list[optuna.trial.FrozenTrial]:
        r"""Trials with an outcome, in their order. ``user_attrs['record']`` is what :meth:`tell`
        was given, ``user_attrs['error']`` what :meth:`fail` was.
        """
        return [
            trial
            for trial in self.study.get_trials(deepcopy=False)
            if trial.state == self._state.COMPLETE or 'error' in trial.user_attrs
        ]

    @property
    def best(self) -> optuna.trial.FrozenTrial | None:
        r"""The first trial of the largest value, if any has one."""
        complete = [trial for trial in self.finished if trial.state == self._state.COMPLETE]
        return max(complete, key=lambda trial: trial.value, default=None)

    def ask(self) -> optuna.trial.Trial | None:
        r"""The next trial, its setting in ``params``; :obj:`None` when all are done or under
        way.
        """
        begun = len(self.finished) + len(
            self.study.get_trials(deepcopy=False, states=(self._state.RUNNING,))
        )
        if begun >= self.trials:
            return None
        self.study.sampler = self._optuna.samplers.TPESampler(
            n_startup_trials=STARTUP_TRIALS,
            seed=zlib.crc32(f'{self.seed}/{self.name}/{begun}'.encode()),
        )
        trial = self.study.ask()
        suggest(trial, self.space)
        return trial

    def importance(self) -> dict[str, float]:
        r"""How much each setting decides whether a trial is among the best ones, by PED-ANOVA
        (`Watanabe et al., IJCAI 2023 <https://arxiv.org/abs/2304.10255>`_), as shares of 1, largest
        first; empty with fewer than :data:`TRIALS_FOR_IMPORTANCE` trials, or where nothing is to be
        said.
        """
        complete = [trial.value for trial in self.finished if trial.state == self._state.COMPLETE]
        if len(complete) < TRIALS_FOR_IMPORTANCE or len(set(complete)) < 2:
            return {}
        evaluator = self._optuna.importance.PedAnovaImportanceEvaluator()
        found = self._optuna.importance.get_param_importances(self.study, evaluator=evaluator)
        return found if any(found.values()) else {}

    def tell(self, trial: optuna.trial.Trial, value: float, record: Mapping[str, Any]) -> None:
        r"""Finishes a trial.

        Args:
            trial: Trial of :meth:`ask`.
            value: What is maximized, finite.
            record: Further figures to keep, of plain values.
        """
        trial.set_user_attr('value', value)
        trial.set_user_attr('record', dict(record))
        self.study.tell(trial, value)

    def fail(self, trial: optuna.trial.Trial, error: str) -> None:
        r"""Finishes a trial that gave no value."""
        trial.set_user_attr('error', error)
        self.study.tell(trial, state=self._state.FAIL)

    @property
    def _state(self) -> type[optuna.trial.TrialState]:
        return self._optuna.trial.TrialState

    def _recover(self) -> None:
        r"""Ends the trial of a process that is gone: by its outcome if it had one, else as if it
        had not been.
        """
        for trial in self.study.get_trials(deepcopy=False, states=(self._state.RUNNING,)):
            if 'record' in trial.user_attrs:
                self.study.tell(trial.number, trial.user_attrs['value'])
            else:
                # drawn again it is the same: the seed says so
                self.study.tell(trial.number, state=self._state.FAIL)
        tried = any(trial.params == self.default for trial in self.finished)
        if not tried and not self.study.get_trials(deepcopy=False, states=(self._state.WAITING,)):
            self.study.enqueue_trial(self.default)


def require_optuna() -> Any:
    r"""The module Optuna.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        return importlib.import_module('optuna')
    except ImportError as error:
        raise ConfigError(
            'tuning needs the package optuna: pip install genrec_pyg[tuning]'
        ) from error


def _parse_entry(entry: Any, source: str) -> Choice | Range:
    if isinstance(entry, list):
        if (
            not entry
            or not all(map(_is_plain, entry))
            or any(value in entry[:i] for i, value in enumerate(entry))
        ):
            raise ConfigError(
                f'{source}: got {entry!r}, accepted are lists of different plain values'
            )
        return Choice(tuple(entry))
    if not isinstance(entry, dict) or not {'low', 'high'} <= entry.keys() <= {'low', 'high', 'log'}:
        raise ConfigError(
            f'{source}: got {entry!r}, accepted are a list of values and {{low: ..., high: ..., '
            'log: true|false}'
        )
    space = Range(**entry)
    numbers = all(
        isinstance(end, (int, float)) and not isinstance(end, bool) and math.isfinite(end)
        for end in (space.low, space.high)
    )
    if (
        not numbers
        or not isinstance(space.log, bool)
        or not space.low < space.high
        or (space.log and not space.low > 0)
    ):
        raise ConfigError(
            f'{source}: got {entry!r}, accepted are finite numbers low < high, from above 0 '
            f'where log is true'
        )
    return space


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _checked(model: str, space: SearchSpace, source: str) -> SearchSpace:
    r"""``space`` with values of the types of the flags, each of which must take every value."""
    values = {
        name: entry.values if isinstance(entry, Choice) else (entry.low, entry.high)
        for name, entry in space.items()
    }
    typed: dict[str, list[Scalar]] = {name: [] for name in space}
    for i in range(max(map(len, values.values()), default=0)):
        column = {name: value[i] for name, value in values.items() if i < len(value)}
        for name, value in check_settings(model, column, source).items():
            typed[name].append(value)
    return {
        name: Choice(tuple(typed[name]))
        if isinstance(entry, Choice)
        else replace(entry, low=typed[name][0], high=typed[name][1])
        for name, entry in space.items()
    }
