r"""Tuning of one model on one dataset, in a folder that holds the study, its report and the best
setting.
"""

from __future__ import annotations

import copy
import functools
import json
import logging
import multiprocessing
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

from genrec_pyg.config import RunConfig, flatten, parse_train_arguments
from genrec_pyg.config.build import make_data, make_model, make_trainer
from genrec_pyg.evaluation.search_paths import PATHS
from genrec_pyg.evaluation.validation_search import tune_on_validation
from genrec_pyg.exceptions import ConfigError, GenRecError
from genrec_pyg.graph import INTERACTS, has_split, training_graph
from genrec_pyg.training import seed_everything
from genrec_pyg.tuning.report import write_report
from genrec_pyg.tuning.study import STARTUP_TRIALS, Settings, Tuner, search_space, setting_flags
from genrec_pyg.utils.files import write_atomically, write_json

logger = logging.getLogger(__name__)

#: Epochs that every trial gets.
MIN_EPOCHS = 5
#: Seconds of the search of a model in closed form where no time is given.
CLOSED_FORM_SECONDS = 60.0
#: What does not change the outcome of a trial.
_FREE = ('root', 'device', 'output', 'references', 'trainer.trackers')

#: Best validation value so far at the evaluated epochs of a trial.
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class Pruning:
    r"""Median stopping rule (`Golovin et al., KDD 2017 <https://doi.org/10.1145/3097983.3098043>`_,
    Section 3.2.2): a trial ends when its best value so far is below the median of the best values
    that finished trials had at the same epoch. Every trial gets :data:`MIN_EPOCHS`, and the first
    ones of a study are not pruned.

    Args:
        curves: Curves of finished trials.
    """

    curves: list[Curve]

    def is_hopeless(self, epoch: int, best: float) -> bool:
        r"""Whether a trial whose best value up to ``epoch`` (from 0) is ``best`` should end."""
        if epoch + 1 < MIN_EPOCHS or len(self.curves) < STARTUP_TRIALS:
            return False
        reached = [[value for at, value in curve if at <= epoch] for curve in self.curves]
        return best < statistics.median(
            values[-1] if values else float('-inf') for values in reached
        )


def run_trial(
    flags: Sequence[str],
    settings: Settings,
    seconds: float | None,
    pruning: Pruning | None,
    folder: Path | None = None,
) -> dict[str, Any]:
    r"""Trains once, without the test split.

    Args:
        flags: Flags of ``python -m genrec_pyg.train``.
        settings: Setting of the trial.
        seconds: Most seconds of training.
        pruning: When to end early.
        folder: Folder ``STUDY/trials/NUMBER``, by which trackers know the trial; :obj:`None` for no
            trackers.

    Returns:
        ``value``, the best validation value; ``seconds``, ``epochs``, ``stopped`` and the
        ``curve``.
    """
    config = parse_train_arguments([*flags, *setting_flags(settings)]).config
    limits = [limit for limit in (seconds, config.trainer.get('max_seconds')) if limit is not None]
    config.trainer['max_seconds'] = min(limits, default=None)
    data = trial_data(tuple(flags))
    trainer = make_trainer(config)
    trainer.progress, trainer.trial = False, folder
    best, curve = float('-inf'), []

    def stop(record: dict[str, Any]) -> bool:
        nonlocal best
        best = max(best, record['val'][trainer.monitor])
        curve.append((record['epoch'], best))
        return pruning is not None and pruning.is_hopeless(record['epoch'], best)

    trainer.stop_when = stop
    seed_everything(config.seed)
    result = trainer.fit(make_model(config, data), data)
    return {
        'value': result.validation[trainer.monitor],
        'seconds': result.seconds,
        'epochs': len(result.history),
        'stopped': result.stopped,
        'curve': curve,
    }


@functools.lru_cache(maxsize=1)
def trial_data(flags: tuple[str, ...]) -> HeteroData:
    r"""The data that common ``flags`` name, without test interactions; loaded once per process."""
    return without_test(make_data(parse_train_arguments(flags).config))


def without_test(data: HeteroData) -> HeteroData:
    r"""The same graph, whose test interactions are in no split."""
    data = copy.copy(data)
    if has_split(data, 'test'):
        data[INTERACTS].test_mask = torch.zeros_like(torch.as_tensor(data[INTERACTS].test_mask))
    return data


class TuningSession:
    r"""A study in a folder: ``study.log`` (Optuna's journal), ``study.json`` (what it is for),
    ``report.md``, ``best.yaml``.

    A session that is stopped at any moment, also by a signal that cannot be caught, goes on where
    it was: finished trials count, those under way begin again.

    Args:
        folder: Folder of the study, held by this process.
        flags: Flags of ``python -m genrec_pyg.train`` that hold in every trial; settings among them
            are not tuned.
        trials: Number of trials, those of earlier sessions included.
        jobs: Trials at a time, each in a process of its own if there are several.
        seconds: Seconds after which no trial begins; a trial under way is cut then.
        prune: Whether hopeless trials end early.

    Raises:
        ConfigError: If the folder holds another study, or the data have no validation interaction.
    """

    def __init__(
        self,
        folder: Path,
        flags: Sequence[str],
        trials: int = 20,
        jobs: int = 1,
        seconds: float | None = None,
        prune: bool = True,
    ):
        self.folder, self.jobs, self.prune, self.seconds = folder, jobs, prune, seconds
        self.flags = list(flags)
        self.begin = time.monotonic()
        self.config = parse_train_arguments(self.flags).config
        if self.config.protocol != 'validation':
            raise ConfigError(
                f"--protocol: got {self.config.protocol!r}, accepted for tuning is 'validation'"
            )
        self.data = trial_data(tuple(flags))
        if not has_split(self.data, 'val'):
            raise ConfigError(
                f'--dataset: {self.config.dataset} has no validation interaction, which '
                f'tuning needs'
            )
        self.pinned = [
            flag[2:].partition('=')[0]
            for flag in flags
            if flag.startswith(('--trainer.', '--hparams.'))
        ]
        self.tuner: Tuner | None = None
        self._check_identity()
        if self.config.model not in PATHS:
            space, _ = search_space(self.config.model, self.config.dataset)
            given = flatten(self.config.to_dict())
            space = {
                name: entry.including(given[name])
                for name, entry in space.items()
                if name not in self.pinned
            }
            make_model(self.config, self.data)  # what it refuses, all trials would
            self.tuner = Tuner(
                folder / 'study.log',
                self.config.model,
                space,
                {name: given[name] for name in space},
                trials,
                self.config.seed,
            )

    def _check_identity(self) -> None:
        settings = flatten(self.config.to_dict())
        identity = {name: value for name, value in settings.items() if name not in _FREE}
        identity = json.loads(
            json.dumps({**identity, 'graph': training_graph(self.data).fingerprint()})
        )
        path = self.folder / 'study.json'
        if not path.exists():
            write_json(path, identity)
        before = json.loads(path.read_text(encoding='utf-8'))
        for name in {**before, **identity}:
            if before.get(name) != identity.get(name):
                raise ConfigError(
                    f'--output: {self.folder} holds a study with {name} {before.get(name)!r}, now '
                    f'it is {identity.get(name)!r}; accepted is another folder'
                )

    def run(self) -> float:
        r"""Does what is missing and returns the best validation value.

        Raises:
            GenRecError: If no trial succeeded.
        """
        if self.tuner is None:
            return self._search_in_closed_form()
        if self.tuner.finished:
            logger.info(
                'goes on after %d of %d trials', len(self.tuner.finished), self.tuner.trials
            )
        self._run_trials(self.tuner)
        self._report()
        if self.tuner.best is None:
            raise GenRecError(
                f'no trial succeeded; the last one: {self.tuner.finished[-1].user_attrs["error"]}'
                if self.tuner.finished
                else '--hours: over before a trial was done'
            )
        return self.tuner.best.value

    def best_config(self) -> RunConfig:
        r"""The configuration of the best trial so far."""
        return parse_train_arguments([*self.flags, *setting_flags(self.tuner.best.params)]).config

    @property
    def _left(self) -> float | None:
        return None if self.seconds is None else self.seconds - (time.monotonic() - self.begin)

    def _run_trials(self, tuner: Tuner) -> None:
        running: dict[Future, Any] = {}
        pool = None
        if self.jobs > 1:
            pool = ProcessPoolExecutor(
                self.jobs, multiprocessing.get_context('spawn'), _start_worker, (self.jobs,)
            )
        try:
            while True:
                while len(running) < self.jobs and (self._left is None or self._left > 0):
                    trial = tuner.ask()
                    if trial is None:
                        break
                    curves = [
                        done.user_attrs['record']['curve']
                        for done in tuner.finished
                        if 'record' in done.user_attrs
                    ]
                    running[
                        _call(
                            pool,
                            run_trial,
                            self.flags,
                            trial.params,
                            self._left,
                            Pruning(curves) if self.prune else None,
                            self.folder / 'trials' / str(trial.number),
                        )
                    ] = trial
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    self._finish(tuner, running.pop(future), future)
        finally:
            if pool is not None:
                for child in multiprocessing.active_children() if running else ():
                    child.terminate()  # trials under way begin again in the next session
                pool.shutdown(cancel_futures=True)

    def _finish(self, tuner: Tuner, trial: Any, future: Future) -> None:
        error = future.exception()
        number = len(tuner.finished) + 1
        if isinstance(error, BrokenProcessPool):
            raise GenRecError(
                'a process of a trial was ended from outside, perhaps for lack of memory; the '
                'same command goes on, with fewer --jobs if need be'
            ) from error
        if error is not None:
            tuner.fail(trial, f'{type(error).__name__}: {error}')
            logger.warning(
                'trial %d of %d failed: %s, %s', number, tuner.trials, error, trial.params
            )
        else:
            record = future.result()
            tuner.tell(trial, record['value'], record)
            logger.info(
                'trial %d of %d: %.4f, best %.4f, %d epochs in %.0f s (%s), %s',
                number,
                tuner.trials,
                record['value'],
                tuner.best.value,
                record['epochs'],
                record['seconds'],
                record['stopped'] or 'not trained',
                trial.params,
            )
        self._report()

    def _report(self) -> None:
        tuner = self.tuner
        rows = [
            (
                trial.params,
                trial.value,
                {**trial.user_attrs.get('record', {}), 'error': trial.user_attrs.get('error')},
            )
            for trial in tuner.finished
        ]
        if tuner.best is not None:
            self._write_best(self.best_config())
        title = (
            f'{self.config.model} on {self.config.dataset}, validation '
            f'{self.config.trainer["monitor"]}'
        )
        write_report(self.folder / 'report.md', title, rows, tuner.importance())

    def _write_best(self, config: RunConfig) -> None:
        text = replace(config, output=None, root=os.path.abspath(config.root)).to_yaml()
        write_atomically(self.folder / 'best.yaml', lambda file: file.write(text.encode()))

    def _search_in_closed_form(self) -> float:
        config = self.config
        pinned = [name.partition('.')[2] for name in self.pinned if name.startswith('hparams.')]
        tuned = tune_on_validation(
            config.model,
            self.data,
            {name: config.hparams[name] for name in pinned},
            config.hparams,
            pinned,
            CLOSED_FORM_SECONDS if self.seconds is None else self.seconds,
        )
        self._write_best(replace(config, hparams={**config.hparams, **tuned.settings}))
        rows = [(settings, value, {}) for settings, value in tuned.curve]
        write_report(
            self.folder / 'report.md',
            f'{config.model} on {config.dataset}, validation recall@20',
            rows,
            {},
            tuned.reason,
        )
        return float('nan') if tuned.recall is None else tuned.recall


def _call(
    pool: ProcessPoolExecutor | None, function: Callable[..., Any], *arguments: Any
) -> Future:
    r"""The outcome of a call, in another process if there is a pool."""
    if pool is not None:
        return pool.submit(function, *arguments)
    future: Future = Future()
    try:
        future.set_result(function(*arguments))
    except Exception as error:  # a setting may fail in any way; an interruption is none
        future.set_exception(error)
    return future


def _start_worker(jobs: int) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
