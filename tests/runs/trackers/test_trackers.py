"""Trackers of this package and of others, alone and in trainings and searches."""

import json
import sys
import time
import types

import pytest
from helpers.trainer_cases import QUIET, Factors

from genrec_pyg.exceptions import ConfigError, GenRecError
from genrec_pyg.runs.history import History
from genrec_pyg.runs.trackers import TrackedRun, Trackers, flat_figures, make_tracker
from genrec_pyg.training import Trainer

RECORDING = 'helpers.recording_tracker:Recording'


@pytest.fixture
def calls(tmp_path, monkeypatch):
    path = tmp_path / 'calls.jsonl'
    monkeypatch.setenv('RECORDING', str(path))
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def started(name, folder, done=0, group=None):
    trackers = Trackers({name: make_tracker(name)})
    trackers.start(TrackedRun('run', folder, {'trainer.lr': '0.1'}, group, done))
    return trackers


def test_figures_are_named_by_their_path():
    record = {
        'epoch': 3,
        'selection': 'x',
        'val': {'recall@20': 0.5},
        'loss': {'bpr': 1},
        'refined': {},
        'on': True,
    }
    assert flat_figures(record) == {'val/recall@20': 0.5, 'loss/bpr': 1.0}


def test_a_training_is_told_from_start_to_end(demo_data, tmp_path, calls):
    trainer = Trainer(epochs=2, output=tmp_path / 'mine', trackers=[RECORDING], **QUIET)
    result = trainer.fit(Factors(demo_data), demo_data)
    start, *logs, summary, close = calls()
    assert start[:4] == ['start', 'mine', None, 0] and start[4]['trainer.batch_size'] == '32'
    assert start[4]['model'] == 'Factors' and [log[1] for log in logs] == [0, 1]
    assert logs[1][2]['val/recall@20'] == result.history[1]['val']['recall@20']
    assert summary[1]['test/recall@20'] == result.test['recall@20'] and close == ['close', False]
    assert not (tmp_path / 'mine' / 'tensorboard').exists()


def test_an_error_ends_the_run_as_failed(demo_data, tmp_path, calls):
    trainer = Trainer(epochs=2, lr=1e30, output=tmp_path / 'run', trackers=[RECORDING], **QUIET)
    with pytest.raises(GenRecError):
        trainer.fit(Factors(demo_data), demo_data)
    assert calls()[-1] == ['close', True]


def test_a_resumed_training_says_where_it_stands(demo_data, tmp_path, calls):
    options = dict(output=tmp_path / 'run', trackers=[RECORDING], **QUIET)
    Trainer(epochs=2, **options).fit(Factors(demo_data), demo_data)
    Trainer(epochs=3, **options).fit(Factors(demo_data), demo_data, resume=True)
    starts = [call for call in calls() if call[0] == 'start']
    assert [call[3] for call in starts] == [
        0,
        1,
    ]  # the last epoch is logged once more, now not the last
    assert [call[1] for call in calls() if call[0] == 'log'] == [0, 1, 1, 2]


def test_without_a_folder_nobody_is_told(demo_data, calls, tmp_path):
    Trainer(epochs=1, trackers=[RECORDING], **QUIET).fit(Factors(demo_data), demo_data)
    assert not (tmp_path / 'calls.jsonl').exists()


@pytest.mark.parametrize(
    'name,message',
    [
        ('mlfow', 'accepted are mlflow, tensorboard, wandb or package.module:Class'),
        (
            'helpers.recording_tracker:Half',
            'a class with the methods start, log, summarize and close',
        ),
        ('helpers.recording_tracker:Absent', 'cannot be imported'),
    ],
)
def test_wrong_names_are_refused_before_anything_is_trained(name, message):
    with pytest.raises(ConfigError, match=f'trackers: got {name!r}.*{message}'):
        Trainer(trackers=[name])


@pytest.mark.parametrize('name', ['mlflow', 'wandb'])
def test_a_tracker_that_is_not_installed_is_refused_by_name(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=f'trackers: got {name!r}.*pip install {name}'):
        started(name, tmp_path)


def test_tensorboard_writes_events(tmp_path):
    pytest.importorskip('tensorboard')
    history = History(tmp_path, 0, started('tensorboard', tmp_path))
    history.append({'epoch': 0, 'val': {'recall@20': 0.5}})
    history.close()
    assert list((tmp_path / 'tensorboard').glob('events*'))


@pytest.mark.parametrize(
    'error',
    [
        'TypeError("Descriptors cannot be created directly.")',
        'AttributeError("distutils")',
        'RuntimeError',
        'ImportError("no protobuf")',
    ],
)
def test_a_broken_tensorboard_stops_nothing(tmp_path, monkeypatch, caplog, error):
    (tmp_path / 'path' / 'tensorboard').mkdir(parents=True)
    (tmp_path / 'path' / 'tensorboard' / '__init__.py').write_text(f'raise {error}')
    for name in [
        name
        for name in sys.modules
        if name.split('.')[0] == 'tensorboard' or 'utils.tensorboard' in name
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path / 'path'))
    caplog.set_level('INFO')
    with History(tmp_path, 0, started('tensorboard', tmp_path)) as history:
        history.append({'epoch': 0, 'val': {'recall@20': 0.5}})
    assert json.loads((tmp_path / 'metrics.jsonl').read_text()) == {
        'epoch': 0,
        'val': {'recall@20': 0.5},
    }
    assert 'tensorboard' in caplog.text.lower()
    assert 'ImportError' in error or error.partition('(')[0] in caplog.text


@pytest.mark.parametrize('broken', ['add_scalar', 'close'])
def test_a_tracker_that_breaks_later_stops_nothing(tmp_path, monkeypatch, caplog, broken):
    def fail(*arguments):
        raise OSError('no space left')

    methods = {
        '__init__': lambda self, *a, **k: None,
        'add_scalar': lambda *a: None,
        'close': lambda self: None,
        broken: fail,
    }
    module = types.ModuleType('torch.utils.tensorboard')
    module.SummaryWriter = type('SummaryWriter', (), methods)
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', module)
    with History(tmp_path, 0, started('tensorboard', tmp_path)) as history:
        for epoch in range(2):
            history.append({'epoch': epoch, 'seconds': 1.0})
    assert len((tmp_path / 'metrics.jsonl').read_text().splitlines()) == 2
    assert (
        len(caplog.messages) == 1
        and 'tensorboard does not work (OSError: no space left)' in caplog.text
    )


def test_mlflow_has_figures_settings_and_the_state(tmp_path, monkeypatch):
    mlflow = pytest.importorskip(
        'mlflow', reason='MLFLOW IS NOT INSTALLED: its tracker is not tested'
    )
    monkeypatch.setenv('MLFLOW_TRACKING_URI', (tmp_path / 'mlruns').as_uri())
    monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
    monkeypatch.setattr(
        mlflow.tracking._tracking_service.utils, '_tracking_uri', None, raising=False
    )
    trackers = started('mlflow', tmp_path / 'run', group='search')
    trackers.log({'val/recall@20': 0.25, 'loss/bpr': 1.5}, 0)
    trackers.log({'val/recall@20': 0.5}, 1)
    trackers.close(failed=True)
    client = mlflow.MlflowClient((tmp_path / 'mlruns').as_uri())
    identity = json.loads((tmp_path / 'run' / 'trackers.json').read_text())['mlflow']
    found = client.get_run(identity)
    assert found.info.status == 'FAILED' and found.data.params == {'trainer.lr': '0.1'}
    assert found.data.tags['search'] == 'search' and found.info.run_name == 'run'
    history = client.get_metric_history(identity, 'val/recall_20')
    assert [(entry.step, entry.value) for entry in history] == [(0, 0.25), (1, 0.5)]
    again = started('mlflow', tmp_path / 'run', done=2)
    again.summarize({'test/recall@20': 0.75})
    again.close()
    found = client.get_run(identity)
    assert found.info.status == 'FINISHED' and found.data.metrics['final/test/recall_20'] == 0.75
    experiment = client.get_experiment_by_name('genrec_pyg')
    assert len(client.search_runs([experiment.experiment_id])) == 1


@pytest.mark.slow
def test_wandb_writes_a_run_offline(tmp_path, monkeypatch, caplog):
    pytest.importorskip('wandb', reason='WANDB IS NOT INSTALLED: its tracker is not tested')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    for name in ('WANDB_CACHE_DIR', 'WANDB_CONFIG_DIR', 'WANDB_DATA_DIR'):
        monkeypatch.setenv(name, str(tmp_path / 'wandb-home'))
    trackers = started('wandb', tmp_path / 'run', group='search')
    trackers.log({'val/recall@20': 0.25}, 0)
    trackers.summarize({'test/recall@20': 0.75})
    trackers.close()
    assert caplog.messages == []
    (written,) = (tmp_path / 'run' / 'wandb').glob('offline-run-*')
    identity = json.loads((tmp_path / 'run' / 'trackers.json').read_text())['wandb']
    assert identity in written.name
    file = next(written.glob('*.wandb'))
    for _ in range(100):  # its own process flushes the file a moment after the end of the run
        if b'final/test/recall@20' in file.read_bytes():
            break
        time.sleep(0.2)
    content = file.read_bytes()
    assert all(
        name in content for name in (b'val/recall@20', b'final/test/recall@20', b'trainer.lr')
    )


@pytest.mark.slow
def test_every_trial_of_a_search_is_a_run(tmp_path, monkeypatch, calls):
    pytest.importorskip('optuna')
    from genrec_pyg.tune import main as tune

    monkeypatch.chdir(tmp_path)
    flags = ['--model', 'MFBPR', '--epochs', '1', '--trials', '5', '--device', 'cpu']
    assert tune([*flags, '--trainer.trackers', f'[{RECORDING}]', '--output', 'study']) == 0
    starts = [call for call in calls() if call[0] == 'start']
    assert [call[1] for call in starts] == [f'study-{number}' for number in range(5)]
    assert {call[2] for call in starts} == {'study'} and len(
        {call[4]['trainer.lr'] for call in starts}
    ) > 1
    assert [call for call in calls() if call[0] == 'close'] == [['close', False]] * 5
