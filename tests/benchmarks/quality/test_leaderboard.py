import asyncio
import contextlib
import functools
import json
import os
import re
import time

import numpy as np
import pytest

from benchmarks.common.worker import WorkerError

pytest.importorskip('optuna')

from benchmarks.common import trial
from benchmarks.quality import leaderboard
from genrec_pyg.config import parse_train_arguments
from genrec_pyg.evaluation import holm, paired_comparison
from genrec_pyg.exceptions import GenRecError
from genrec_pyg.nn.models import MODELS, get_model
from genrec_pyg.tuning import search_space, setting_flags

CHOSEN = ('GenRec', 'LightGCN', 'EASE', 'Popularity')


MACHINE = leaderboard.machine(1)


class Interrupted(BaseException):
    """Ends a session in the middle of a run."""


#: Reading a space builds a parser, which takes longer than all else in a session.
spaces = functools.cache(search_space)


class Runs:
    """Stands for the processes: figures that follow from the flags alone, and a list of what was
    asked for.
    """

    def __init__(self, limit=None, failing=lambda kind, model, settings: False):
        self.limit, self.failing, self.done = limit, failing, []

    async def __call__(self, board, kind, flags, seconds):
        if len(self.done) == self.limit:
            raise Interrupted
        given = dict(zip(flags[::2], flags[1::2]))
        model, seed = given['--model'], int(given['--seed'])
        settings = {name: given[f'--{name}'] for name in spaces(model, 'demo')[0]}
        self.done.append((kind, model, seed, settings, flags))
        if self.failing(kind, model, settings):
            raise WorkerError('ended with code 1:\nTraceback\nerror: loss became nan')
        value = (
            0.1 + 0.01 * CHOSEN.index(model) + 1 / (1000 + 1000 * sum(map(len, settings.values())))
        )
        figures = {
            'recall@20': value + seed / 1000,
            'ndcg@20': value / 2,
            'precision@20': value / 20,
        }
        trained = get_model(model).trainable
        record = {
            'validation': figures,
            'epoch': 4 if trained else -1,
            'epochs': 5 if trained else 0,
            'stopped': ('time' if kind == 'tune' else 'patience') if trained else None,
            'setup': 0.5,
            'epoch_seconds': 2.0,
            'evaluation_seconds': 1.0,
            'train_seconds': 15.0,
            'best_seconds': 15.5,
            'memory': 2_000_000_000,
            'gpu_memory': 0,
        }
        if kind == 'final':
            hits = np.random.default_rng(CHOSEN.index(model)).random(40) < value
            record.update(test=figures, users=list(range(40)), recall=hits.astype(float).tolist())
        return record

    def of(self, kind, model):
        return [run for run in self.done if run[:2] == (kind, model)]


def given(settings):
    flags = setting_flags(settings)
    return {flag.removeprefix('--'): value for flag, value in zip(flags[::2], flags[1::2])}


@pytest.fixture
def session(monkeypatch, tmp_path):
    """Runs a session on the demo data; returns its exit code and the runs it asked for."""

    def run(*flags, limit=None, folder='state', failing=lambda *args: False):
        runs = Runs(limit, failing)
        monkeypatch.setattr(leaderboard.Board, 'measure', lambda *args: runs(*args))
        monkeypatch.setattr(leaderboard, 'search_space', spaces)
        monkeypatch.setattr(leaderboard, 'machine', lambda threads: MACHINE)
        monkeypatch.setattr(leaderboard, 'draw', lambda rows, path: False)
        code = leaderboard.main(
            [
                '--dataset',
                'demo',
                '--models',
                *CHOSEN,
                '--trials',
                '3',
                '--jobs',
                '1',
                '--state',
                str(tmp_path / folder),
                '--output',
                str(tmp_path / folder),
                *flags,
            ]
        )
        return code, runs

    return run


def test_one_budget_for_all_models_and_the_default_first(session, tmp_path):
    code, runs = session()
    assert code == 0
    for model, trials, seeds in (
        ('GenRec', 3, 3),
        ('LightGCN', 3, 3),
        ('EASE', 3, 1),
        ('Popularity', 1, 1),
    ):
        tried, final = runs.of('tune', model), runs.of('final', model)
        assert (len(tried), [run[2] for run in final]) == (trials, list(range(seeds))), model
        assert tried[0][3] == given(spaces(model, 'demo')[1])
        assert len({json.dumps(run[3]) for run in tried}) == trials
        assert {json.dumps(run[3]) for run in final} <= {json.dumps(run[3]) for run in tried}
    for kind, seconds in (
        ('tune', leaderboard.TRIAL_SECONDS),
        ('final', leaderboard.FINAL_SECONDS),
    ):
        budget = [
            '--trainer.patience',
            '20',
            '--trainer.eval_every',
            '1',
            '--trainer.max_seconds',
            str(seconds),
        ]
        assert all(' '.join(budget) in ' '.join(run[4]) for run in runs.done if run[0] == kind)
        config = parse_train_arguments(runs.of(kind, 'LightGCN')[-1][4]).config
        assert (config.trainer['max_seconds'], config.epochs, config.protocol) == (
            seconds,
            leaderboard.EPOCHS,
            'validation',
        )
    document = json.loads((tmp_path / 'state' / 'leaderboard-demo.json').read_text())
    light = document['models']['LightGCN']
    assert given(light['chosen']['settings']) == runs.of('final', 'LightGCN')[0][3]
    assert light['chosen']['validation'] == max(trial['validation'] for trial in light['trials'])
    assert 'recall' not in light['runs']['0'] and light['runs']['2']['epoch'] == 4
    assert not any('test' in trial for trial in light['trials'])
    text = (tmp_path / 'state' / 'leaderboard-demo.md').read_text()
    assert '| LightGCN | 3 (3) | 3 (0) |' in text and '| Popularity | 1 (0) | 1 (0) |' in text


def test_an_interrupted_session_goes_on_where_it_stopped(session, tmp_path):
    def models(folder):
        return json.loads((tmp_path / folder / 'leaderboard-demo.json').read_text())['models']

    whole = session(folder='whole')[1]
    asked = [run[:4] for run in whole.done]
    for limit in (1, 4, 8):
        folder = f'state{limit}'
        with pytest.raises(Interrupted):
            session(folder=folder, limit=limit)
        code, rest = session(folder=folder)
        assert code == 0 and [run[:4] for run in rest.done] == asked[limit:]
        assert models(folder) == models('whole')
    code, nothing = session(folder='whole')
    assert code == 0 and nothing.done == [] and models('whole') == models('state1')


def test_chosen_models_train_in_bfloat16(session, tmp_path):
    _, runs = session('--bf16', 'LightGCN')
    for model, precision in (('LightGCN', 'bf16'), ('GenRec', 'float32')):
        for kind in ('tune', 'final'):
            assert {
                parse_train_arguments(run[4]).config.trainer['precision']
                for run in runs.of(kind, model)
            } == {precision}
    assert (
        'LightGCN: products in bfloat16' in (tmp_path / 'state' / 'leaderboard-demo.md').read_text()
    )


def test_seconds_to_come_are_those_of_missing_runs(session, caplog):
    def hours(limit=None):
        caplog.clear()
        with contextlib.suppress(Interrupted):
            session('--trial_seconds', '360', '--final_seconds', '720', limit=limit)
        return re.search(r'at most ([0-9.]+) hours', caplog.text).group(1)

    # GenRec and LightGCN: 3 trials of 0.1 hours and 3 final runs of 0.2 hours each, one after the
    # other.
    assert [hours(limit) for limit in (0, 4, None)] == ['1.8', '1.8', '1.3'] and hours() == '0.0'


def test_more_trials_and_models_extend_a_table(session):
    session('--models', 'GenRec', 'EASE', '--trials', '2')
    code, runs = session('--models', 'GenRec', 'EASE', 'LightGCN', '--trials', '3')
    assert code == 0
    assert [len(runs.of('tune', model)) for model in ('GenRec', 'EASE', 'LightGCN')] == [1, 1, 3]
    code, runs = session('--models', 'EASE', '--trials', '3', '--seeds', '5')
    assert [run[:3] for run in runs.done] == [('final', 'EASE', 5)]


def test_jobs_share_the_models(session):
    runs = session('--jobs', '3')[1]
    assert sorted(run[:3] for run in runs.done) == sorted(
        run[:3] for run in session(folder='one')[1].done
    )


def test_a_failed_trial_counts_and_is_not_repeated(session, tmp_path, capsys):
    default = given(spaces('LightGCN', 'demo')[1])
    code, runs = session(failing=lambda kind, model, settings: settings == default)
    assert code == 0 and len(runs.of('tune', 'LightGCN')) == 3
    row = json.loads((tmp_path / 'state' / 'leaderboard-demo.json').read_text())['models'][
        'LightGCN'
    ]
    assert 'loss became nan' in row['trials'][0]['error'] and row['trials'][0]['validation'] is None
    assert '| failed |' in (tmp_path / 'state' / 'leaderboard-demo.md').read_text()
    assert session()[1].done == []


def test_a_model_that_cannot_be_measured_is_named(session, tmp_path, capsys):
    code, runs = session(
        failing=lambda kind, model, settings: (
            model == 'EASE' or (kind, model) == ('final', 'LightGCN')
        )
    )
    assert code == 1
    text = (tmp_path / 'state' / 'leaderboard-demo.md').read_text()
    assert (
        'EASE is missing: no trial succeeded: error: loss became nan.' in text
        and '| Popularity |' in text
    )
    assert 'LightGCN is missing: seed' in capsys.readouterr().err
    code, runs = session()  # what was not measured in the end is tried again, trials are not
    assert code == 1 and [run[:2] for run in runs.done] == [('final', 'LightGCN')] * 3


@pytest.mark.parametrize(
    'flags,message',
    [
        (['--trials', '0'], '--trials: got 0, accepted are positive'),
        (['--jobs', '-1'], '--jobs: got -1'),
        (['--trial_seconds', '0'], '--trial_seconds: got 0.0'),
        (['--final_seconds', 'nan'], '--final_seconds: got nan'),
        (['--patience', '0'], '--patience: got 0'),
        (['--seeds', '1', '1'], r'--seeds: got [1, 1], accepted are different'),
        (['--models', 'EASE', 'EASE'], "--models: got ['EASE', 'EASE']"),
        (['--models', 'Nothing'], "model: got 'Nothing', accepted are GenRec"),
        (['--bf16', 'Nothing'], "model: got 'Nothing', accepted are GenRec"),
        (['--dataset', 'nowhere'], "dataset: got 'nowhere'"),
        (['--modalities', 'smell'], 'smell'),
        (['--bogus'], 'unrecognized arguments: --bogus'),
    ],
)
def test_bad_flags_are_named(session, capsys, flags, message):
    code, runs = session(*flags)
    assert code == 2 and message in capsys.readouterr().err and runs.done == []


def test_a_state_of_another_protocol_is_refused(session, capsys, tmp_path):
    session()
    for flags, message in (
        (['--trial_seconds', '5'], '--trial_seconds: got 5.0, but'),
        (['--modalities', 'image'], "--modalities: got ['image'], but"),
        (['--sampler_seed', '1'], '--sampler_seed: got 1'),
        (['--bf16', 'GenRec'], "--bf16: got ['GenRec'], but"),
    ):
        code, runs = session(*flags)
        assert code == 2 and message in capsys.readouterr().err and runs.done == []
    path = tmp_path / 'state' / 'protocol.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'graph': 'other'}))
    assert (
        session()[0] == 2 and 'was begun on other data than demo has now' in capsys.readouterr().err
    )
    with leaderboard.only_session(tmp_path / 'state'):
        assert session()[0] == 2 and 'in use by another session' in capsys.readouterr().err


def test_all_models_without_times_by_default():
    assert leaderboard.parse([]).models == [name for name in MODELS if not MODELS[name].needs_time]


def test_comparison_averages_the_seeds_of_the_same_users(session, tmp_path, monkeypatch):
    session()
    finals = {
        path.stem: json.loads(path.read_text()) for path in (tmp_path / 'state' / 'final').iterdir()
    }
    recall = {
        model: np.mean(
            [run['recall'] for name, run in finals.items() if name.startswith(model)], axis=0
        )
        for model in CHOSEN
    }
    rows = json.loads((tmp_path / 'state' / 'leaderboard-demo.json').read_text())['models']
    raw = {}
    for model in CHOSEN[1:]:
        expected = paired_comparison(recall[model], recall['GenRec'])
        assert rows[model]['comparison']['difference'] == expected.difference
        raw[model] = expected.p
    assert {model: rows[model]['comparison']['p_corrected'] for model in raw} == holm(raw)
    assert 'comparison' not in rows['GenRec']
    path = tmp_path / 'state' / 'final' / 'EASE-seed0.json'
    path.write_text(json.dumps({**finals['EASE-seed0'], 'users': list(range(1, 41))}))
    assert session()[0] == 1


@pytest.mark.parametrize('model', ['MFBPR', 'Popularity'])
def test_a_run_is_measured(model):
    flags = [
        '--model',
        model,
        '--dataset',
        'demo',
        '--device',
        'cpu',
        '--trainer.max_seconds',
        '0.3',
        '--seed',
        '3',
    ]
    tried, final = trial.measure(flags), trial.measure(flags, final=True)
    assert 'test' not in tried and 'recall' not in tried
    assert np.mean(final['recall']) == pytest.approx(final['test']['recall@20'], abs=1e-12)
    assert len(final['users']) == final['test']['num_users'] and final['memory'] > 1e8
    if model == 'Popularity':
        assert (final['stopped'], final['epoch'], final['train_seconds']) == (None, -1, 0.0)
        assert final['best_seconds'] == final['setup'] > 0
    else:
        assert final['stopped'] == 'time' and final['epoch'] < final['epochs']
        assert final['setup'] < final['best_seconds'] <= final['setup'] + final['train_seconds']
        assert (
            final['epoch_seconds'] > 0
            and final['evaluation_seconds'] > 0
            and final['train_seconds'] >= 0.3
        )


SCRIPT = """
import json, os, signal, sys, time
kind, mode = sys.argv[1:3]
if mode == 'terminated':
    os.kill(os.getpid(), signal.SIGTERM)
if mode == 'fails':
    sys.exit('error: cannot go on')
if mode == 'sleeps':
    open(sys.argv[3], 'w').write(str(os.getpid()))
    time.sleep(60)
print('noise', file=sys.stderr)
print('noise')
print(json.dumps({'kind': kind, 'threads': os.environ['OMP_NUM_THREADS']}))
"""


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Measures with a script that answers at once."""
    (tmp_path / 'trial_under_test.py').write_text(SCRIPT)
    monkeypatch.setattr(leaderboard, 'TRIAL', 'trial_under_test')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=os.pathsep)

    async def run(*flags, seconds=30.0, cancel=None):
        board = leaderboard.Board.__new__(leaderboard.Board)
        board.args, board._slots = leaderboard.parse(['--threads', '3']), asyncio.Semaphore(1)
        task = asyncio.create_task(board.measure('tune', flags, seconds))
        while cancel is not None and not (cancel.exists() and cancel.read_text()):
            await asyncio.sleep(0.01)
        if cancel is not None:
            task.cancel()
        return await task

    return lambda *flags, **options: asyncio.run(run(*flags, **options))


def test_runs_in_processes(measure, monkeypatch, tmp_path):
    assert measure('works') == {'kind': 'tune', 'threads': '3'}
    with pytest.raises(WorkerError, match=r'ended with code 1:\nerror: cannot go on'):
        measure('fails')
    with pytest.raises(GenRecError, match='ended by signal 15; start again'):
        measure('terminated')
    monkeypatch.setattr(leaderboard, 'GRACE', 0.0)
    with pytest.raises(WorkerError, match='took longer than 0 s'):
        measure('sleeps', str(tmp_path / 'pid'), seconds=0.3)


def test_an_interruption_ends_the_processes(measure, tmp_path):
    start, path = time.monotonic(), tmp_path / 'pid'
    with pytest.raises(asyncio.CancelledError):
        measure('sleeps', str(path), cancel=path)
    assert time.monotonic() - start < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.read_text()), 0)


def test_a_missing_optuna_is_said_at_once(session, monkeypatch, capsys):
    from genrec_pyg.tuning import study as tuning

    load = tuning.importlib.import_module

    def absent(name, *args):
        if name.startswith('optuna'):
            raise ImportError(name)
        return load(name, *args)

    monkeypatch.setattr(tuning.importlib, 'import_module', absent)
    assert session()[0] == 2 and 'pip install genrec_pyg[tuning]' in capsys.readouterr().err
