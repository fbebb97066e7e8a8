r"""Every registered model under one protocol, budget and tuning rule.

.. code-block:: console

    # about five hours on two cores
    python -m benchmarks.quality.leaderboard --root DIR --dataset tiktok
    # in the background
    nohup python -m benchmarks.quality.leaderboard --root DIR --dataset tiktok &
    python -m benchmarks.quality.leaderboard --root DIR --dataset tiktok \
        --models GenRec LightGCN --jobs 1

Per model, Optuna tries ``--trials`` settings, the shipped default first, from its search space
(:mod:`genrec_pyg.tuning`). A trial trains at most ``--trial_seconds``, with the same patience for
all; its value is Recall@20 at its best validation epoch. The setting of the largest value is
retrained with every seed, at most ``--final_seconds`` each, and only these runs look at the test
split. A model with nothing to tune has one trial, a model that is not trained one seed.

Every run has a process of its own, ``--jobs`` of them at a time. What is finished lies in
``--state``: a journal of Optuna and one file per final run. Started again, the script goes on from
there; the report is written whenever a model is done.

The significance of a difference to :data:`BASE` is that of the paired t-test over test users, of
Recall@20 averaged over the seeds, corrected for the number of models by Holm's method. It speaks of
other users, not of other seeds: the spread does.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import importlib.util
import json
import logging
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.common.machine import machine, thread_environment
from benchmarks.common.reports import RESULTS, write_report
from benchmarks.common.trial import K
from benchmarks.common.worker import WorkerError
from benchmarks.quality.leaderboard_report import (
    BASE,
    METRIC,
    add_comparisons,
    draw,
    mean_and_deviation,
    published,
    text,
)
from genrec_pyg.config import parse_train_arguments
from genrec_pyg.config.build import make_data, run_command
from genrec_pyg.evaluation import Evaluator
from genrec_pyg.exceptions import ConfigError, GenRecError
from genrec_pyg.graph import training_graph
from genrec_pyg.nn.models import MODELS, get_model
from genrec_pyg.tuning import Settings, Tuner, require_optuna, search_space, setting_flags
from genrec_pyg.utils.files import write_json

#: Sized so that 16 trained models take about five hours on two cores: 16 * (6 * 240 + 3 * 360) s /
#: 2 is 5.6 hours at most, and simple models end earlier, by patience. On tiktok with one thread an
#: epoch and its validation take 0.3 s (MFBPR), 0.6 s (LightGCN), 5 to 7 s (HCCF, NGCF, GenRec), 9 s
#: (NCL) and 11 s (SGL), on lfm2k 0.1 to 2.5 s: the slowest has 20 epochs in a trial. Fewer and
#: longer trials, since one of ten epochs says more about the learning rate than about the rest.
TRIALS, TRIAL_SECONDS, FINAL_SECONDS = 6, 240.0, 360.0
#: More than any run reaches within its seconds.
EPOCHS = 100_000
#: What two sessions on one state must share, for their figures stand in one table.
PROTOCOL = (
    'dataset',
    'modalities',
    'trial_seconds',
    'final_seconds',
    'patience',
    'sampler_seed',
    'threads',
    'device',
    'bf16',
)
#: What the report says of a trial, besides its setting and its value.
TRIAL_FIGURES = ('stopped', 'epoch', 'epochs', 'train_seconds', 'memory')
#: Module of the process of one run.
TRIAL = 'benchmarks.common.trial'
#: Seconds that a run may take beyond its own: data, model, one long epoch, test. A run that takes
#: longer hangs.
GRACE = 1800.0

logger = logging.getLogger('leaderboard')


class Board:
    r"""The runs behind one table, those that are done and those to come.

    Args:
        args: Flags of :func:`parse`.
    """

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.plans = {model: search_space(model, args.dataset) for model in args.models}
        self.tuners: dict[str, Tuner] = {}
        self.finals: dict[str, dict[int, dict[str, Any]]] = {}
        self.failures: dict[str, str] = {}
        self.machine = machine(args.threads)
        self._slots = asyncio.Semaphore(args.jobs)
        data = make_data(parse_train_arguments(self.data_flags()).config)
        for split in ('val', 'test'):  # now, not in the first of many runs that would all miss them
            Evaluator(data, split)
        self._check_protocol(training_graph(data).fingerprint())
        for model, (space, default) in self.plans.items():
            self.tuners[model] = Tuner(
                args.state / 'studies.log', model, space, default, args.trials, args.sampler_seed
            )
            self.finals[model] = {}

    def _check_protocol(self, graph: str) -> None:
        r"""Notes what this state is for, or refuses to go on with anything else."""
        protocol = {name: getattr(self.args, name) for name in PROTOCOL}
        path = self.args.state / 'protocol.json'
        if not path.exists():
            write_json(path, {**protocol, 'graph': graph})
        before = json.loads(path.read_text())
        for name, value in protocol.items():
            if before.get(name) != value:
                raise ConfigError(
                    f'--{name}: got {value!r}, but {self.args.state} was begun with '
                    f'{before.get(name)!r}; accepted is that, or another --state'
                )
        if before.get('graph') != graph:
            raise ConfigError(
                f'--state: {self.args.state} was begun on other data than {self.args.dataset} has '
                f'now; accepted is another folder'
            )

    @property
    def most_seconds(self) -> float:
        r"""Seconds of training that are still to come, at most, over all jobs."""
        return sum(
            (tuner.trials - len(tuner.finished)) * self.args.trial_seconds
            + self._missing_seeds(model) * self.args.final_seconds
            for model, tuner in self.tuners.items()
            if get_model(model).trainable
        )

    def _missing_seeds(self, model: str) -> int:
        tuner, seeds = self.tuners[model], self.seeds(model)
        # what will be trained is not known yet
        if tuner.best is None or len(tuner.finished) < tuner.trials:
            return len(seeds)
        return sum(self._finished(model, dict(tuner.best.params), seed) is None for seed in seeds)

    def seeds(self, model: str) -> list[int]:
        r"""Seeds of the final runs; a model that is not trained gives the same with all."""
        return self.args.seeds if get_model(model).trainable else self.args.seeds[:1]

    def data_flags(self) -> list[str]:
        r"""Flags of ``python -m genrec_pyg.train`` that name the data."""
        args = self.args
        modalities = [] if args.modalities is None else ['--modalities', *args.modalities]
        return [
            '--dataset',
            args.dataset,
            *([] if args.root is None else ['--root', args.root]),
            *modalities,
        ]

    def flags(self, model: str, settings: Settings, seconds: float, seed: int) -> list[str]:
        r"""Flags of one run: the model's own defaults except ``settings`` and what is the same for
        all.
        """
        precision = 'bf16' if model in self.args.bf16 else 'float32'
        return [
            '--model',
            model,
            *self.data_flags(),
            '--device',
            self.args.device,
            '--seed',
            str(seed),
            '--epochs',
            str(EPOCHS),
            '--trainer.precision',
            precision,
            '--trainer.patience',
            str(self.args.patience),
            '--trainer.eval_every',
            '1',
            '--trainer.max_seconds',
            str(seconds),
            '--trainer.monitor',
            METRIC,
            *setting_flags(settings),
        ]

    async def run(self) -> None:
        r"""Does all that is missing; models in the order of ``--models``, as many at a time as
        there are jobs.
        """
        waiting = iter(self.args.models)

        async def work() -> None:
            for model in waiting:  # shared: each takes the next
                await self.run_model(model)

        await asyncio.gather(*(work() for _ in range(self.args.jobs)))

    async def run_model(self, model: str) -> None:
        r"""Trials of one model one after the other, since each learns from those before, then its
        final runs.
        """
        tuner = self.tuners[model]
        seed = self.args.seeds[0]
        while (trial := tuner.ask()) is not None:
            number = len(tuner.finished) + 1
            try:
                record = await self.measure(
                    'tune',
                    self.flags(model, trial.params, self.args.trial_seconds, seed),
                    self.args.trial_seconds,
                )
            except WorkerError as error:
                logger.warning('%s, trial %d of %d failed: %s', model, number, tuner.trials, error)
                tuner.fail(trial, str(error))
                continue
            value = record['validation'][METRIC]
            logger.info(
                '%s, trial %d of %d: %.4f, %s %s',
                model,
                number,
                tuner.trials,
                value,
                trial.params,
                _ended(record),
            )
            tuner.tell(trial, value, record)
        if tuner.best is None:
            self.failures[model] = (
                f'no trial succeeded: {_last_line(tuner.finished[-1].user_attrs["error"])}'
            )
        else:
            settings = dict(tuner.best.params)
            outcomes = await asyncio.gather(
                *(self.final(model, settings, seed) for seed in self.seeds(model))
            )
            if all(outcomes):
                self.finals[model] = dict(zip(self.seeds(model), outcomes))
        self.report()

    def _file(self, model: str, seed: int) -> Path:
        return self.args.state / 'final' / f'{model}-seed{seed}.json'

    def _finished(self, model: str, settings: Settings, seed: int) -> dict[str, Any] | None:
        r"""The final run of a seed, if the state has it with these settings."""
        path = self._file(model, seed)
        found = json.loads(path.read_text()) if path.exists() else {}
        return found if found.get('settings') == settings else None

    async def final(self, model: str, settings: Settings, seed: int) -> dict[str, Any] | None:
        r"""The final run of a seed, from the state if it is there; :obj:`None` if it fails."""
        if (found := self._finished(model, settings, seed)) is not None:
            return found
        try:
            record = await self.measure(
                'final',
                self.flags(model, settings, self.args.final_seconds, seed),
                self.args.final_seconds,
            )
        except WorkerError as error:  # not kept: the next session tries again
            logger.warning('%s, seed %d failed: %s', model, seed, error)
            self.failures[model] = f'seed {seed}: {_last_line(str(error))}'
            return None
        logger.info(
            '%s, seed %d: test %s %.4f %s',
            model,
            seed,
            METRIC,
            record['test'][METRIC],
            _ended(record),
        )
        record['settings'] = settings
        write_json(self._file(model, seed), record)
        return record

    async def measure(self, kind: str, flags: Sequence[str], seconds: float) -> dict[str, Any]:
        r"""Runs ``_trial.py`` as soon as one of the jobs is free.

        Raises:
            WorkerError: If it fails; the message carries the end of its output.
            GenRecError: If somebody else ended it, which says nothing about the setting.
        """
        async with self._slots:
            with tempfile.TemporaryFile(mode='w+', errors='replace') as output:
                # A session of its own: an interruption from the keyboard is for this process, which
                # then ends the others.
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    '-m',
                    TRIAL,
                    kind,
                    *flags,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=output,
                    env=thread_environment(self.args.threads),
                    start_new_session=True,
                )
                try:
                    answer, _ = await asyncio.wait_for(process.communicate(), seconds + GRACE)
                except asyncio.TimeoutError:
                    raise WorkerError(f'took longer than {seconds + GRACE:.0f} s') from None
                finally:
                    if process.returncode is None:
                        process.kill()
                        await process.wait()
                if process.returncode in (-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP):
                    raise GenRecError(
                        f'a run was ended by signal {-process.returncode}; start again to go on'
                    )
                if process.returncode != 0:
                    output.seek(0)
                    raise WorkerError(
                        f'ended with code {process.returncode}:\n{output.read()[-4000:].rstrip()}'
                    )
        return json.loads(answer.decode().splitlines()[-1])

    def report(self) -> None:
        r"""Writes table, JSON and figure of what is done."""
        args = self.args
        rows = {
            model: self.row(model, self.finals[model])
            for model in args.models
            if self.finals[model]
        }
        add_comparisons(rows, self.finals)
        stem = args.output / f'leaderboard-{args.name or args.dataset}'
        protocol = {name: getattr(args, name) for name in (*PROTOCOL, 'trials', 'seeds', 'jobs')}
        document = {
            'machine': self.machine,
            'protocol': protocol,
            'base': BASE,
            'failures': self.failures,
            'models': rows,
        }
        args.output.mkdir(parents=True, exist_ok=True)
        figure = draw(rows, stem.with_name(stem.name + '.svg'))
        write_report(
            stem, document, text(document, args.name or args.dataset, stem.name if figure else None)
        )

    def row(self, model: str, finals: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
        r"""Figures of a model whose runs are all done."""
        tuner = self.tuners[model]
        runs = list(finals.values())
        test = {
            name: mean_and_deviation([run['test'][name] for run in runs])
            for name in (METRIC, f'ndcg@{K}', f'precision@{K}')
        }
        figure = published(self.args.dataset).get(model)
        return {
            'trained': get_model(model).trainable,
            'test': test,
            'validation': mean_and_deviation([run['validation'][METRIC] for run in runs]),
            'epoch_seconds': statistics.median(run['epoch_seconds'] for run in runs),
            'best_seconds': statistics.mean(run['best_seconds'] for run in runs),
            'memory_gb': max(run['memory'] for run in runs) / 1e9,
            'gpu_memory_gb': max(run['gpu_memory'] for run in runs) / 1e9,
            'published': None
            if figure is None
            else {'value': float(figure['value']), 'source': figure['source']},
            'chosen': {
                'settings': tuner.best.params,
                'validation': tuner.best.value,
                'default_validation': tuner.finished[0].value,
            },
            'trials': [
                {
                    'settings': trial.params,
                    'validation': trial.value,
                    'error': trial.user_attrs.get('error'),
                    **{key: trial.user_attrs.get('record', {}).get(key) for key in TRIAL_FIGURES},
                }
                for trial in tuner.finished
            ],
            'runs': {
                seed: {key: value for key, value in run.items() if key not in ('users', 'recall')}
                for seed, run in finals.items()
            },
        }


def _ended(record: Mapping[str, Any]) -> str:
    if record['stopped'] is None:
        return f'({record["setup"]:.1f} s)'
    return (
        f'({record["train_seconds"]:.0f} s, {record["epochs"]} epochs, '
        f'{"cut" if record["stopped"] == "time" else "ended"})'
    )


def _last_line(message: str) -> str:
    return message.rstrip().splitlines()[-1]


@contextmanager
def only_session(folder: Path) -> Iterator[None]:
    r"""Refuses a second session on the same state, which would take the runs of the first for
    abandoned ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / 'lock').open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f'--state: {folder} is in use by another session; accepted is another folder'
            ) from error
        yield


def parse(argv: Sequence[str]) -> argparse.Namespace:
    r"""Flags of the command line.

    Raises:
        ConfigError: On a value that is not accepted.
    """
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument('--root', help='folder of the datasets (default: $GENREC_DATA, else data)')
    parser.add_argument('--dataset', default='tiktok')
    parser.add_argument('--modalities', nargs='+', help='NAME or NAME=FILE; all by default')
    parser.add_argument(
        '--models',
        nargs='+',
        default=[name for name in MODELS if not MODELS[name].needs_time],
        metavar='MODEL',
        help='all that need no times by default',
    )
    parser.add_argument(
        '--trials', type=int, default=TRIALS, help='settings tried per model, the default included'
    )
    parser.add_argument(
        '--trial_seconds',
        type=float,
        default=TRIAL_SECONDS,
        help='largest training time of a trial',
    )
    parser.add_argument(
        '--final_seconds',
        type=float,
        default=FINAL_SECONDS,
        help='largest training time of a final run',
    )
    parser.add_argument(
        '--seeds',
        type=int,
        nargs='+',
        default=[0, 1, 2],
        help='of the final runs; trials use the first',
    )
    parser.add_argument('--sampler_seed', type=int, default=0, help="seed of Optuna's sampler")
    parser.add_argument(
        '--patience',
        type=int,
        default=20,
        help='validations without a better one before a run ends',
    )
    parser.add_argument(
        '--jobs', type=int, default=2, help='runs at a time; 1 where times on a GPU matter'
    )
    parser.add_argument('--threads', type=int, default=1, help='threads of a run')
    parser.add_argument('--device', default='auto')
    parser.add_argument(
        '--bf16',
        nargs='*',
        default=[],
        metavar='MODEL',
        help='models of dense products, trained with these in bfloat16 so that their seconds hold '
        'more epochs',
    )
    parser.add_argument(
        '--state', type=Path, help='folder of what is done (default: runs/leaderboard-NAME)'
    )
    parser.add_argument('--output', type=Path, default=RESULTS, help='folder of the report')
    parser.add_argument('--name', help='name of the report, the dataset by default')
    parser.add_argument('--debug', action='store_true', help='show tracebacks')
    args = parser.parse_args(argv)
    for model in (*args.models, *args.bf16):
        get_model(model)
    for name in ('models', 'seeds'):
        if len(set(getattr(args, name))) < len(getattr(args, name)):
            raise ConfigError(f'--{name}: got {getattr(args, name)}, accepted are different ones')
    for name in ('trials', 'jobs', 'threads', 'trial_seconds', 'final_seconds', 'patience'):
        if not getattr(args, name) > 0:
            raise ConfigError(f'--{name}: got {getattr(args, name)}, accepted are positive numbers')
    args.state = args.state or Path('runs') / f'leaderboard-{args.name or args.dataset}'
    return args


def leaderboard(argv: Sequence[str]) -> None:
    r"""Brings the table to its end.

    Raises:
        ConfigError: On bad flags, a missing package or a state of another protocol.
        GenRecError: If a model is missing in the table at the end.
    """
    args = parse(argv)
    require_optuna().logging.set_verbosity(logging.WARNING)
    if importlib.util.find_spec('matplotlib') is None:
        logger.warning(
            'matplotlib is not installed: the report will have no figure (pip install '
            'genrec_pyg[benchmarks])'
        )
    with only_session(args.state):
        board = Board(args)
        logger.info('at most %.1f hours of training to come', board.most_seconds / args.jobs / 3600)
        asyncio.run(board.run())
        if board.failures:
            raise GenRecError(
                '; '.join(
                    f'{model} is missing: {failure}' for model, failure in board.failures.items()
                )
            )


def main(argv: Sequence[str] | None = None) -> int:
    r"""Entry point; returns the exit code."""
    logger.setLevel(logging.INFO)
    return run_command(leaderboard, argv)


if __name__ == '__main__':
    sys.exit(main())
